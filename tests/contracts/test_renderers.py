"""Renderers: the same result gives the same output, is left as it was, and its texts are no HTML."""

import copy
import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

import sightline as sl
from helpers.contract import ENCODING, Network, pictures
from sightline._common import renderers
from sightline.aggregation import InputTimesSignal
from sightline.auditing import Randomisation
from sightline.gad import GAD, Evaluation, GADExplanation
from sightline.rendering import render

NAMES = ["<b>one</b>.png", "a & b.png", "$x_1$.png"]
METHODS = ["gradient", sl.Method(aggregation=InputTimesSignal(), name="mine")]


@cache
def batch(folder: Path) -> sl.ImageBatch:
    for name, values in zip(NAMES, ENCODING.decode(pictures()), strict=True):
        file = folder / name.replace("/", "-")
        Image.fromarray((255 * values).round().astype(np.uint8)).save(file)
    return sl.load_images(sorted(folder.iterdir()), preprocessing=ENCODING)


def explanation(folder: Path) -> sl.Explanation:
    return sl.explain(Network().eval(), batch(folder), METHODS)


def audit(folder: Path) -> sl.Audit:
    how = Randomisation(stages=1, networks=2)
    return sl.audit(Network().eval(), batch(folder), METHODS, ["parameter_randomization"], randomisation=how)


@cache
def fitted() -> GAD:
    labels = torch.arange(12) % 3
    return sl.GAD(Network().eval(), (2, 0), (2,), steps=2).fit((pictures(12), labels))


def distanced(folder: Path) -> GADExplanation:
    return fitted().explain(batch(folder), methods=["gradient"])


def evaluation(folder: Path) -> Evaluation:
    return fitted().evaluate(batch(folder), ["gradient"])


# What makes a result of each type, and of the outputs what else they are given.
RESULTS: dict[str, Callable[[Path], Any]] = {
    "ImageBatch": batch,
    "Explanation": explanation,
    "Audit": audit,
    "GADExplanation": distanced,
    "GAD": lambda folder: fitted(),
    "Evaluation": evaluation,
}
GIVEN: dict[str, tuple[Any, ...]] = {"Explanation.overlay": ("gradient", 0, 0.4)}
QUICK = {"Explanation", "ImageBatch"}
ELSEWHERE = {"Evaluation.report": "it writes a folder: tests/cli/test_gad.py"}


def registered() -> list[str]:
    """The names of all renderers of this package, without the package's."""
    for modules in renderers._OWN.values():
        for module in modules:
            importlib.import_module(f"sightline.rendering.{module}")
    return [name.removeprefix("sightline.") for name in renderers.RENDERERS._own if name.startswith("sightline.")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    folder = tmp_path_factory.mktemp("pictures")
    return cache(lambda kind: RESULTS[kind](folder))


def plain(output: Any, folder: Path) -> Any:
    """An output as values that can be compared."""
    if isinstance(output, Figure):
        file = folder / "figure.png"
        output.savefig(file, dpi=40)
        return np.asarray(Image.open(file)).tobytes()
    if isinstance(output, Image.Image):
        return output.tobytes()
    if isinstance(output, dict):
        for name, write in output.items():
            write(folder / name)
        return {name: (folder / name).read_bytes() for name in output}
    assert isinstance(output, str)
    return output


def test_every_type_of_result_is_declared() -> None:
    missing = {name.rpartition(".")[0] for name in registered()} - RESULTS.keys()
    assert not missing, f"declare {', '.join(sorted(missing))}, so that the contract is tested"


def named(name: str) -> Any:
    return pytest.param(name, marks=() if name.rpartition(".")[0] in QUICK else pytest.mark.slow)


@pytest.mark.parametrize("name", [named(name) for name in registered() if name not in ELSEWHERE])
def test_a_renderer_keeps_its_contract(name: str, made: Callable[[str], Any], tmp_path: Path) -> None:
    kind, _, output = name.rpartition(".")
    result = made(kind)
    before = copy.deepcopy(result)
    open_figures, state = pyplot.get_fignums(), torch.get_rng_state()
    first = plain(render(result, output, *GIVEN.get(name, ())), tmp_path)
    again = plain(render(before, output, *GIVEN.get(name, ())), tmp_path)
    assert first == again, "a copy looks different"
    if kind != "GAD":
        assert result == before, "the result was changed"
    assert pyplot.get_fignums() == open_figures
    assert torch.equal(state, torch.get_rng_state())
    assert len(first) > 0
    if output == "html":
        assert "<b>one</b>" not in first
        assert "a & b" not in first
