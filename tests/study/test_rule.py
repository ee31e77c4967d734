"""How verdicts on pairs answer a claim."""

import pytest

from sightline.study._rule import answer


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (["fail pass", "fail pass", "fail pass", "pass pass"], "holds"),
        (["fail pass", "fail pass", "pass pass"], "mixed"),
        (["fail pass", "pass pass", "pass pass", "pass fail"], "does not hold"),
        (["fail pass", "fail fail", "undecided pass"], "undecided"),
        (["fail pass", "fail fail"], "holds"),
        (["fail fail"], "undecided"),
        ([], "undecided"),
    ],
)
def test_the_answer_follows_the_share_of_pairs(pairs: list[str], expected: str) -> None:
    verdicts = {
        f"{side}{i}": said for i, pair in enumerate(pairs) for side, said in zip("ps", pair.split(), strict=True)
    }
    assert answer(verdicts, [(f"p{i}", f"s{i}") for i in range(len(pairs))]) == expected


def test_a_refused_method_leaves_its_pair_undecided() -> None:
    assert answer({"grad_cam": "pass"}, [("grad_cam_positive", "grad_cam")]) == "undecided"
