"""The three choices are known by what they say of themselves: no type is asked for, and anyone can make one."""

import ast
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from sightline import aggregation, propagation, sampling
from sightline._common.meaning import Meaning
from sightline.aggregation import Aggregation, Backward, Part, Reader, Reads
from sightline.methods import card
from sightline.operations import INPUT, Intercept, Rectified, kinds
from sightline.propagation import GRADIENT, Propagation
from sightline.sampling import Noise, Points, Sampling

SOURCES = Path(sl.__file__).parent
ROOMS = {"aggregation", "propagation", "sampling"}
CLASSES = {
    name
    for room, base in ((aggregation, Aggregation), (sampling, Sampling))
    for name in room.__all__
    if isinstance(part := getattr(room, name), type) and issubclass(part, base) and part is not base
}
TABLES = {name for name in propagation.__all__ if isinstance(getattr(propagation, name), Propagation)}


def switches(source: str) -> list[str]:
    """The places where code asks which concrete choice it has: by type, by identity or by name."""
    tree, found = ast.parse(source), []
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    # pathlib has a Path too, and Pillow an Image.
    others = [node for node in imports if not (getattr(node, "module", None) or "").startswith("sightline")]
    choices = (CLASSES | TABLES) - {alias.asname or alias.name for node in others for alias in node.names}
    for node in ast.walk(tree):
        asked: list[ast.expr] = []
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"isinstance", "issubclass"}:
            asked = [node.args[1]]
        elif isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchClass):
            asked = [node.cls]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("startswith", "endswith")):
            asked = [node.func]
        inside = [inner for part in asked for inner in ast.walk(part)]
        names = {inner.id for inner in inside if isinstance(inner, ast.Name)}
        attributes = {inner.attr: ast.unparse(inner.value) for inner in inside if isinstance(inner, ast.Attribute)}
        of_rooms = {name for name, room in attributes.items() if room in ROOMS}
        by_name = any(
            name in {"name", "__name__"} and ROOMS & set(re.findall(r"\w+", of)) for name, of in attributes.items()
        )
        if (names | of_rooms) & choices or by_name:
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def test_no_code_outside_their_rooms_asks_which_choice_it_has() -> None:
    wrong = {
        str(path.relative_to(SOURCES)): lines
        for path in sorted(SOURCES.rglob("*.py"))
        if path.relative_to(SOURCES).parts[0] not in ROOMS and (lines := switches(path.read_text(encoding="utf-8")))
    }
    assert not wrong, wrong


@pytest.mark.parametrize(
    "line",
    [
        "isinstance(method.sampling, Image)",
        "isinstance(method.aggregation, CAM | FullGrad)",
        "method.propagation is not GRADIENT",
        "method.propagation.name.startswith('rect_grad')",
        "type(method.aggregation).__name__ == 'CAM'",
        "type(method.aggregation) is aggregation.CAM",
        "match method.aggregation:\n    case InputSignal():\n        pass",
    ],
)
def test_such_questions_are_noticed(line: str) -> None:
    assert len(switches(line)) == 1


@dataclass(frozen=True)
class Halves(Sampling):
    """The image with weight 3/4, and the image at half its contrast with weight 1/4."""

    averaged_over = "two contrasts"

    @property
    def weights(self) -> tuple[float, ...]:
        return (0.75, 0.25)

    def points(self, images: Tensor, keys: Sequence[int], samples: Sequence[int | float]) -> Points:
        factors = torch.tensor([(1.0, 0.5)[int(sample)] for sample in samples]).to(images).view(-1, 1, 1, 1)
        return Points(images * factors, images * factors)


def _doubling(signal: Tensor, rectified: Rectified) -> Tensor:
    return 2 * rectified.shut(signal)


