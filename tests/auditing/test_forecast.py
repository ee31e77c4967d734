"""What is said before an audit: how many images and networks a verdict needs, and how long it takes."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from scipy.stats import t as student
from torch import nn

import sightline as sl
from sightline.auditing import _plan as auditing
from sightline.auditing._forecast import Forecast, needed


@pytest.mark.parametrize(("distance", "verdicts", "further"), [(0.3, 1, 0.0), (0.1, 50, 0.0), (0.2, 20, 0.0005)])
def test_the_smallest_number_that_suffices_does_and_one_less_does_not(
    distance: float, verdicts: int, further: float
) -> None:
    def half(count: int) -> float:
        return float(student.ppf(1 - 0.025 / verdicts, count - 1)) * math.sqrt(0.25**2 / count + further)

    found = needed(distance, 0.25, verdicts, further)
    assert half(found) <= distance < half(found - 1)


def test_no_number_of_networks_makes_up_for_too_few_images() -> None:
    assert needed(0.05, 0.1, 50, further=0.01) == -1
    assert "no number of networks" in str(Forecast(20, 5, 50, 10.0))


def test_a_dry_run_makes_no_audit_and_counts_its_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: float(next(ticks)))
    monkeypatch.setattr(auditing, "time", clock)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 4)).eval()
    found = sl.audit(
        model, torch.randn(24, 3, 12, 12), "gradient", ["class_sensitivity", "parameter_randomization"], dry_run=True
    )
    assert isinstance(found, Forecast)
    # Two rules for the gradient and three controls.
    assert (found.images, found.networks, found.verdicts) == (24, 5, 8)
    assert "24 images, 5 random networks, up to 8 verdicts" in str(found)
    # A second for one set of maps of all images, and of these sets: the predicted class, two of references, three
    # random classes with the second and the least likely, two stages and four further networks.
    assert found.seconds == 1 + 2 + 5 + 6
