"""What a fit is given: images, labels of every kind, outputs of every kind; and whether labels and network agree."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

import sightline as sl
from sightline.gad._samples import samples_of
from sightline.gad._survey import Outputs, agreement, doubts, survey

CLASSES = (3, 1)
TITLES = ("cat", "dog")
IMAGES = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
NUMBERS = torch.tensor([3, 1, 0] * 4)
WORDS = ["cat", "dog", "fox"] * 4


def network(outputs: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs)
    ).eval()


class Items(Dataset[Any]):
    """Items of any kind, with what an `ImageFolder` knows beside."""

    def __init__(self, images: Any, labels: Any, **known: Any) -> None:
        self.images, self.labels = images, labels
        vars(self).update(known)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> Any:
        return self.images[number], self.labels[number]


def labels_of(data: Any, **more: Any) -> list[int]:
    samples = samples_of(data, CLASSES, **more)
    return torch.cat([labels for _, labels in samples.batches([[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]])]).tolist()


@pytest.mark.parametrize(
    "labels",
    [NUMBERS, NUMBERS.tolist(), NUMBERS.numpy(), NUMBERS.byte(), NUMBERS[:, None], torch.eye(5)[NUMBERS],
     torch.eye(5)[NUMBERS].bool(), np.eye(5, dtype=int)[NUMBERS.numpy()]],
)  # fmt: skip
def test_numbers_and_one_hot_rows(labels: Any) -> None:
    assert labels_of((IMAGES, labels)) == NUMBERS.tolist()
    assert labels_of(Items(IMAGES, labels)) == NUMBERS.tolist()


def test_names_become_numbers_in_any_data() -> None:
    expected = [{3: 3, 1: 1}.get(number, -1) for number in NUMBERS.tolist()]
    dataset = Items(IMAGES, WORDS)
    for data in (
        (IMAGES, WORDS),
        (IMAGES, np.array(WORDS)),
        dataset,
        DataLoader(dataset, 5),
        Subset(dataset, range(12)),
    ):
        assert labels_of(data, names=("cat", "dog")) == expected
        assert labels_of(data, class_names=["owl", "dog", "rat", "cat"]) == expected
        with pytest.raises(sl.InputError, match="names="):
            labels_of(data)
    assert labels_of((IMAGES, WORDS), names=("dog", "cat")) == [{3: 1, 1: 3}.get(n, -1) for n in NUMBERS.tolist()]
    with pytest.raises(sl.InputError, match=r"'cow'.*cat"):
        labels_of((IMAGES, WORDS), names=("cat", "cow"))
    for names in (("cat",), ("cat", "cat"), "cat"):
        with pytest.raises(sl.InputError, match="two labels"):
            labels_of((IMAGES, WORDS), names=names)


def test_names_say_what_the_numbers_of_an_image_folder_mean() -> None:
    # In alphabetical order: cat 0, dog 1, fox 2, whatever the network's outputs are.
    folder = Items(IMAGES, [0, 1, 2] * 4, classes=["cat", "dog", "fox"])
    expected = [3, 1, -1] * 4
    assert labels_of(folder, names=("cat", "dog")) == expected
    assert labels_of(DataLoader(Subset(folder, range(12)), 5), names=("cat", "dog")) == expected
    # Whoever changes the numbers has made outputs of them already.
    changed = Items(IMAGES, NUMBERS.tolist(), classes=["cat", "dog", "fox"], target_transform=lambda i: [3, 1, 0][i])
    assert labels_of(changed, names=("cat", "dog")) == NUMBERS.tolist()
    with pytest.raises(sl.InputError, match="names 3 classes"):
        labels_of(Items(IMAGES, [7] * 12, classes=["cat", "dog", "fox"]), names=("cat", "dog"))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (torch.rand(12), "whole numbers"),
        (torch.rand(12, 5), "one-hot"),
        (0.7 * torch.eye(5)[NUMBERS], "one-hot"),
        (torch.ones(12, 5), "one-hot"),
        (NUMBERS[:7], r"\(7,\)"),
        ([None] * 12, "names="),
    ],
)
def test_other_labels_are_refused(labels: Any, said: str) -> None:
    with pytest.raises(sl.InputError, match=said):
        samples_of((IMAGES, labels), CLASSES)


def test_images_of_several_sizes_are_told_in_plain_words() -> None:
    images = [image[:, : 6 + number % 2] for number, image in enumerate(IMAGES)]
    for data in (Items(images, NUMBERS), (images, NUMBERS), DataLoader(Items(images, NUMBERS), 4)):
        with pytest.raises(sl.InputError, match=r"one size.*\(3, 6, 8\) and \(3, 7, 8\).*transform"):
            sl.GAD(network(), CLASSES, (1,), steps=1).fit(data)
    expected = labels_of((IMAGES, NUMBERS))
    assert labels_of((list(IMAGES), NUMBERS)) == labels_of((IMAGES.numpy(), NUMBERS.numpy())) == expected
    # Two items are a dataset, not a pair.
    assert len(samples_of([(IMAGES[0], 3), (IMAGES[1], 1)], CLASSES)) == 2


def test_a_single_output_is_told_what_to_become() -> None:
    with pytest.raises(sl.InputError, match=r"single output.*torch\.cat"):
        sl.GAD(network(1), (0, 1), (1,), steps=1).fit((IMAGES, NUMBERS % 2))


class Two(nn.Module):
    """Class scores beside features that look like them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"scores": self.inner(x), "features": x.mean((2, 3))}


