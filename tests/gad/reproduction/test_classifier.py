"""The classifier that the paper's tables start from: its training against torch's own loop, and its resumption."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sightline as sl
from sightline.gad._samples import samples_of
from sightline.gad.reproduction._classifier import Tuning, fine_tuned, mirrored, with_outputs
from sightline.gad.reproduction._reproduce import reproduce


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(4 * 36, 7)
    )


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(10, 3, 8, 8, generator=generator)
    return images, torch.arange(10) % 2


def test_it_is_cross_entropy_by_adam_with_decay(data, tmp_path: Path) -> None:
    # Images that are their own mirror images, all in each step: neither chance nor order matters.
    images = data[0] + data[0].flip(3)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 7))
    tuning = Tuning(rate=0.01, decay=0.3, steps=4, batch_size=10, seed=3)
    found = fine_tuned(plain, samples_of((images, data[1]), (0, 1)), tuning, tmp_path)
    expected = with_outputs(plain, 2, seed=3)
    optimiser = torch.optim.Adam(expected.parameters(), lr=0.01, weight_decay=0.3)
    for _ in range(4):
        optimiser.zero_grad()
        F.cross_entropy(expected(images), data[1]).backward()
        optimiser.step()
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert not found.training
    assert not any(p.requires_grad for p in found.parameters())


@pytest.mark.parametrize("killed", [1, 3, 6, 7])
def test_killed_at_any_moment_it_goes_on_and_ends_the_same(data, tmp_path: Path, killed: int) -> None:
    samples, tuning = samples_of(data, (0, 1)), Tuning(rate=0.01, epochs=3, batch_size=4)

    class KilledError(Exception):
        pass

    def kill(step: int, of: int, loss: float) -> None:
        del of, loss
        if step == killed:
            raise KilledError

    with pytest.raises(KilledError):
        fine_tuned(network(), samples, tuning, tmp_path / "killed", progress=kill)
    steps: list[int] = []
    resumed = fine_tuned(network(), samples, tuning, tmp_path / "killed", progress=lambda n, *_: steps.append(n))
    # Three steps of an epoch (4, 4 and 2 pictures), after which it is kept.
    assert steps == list(range((killed - 1) // 3 * 3 + 1, 10))
    whole = fine_tuned(network(), samples, tuning, tmp_path / "whole")
    for one, other in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    read = fine_tuned(network(), samples, tuning, tmp_path / "whole", progress=lambda *_: pytest.fail("trained twice"))
    assert all(torch.equal(a, b) for a, b in zip(read.state_dict().values(), whole.state_dict().values(), strict=True))
    with pytest.raises(sl.InputError, match=r"whole.*other weights"):
        fine_tuned(network(), samples, Tuning(rate=0.02), tmp_path / "whole")


def folded() -> nn.Module:
    """A network as converters leave it: its norms only add what the statistics came to."""
    model = network()
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.normal_(norm.bias)
    return model


def test_folded_norms_stay_as_they_are(data, tmp_path: Path) -> None:
    images = data[0] + data[0].flip(3)
    found = fine_tuned(
        folded(), samples_of((images, data[1]), (0, 1)), Tuning(rate=0.01, steps=4, batch_size=10, decay=0.0), tmp_path
    )
    expected = with_outputs(folded(), 2).eval()
    optimiser = torch.optim.Adam(expected.parameters(), lr=0.01)
    for _ in range(4):
        optimiser.zero_grad()
        F.cross_entropy(expected(images), data[1]).backward()
        optimiser.step()
    for one, other in zip(found.state_dict().values(), expected.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)


def test_support_networks_of_folded_norms_are_not_trained_in_train_mode(data, tmp_path: Path) -> None:
    with pytest.raises(sl.RefusalError, match=r"batch norms.*folded.*mode=.eval."):
        sl.GAD(folded().eval(), (0, 1), mode="train")
    with pytest.raises(sl.RefusalError, match=r"batch norms.*folded.*mode=.eval."):
        reproduce("cats_dogs", tmp_path, folded(), tmp_path / "out")
    sl.GAD(folded().eval(), (0, 1), mode="eval")
    # One that was never trained has such statistics by right, and so has one whose norms saw batches.
    sl.GAD(network().eval(), (0, 1), mode="train")
    seen = folded()
    seen(data[0])
    sl.GAD(seen.eval(), (0, 1), mode="train")


def test_half_of_the_pictures_are_mirrored_whole() -> None:
    images = torch.arange(400.0).view(100, 1, 2, 2)
    turned = mirrored(images, 5)
    same = (turned == images).flatten(1).all(1)
    flipped = (turned == images.flip(3)).flatten(1).all(1)
    assert torch.equal(same, ~flipped)
    # Of a hundred fair coins, 30 to 70 heads but for one time in twenty thousand.
    assert 30 <= int(same.sum()) <= 70