DOUBLED = Propagation(
    "doubled",
    {kinds.RECTIFIER: _doubling},
    frozenset({kinds.LINEAR, kinds.RESHAPE, kinds.IDENTITY}),
    "It is defined for rectifiers between weighted layers.",
    means=Meaning(directness="high: twice the change in value for each rectifier on the way"),
)


@dataclass(frozen=True)
class Strongest(Aggregation):
    """The largest magnitude of the signal among the channels of the input."""

    needs = ("needs an input with channels",)

    def __call__(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Tensor:
        return signals[INPUT].abs().amax(1, keepdim=True)

    def meaning(self, signal: Meaning) -> Meaning:
        return Meaning(directness=f"the largest over channels of what is {signal.directness}", zero=signal.zero)


@dataclass(frozen=True)
class Biases(Aggregation):
    """At every pixel the square of sum_l b_l dz/dh_l: what all biases add to the value."""

    reads = Reads.DERIVATIVE
    reads_biases = True
    at_input = False
    has_terms = True

    def reader(self, backward: Backward, average: Callable[[int, Part], None] | None = None) -> Reader:
        return _BiasReader(backward, average)

    def __call__(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Tensor:
        raise NotImplementedError

    def join(self, terms: Sequence[Part], size: tuple[int, int]) -> Tensor:
        return torch.stack([term.values for term in terms]).sum(0).square().expand(-1, 1, *size)


@dataclass(frozen=True)
class Nothing:
    """A remark."""

    def describe(self) -> str:
        return "nothing else is read"


class _BiasReader(Reader):
    def __init__(self, backward: Backward, average: Callable[[int, Part], None] | None) -> None:
        self._average, self._size = average, backward.size
        self._totals: list[Tensor] = []
        backward.listen(self._hear)
        self.remarks = frozenset({Nothing()})

    def _hear(self, term: Intercept, signal: Tensor) -> None:
        total = term.total(signal).view(-1, 1, 1, 1)
        if self._average is not None:
            self._average(term.operation.order, Part(total))
        else:
            self._totals.append(total)

    def map(self, results: Mapping[str, Tensor], signals: Mapping[str, Tensor]) -> Tensor | None:
        return None if self._average else torch.stack(self._totals).sum(0).square().expand(-1, 1, *self._size)


class Network(nn.Module):
    """z = v . max(W x + b, 0) + c"""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(2 * 9, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.hidden(x.flatten(1)).relu())
        return out


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network().double().eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def slopes(network: Network, images: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """dz/dh of the hidden layer, and dz/dx, written out."""
    hidden = images.flatten(1) @ network.hidden.weight.detach().T + network.hidden.bias.detach()
    at_hidden = network.out.weight.detach()[target] * (hidden > 0)
    return at_hidden, (at_hidden @ network.hidden.weight.detach()).view_as(images)


def test_a_sampling_a_propagation_and_an_aggregation_of_ones_own(
    network: Network, images: Tensor, tmp_path: Path
) -> None:
    """Two inputs, each signal doubled by the one rectifier on its way, the largest magnitude over channels."""
    own = sl.Method(Halves(), DOUBLED, Strongest(), name="own")
    found = sl.explain(network, images, [own, "gradient"], 1)
    expected = 0.75 * (2 * slopes(network, images, 1)[1]).abs().amax(1, keepdim=True)
    expected += 0.25 * (2 * slopes(network, images / 2, 1)[1]).abs().amax(1, keepdim=True)
    torch.testing.assert_close(found["own"], expected)
    torch.testing.assert_close(found["gradient"], slopes(network, images, 1)[1])
    assert found.checks.operations["own"]["ruled"] == 1
    found.save(tmp_path)
    loaded = sl.Explanation.load(tmp_path)
    assert torch.equal(loaded["own"], found["own"])
    assert loaded.methods["own"].propagation.name == "doubled"
    again = pickle.loads(pickle.dumps(own))  # noqa: S301 - made here
    assert again == own


@pytest.mark.parametrize(("choice", "factor"), [({"sampling": Halves()}, 1), ({"propagation": DOUBLED}, 2)])
def test_each_goes_with_those_of_the_catalogue(network: Network, images: Tensor, choice: dict, factor: int) -> None:
    gradient = slopes(network, images, 0)[1]
    if "sampling" in choice:
        gradient = 0.75 * gradient + 0.25 * slopes(network, images / 2, 0)[1]
    torch.testing.assert_close(
        sl.explain(network, images, sl.Method(**choice, name="own"), 0)["own"], factor * gradient
    )


def test_an_aggregation_that_listens_to_bias_terms(network: Network, images: Tensor) -> None:
    """b . dz/dh + c, squared over each pass; with terms that are averaged first, the square of the average."""
    at_once = sl.Method(aggregation=Biases(), name="biases")
    each = sl.Method(Noise(4, 0.5), aggregation=Biases(), name="each")
    before = sl.Method(Noise(4, 0.5, before=True), aggregation=Biases(), name="before")
    found = sl.explain(network, images, [at_once, each, before, "full_grad"], 2, seed=3)
    assert any(note.startswith("At the input, read by biases, each, before, nothing") for note in found.checks.notes)

    def total(images: Tensor) -> Tensor:
        return slopes(network, images, 2)[0] @ network.hidden.bias.detach() + network.out.bias.detach()[2]

    def spread(values: Tensor) -> Tensor:
        return values.view(-1, 1, 1, 1).expand(-1, 1, 3, 3)

    torch.testing.assert_close(found["biases"], spread(total(images).square()))
    seen: list[Tensor] = []
    handle = network.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach().clone()))
    try:
        sl.explain(network, images, each, 2, seed=3, chunk=3)
    finally:
        handle.remove()
    noisy = [batch for batch in seen if len(batch) == 3 and not torch.equal(batch, images)][-4:]
    totals = torch.stack([total(batch) for batch in noisy])
    torch.testing.assert_close(found["each"], spread(totals.square().mean(0)))
    torch.testing.assert_close(found["before"], spread(totals.mean(0).square()))


def test_their_cards_say_what_they_say_and_nothing_else() -> None:
    said = dict(card(sl.Method(Halves(), DOUBLED, Strongest(), name="own")).rows)
    assert said["semantic directness"] == f"the largest over channels of what is {DOUBLED.means.directness}"
    assert said["model scope"].endswith("; needs an input with channels")
    assert said["choices"] == "Halves x doubled x Strongest"
    assert not {"minimality", "visual coherence", "adds up", "patents"} & set(said)
    averaged = dict(card(sl.Method(Halves(), name="mean")).rows)
    assert (
        averaged["semantic directness"] == "high: change in value per change of the pixel, averaged over two contrasts"
    )
    assert "semantic directness" not in dict(card(sl.Method(aggregation=Biases(), name="biases")).rows)


def test_combinations_without_a_meaning_are_refused_by_the_choice_that_knows(network: Network) -> None:
    with pytest.raises(sl.InputError, match=r"Biases is a formula in derivatives.*doubled gives none"):
        sl.Method(propagation=DOUBLED, aggregation=Biases())
    with pytest.raises(sl.InputError, match="Strongest has no terms"):
        sl.Method(Noise(before=True), GRADIENT, Strongest())
    with pytest.raises(sl.InputError, match=r"path.*Biases reads other layers"):
        sl.Method(sampling.Path(), GRADIENT, Biases())


def test_a_rule_that_lets_nothing_through_is_said_in_the_choices_own_words(network: Network, images: Tensor) -> None:
    silent = Propagation("silent", {kinds.RECTIFIER: lambda signal, _seen: 0 * signal}, DOUBLED.passes)
    notes = sl.explain(network, images, sl.Method(propagation=silent, name="own"), 0).checks.notes
    assert any("zero everywhere" in note and "the rules of silent let no signal through" in note for note in notes)
