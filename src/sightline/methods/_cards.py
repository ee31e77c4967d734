"""Saliency cards: what is known of a method before it is used, after Boggust et al. 2023, arXiv 2206.02958."""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from sightline._common.meaning import Meaning
from sightline.methods._method import Method
from sightline.operations import Propagation, kinds

_PATENTS = (
    "layer-wise relevance propagation is covered by patents in some countries (EP 3271863 B1, US 12061966, CA 2979579; "
    "owner: Fraunhofer-Gesellschaft); docs/licences.md says what is known; no legal advice"
)


@dataclass(frozen=True)
class Card:
    """What is known of a method.

    Attributes:
        name: the method.
        formula: the map as a formula.
        source: the paper and place it is defined in.
        differs: how its map differs from what its authors' code gives, and the setting that gives theirs.
        choices: its sampling, propagation and aggregation, with their settings.
        coincides: other methods, each with when it gives the same numbers.
        determinism: whether the same call gives the same map.
        hyper_parameters: what a user can set, with its value here.
        model_scope: for which models it is defined; elsewhere it is refused.
        cost: matrix work in forward passes.
        semantic_directness: what one value of the map means.
        input_sensitivity: to which pixels the map is blind by its formula, and what makes it change with the encoding
            of the pictures while the function stays. Whether it moves with the image, the class
            and the trained weights depends on the model, and is what an audit measures.
        adds_up: to what its map adds up, and under which condition; empty where it need not add up.
        minimality: how much of the image it marks.
        visual_coherence: how it looks, and where that misleads.
        patents: those that are known to concern it.
    """

    name: str
    formula: str
    source: str
    differs: str
    choices: str
    coincides: str
    determinism: str
    hyper_parameters: str
    model_scope: str
    cost: str
    semantic_directness: str
    input_sensitivity: str
    adds_up: str
    minimality: str
    visual_coherence: str
    patents: str

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Headings and texts, in order; empty ones left out."""
        named = [(field.name.replace("_", " "), getattr(self, field.name)) for field in fields(self)]
        return [(heading, text) for heading, text in named if text]


def card(method: Method) -> Card:
    """The card of a method, of the catalogue or a user's own."""
    meaning = _meaning(method)
    return Card(
        name=method.name,
        formula=method.formula,
        source=method.source or "a method of your own",
        differs=method.differs,
        choices=choices(method),
        coincides="; ".join(f"{name}: {when}" for name, when in method.coincides),
        determinism=_determinism(method),
        hyper_parameters=_settings(method),
        model_scope=_scope(method),
        cost="not counted" if method.cost is None else f"{method.cost:g} forward passes (ResNet-18, 224 px)",
        semantic_directness=meaning.directness,
        input_sensitivity=_blind(method),
        adds_up=_adds_up(method),
        minimality=meaning.minimality,
        visual_coherence=meaning.coherence,
        patents=_PATENTS if _propagates_relevance(method) else "",
    )


def _propagates_relevance(method: Method) -> bool:
    return method.propagation.relevance or (method.times is not None and _propagates_relevance(method.times))


def choices(method: Method) -> str:
    """The three choices of a method, in a few words."""
    parts = [type(method.sampling).__name__, method.propagation.name, type(method.aggregation).__name__]
    return " x ".join(parts) + (f", times {method.times.name}" if method.times else "")


def settings(choice: object) -> dict[str, Any]:
    """The settings of a sampling or an aggregation, by name."""
    if not is_dataclass(choice):
        return {}
    return {field.name: getattr(choice, field.name) for field in fields(choice) if not field.name.startswith("_")}


def _settings(method: Method) -> str:
    found = [
        f"{name} = {_said(value)}"
        for part in (method.sampling, method.aggregation)
        for name, value in settings(part).items()
    ]
    if not method.propagation.derivative:
        found = [f"propagation = {method.propagation.name}", *found]
    if method.times is not None:
        found.append(f"times = {method.times.name} ({_settings(method.times)})")
    return ", ".join(found) or "none"


def _said(value: object) -> str:
    return "those that explain is given" if value is None else str(value)


def _determinism(method: Method) -> str:
    if method.sampling.random:
        return "drawn at random from the seed and the image's content: the same seed gives the same map"
    return "deterministic, up to the rounding of the machine"


def _scope(method: Method) -> str:
    factors = [method] if method.times is None else [method, method.times]
    found = [need for factor in factors for need in (*_needs(factor.propagation), *factor.aggregation.needs)]
    found += method.sampling.needs
    return "; ".join(dict.fromkeys(found)) or "every model that torch can differentiate"


def _needs(propagation: Propagation) -> list[str]:
    refused = [str(kind) for kind in propagation.uncovered if kind is not kinds.UNKNOWN]
    found = [f"refused where the signal meets: {', '.join(refused)}"] if refused else []
    return found if propagation.essential is None else [*found, f"needs at least one {propagation.essential}"]


def _meaning(method: Method) -> Meaning:
    meaning = method.meaning
    if method.times is None:
        return meaning
    meaning = replace(meaning, directness="low: a product of two maps, one fine and one coarse")
    if not method.aggregation.at_input:
        return meaning
    return replace(
        meaning,
        minimality="sparse: most pixels are zero or nearly so",
        coherence="crisp outlines, which it draws for edges whether or not the model uses them",
    )


def _blind(method: Method) -> str:
    said = []
    if method.aggregation.blind or (method.propagation.times_input and method.signal_at_input):
        where = "of the baseline's colour" if method.sampling.from_baseline else "that the encoding maps to zero"
        said.append(f"by its formula blind to pixels {where}")
    if method.encoding_enters:
        said.append(f"changes with the encoding of the pictures: {method.encoding_enters}")
    return "; ".join(said)


def _adds_up(method: Method) -> str:
    """To what the map adds up."""
    if method.complete:
        return "to the value less the baseline's, up to quadrature"
    if method.decomposes:
        return method.aggregation.adds_up
    return f"to {method.propagation.promise}" if method.has_books and method.propagation.promise else ""