def test_a_function_says_which_output_holds_the_scores(tmp_path: Path) -> None:
    plain, several = network(), Two().eval()
    with pytest.raises(sl.RefusalError, match=r"fit\(\.\.\., target="):
        sl.GAD(several, CLASSES, (1,), steps=1).fit((IMAGES, NUMBERS))

    def scores(output: dict[str, Tensor]) -> Tensor:
        return output["scores"]

    expected = sl.GAD(plain, CLASSES, (1,), steps=4, rate=0.01).fit((IMAGES, NUMBERS), controls=False)
    gad = sl.GAD(several, CLASSES, (1,), steps=4, rate=0.01).fit((IMAGES, NUMBERS), controls=False, target=scores)
    assert gad.report["error"].tolist() == expected.report["error"].tolist()
    wanted = expected.explain(IMAGES[:2], "gradient")["gradient"]
    assert torch.equal(gad.explain(IMAGES[:2], "gradient")["gradient"], wanted)
    assert isinstance(several(IMAGES), dict)
    assert set(gad.model.state_dict()) == set(several.state_dict())
    gad.save(tmp_path)
    again = sl.GAD.load(tmp_path, several, target=scores)
    assert torch.equal(again.explain(IMAGES[:2], "gradient")["gradient"], wanted)
    for model, target, said in ((several, None, "fitted with target="), (several, "scores", "must be a function")):
        with pytest.raises(sl.InputError, match=said):
            sl.GAD.load(tmp_path, model, target=target)
    squeezed = nn.Sequential(network(), nn.Flatten(0)).eval()
    found = sl.GAD(squeezed, CLASSES, (1,), steps=1).fit((IMAGES, NUMBERS), target=lambda output: output.view(-1, 5))
    assert len(found.report) == 2


def said(labels: list[int], logits: list[list[float]]) -> Outputs:
    return Outputs(torch.arange(len(labels)), torch.tensor(labels), torch.tensor(logits), "")


def answers(right: int, wrong: int) -> Outputs:
    """Half of the images of each class; of three outputs the pair's highest is the label's on so many."""
    labels = [0, 1] * ((right + wrong) // 2)
    chosen = labels[:right] + [1 - label for label in labels[right:]]
    return said(labels, [[2.0 * (c == 0), 2.0 * (c == 1), -1.0] for c in chosen])


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        # Fisher's exact test for half of the images in each class; one-sided levels by scipy's hypergeometric tail.
        (40, 0, None),
        (30, 10, None),
        (20, 20, "no better than chance"),
        (22, 18, "no better than chance"),
        (10, 30, "swapped"),
        (0, 40, "swapped"),
        # Six images of which all are right, or two: too few to doubt, but fewer than half is told.
        (6, 0, None),
        (2, 4, "no better than chance"),
    ],
)
def test_agreement_of_the_network_with_the_labels(right: int, wrong: int, words: str | None) -> None:
    found = answers(right, wrong)
    assert agreement(found, (0, 1)) == pytest.approx(right / (right + wrong))
    told = doubts(found, (0, 1), TITLES)
    assert [words in sentence for sentence in told] == ([] if words is None else [True])
    if words:
        assert f"{right} of {right + wrong}" in told[0]
    # The order in which the classes are named changes nothing.
    assert len(doubts(found, (1, 0), TITLES)) == len(told)


def test_one_class_for_all_images_is_no_agreement_however_many_are_of_it() -> None:
    found = said([0] * 30 + [1] * 10, [[1.0, 0.0]] * 40)
    assert agreement(found, (0, 1)) == 0.75
    assert "no better than chance" in doubts(found, (0, 1), TITLES)[0]
    # Equal logits decide for neither.
    assert agreement(said([0, 1], [[1.0, 1.0]] * 2), (0, 1)) == 0


def test_labels_that_are_counted_from_one() -> None:
    # Images of classes 2 and 4, labelled 3 and 5; between 3 and 5 the network happens to decide as labelled.
    logits = torch.zeros(40, 6)
    labels = torch.tensor([3, 5] * 20)
    logits[torch.arange(40), labels - 1] = 3
    logits[torch.arange(40), labels] = 1
    told = doubts(Outputs(torch.arange(40), labels, logits, ""), (3, 5), ("output 3", "output 5"))
    assert len(told) == 2
    assert "labelled output 3 the network's highest output is 2 on 20 of 20" in told[0]
    assert "labelled output 5 the network's highest output is 4 on 20 of 20" in told[1]


def test_a_fit_reports_swapped_labels(tmp_path: Path) -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    with torch.no_grad():
        model[2].weight.copy_(10 * torch.eye(3))
        model[2].bias.zero_()
    model.eval()
    images = torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    right = survey(model, samples_of((images, torch.arange(40) % 2), (0, 1)), (0, 1), 8).logits[:, :2].argmax(1)
    for labels, share in ((right, 1.0), (1 - right, 0.0)):
        gad = sl.GAD(model, (0, 1), (2,), steps=1, folder=tmp_path / f"{share}").fit((images, labels))
        assert gad.report["label agreement"].tolist() == [share, share]
        assert any("swapped" in note for note in gad.notes) is (share == 0)
        assert sl.GAD.load(tmp_path / f"{share}", model).notes == gad.notes
    named = sl.GAD(model, (0, 1), (2,), steps=1).fit(Items(images, [TITLES[1 - n] for n in right]), names=TITLES)
    assert "Between cat (output 0) and dog (output 1)" in named.notes[0]
    assert "logit of dog (output 1) fell" in named.notes[1]
