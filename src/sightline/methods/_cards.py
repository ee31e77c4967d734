"""Saliency cards: what is known of a method before it is used, after Boggust et al. 2023, arXiv 2206.02958."""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from sightline.aggregation import CAM, FullGrad, InputSignal, InputTimesSignal, Sign
from sightline.methods._method import Method
from sightline.operations import KINDS, Operation, Treatment, kinds
from sightline.propagation import GRADIENT
from sightline.sampling import Image, Reduction

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
        semantic_directness=_directness(method),
        input_sensitivity=_blind(method),
        adds_up=_adds_up(method),
        minimality=_minimality(method),
        visual_coherence=_coherence(method),
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
    found = [f"propagation = {method.propagation.name}", *found] if method.propagation is not GRADIENT else found
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
    found = []
    propagation = method.propagation
    refused = [
        str(kind)
        for kind in KINDS
        if propagation.treatment(Operation(kind, "", "", 0, ())) is Treatment.NOT_COVERED and kind is not kinds.UNKNOWN
    ]
    if refused:
        found.append(f"refused where the signal meets: {', '.join(refused)}")
    if propagation.essential is not None:
        found.append(f"needs at least one {propagation.essential}")
    if isinstance(method.aggregation, FullGrad):
        found.append("needs operations whose constant part is known: no products of signals, softmax or layer norm")
    reads_layer = isinstance(method.aggregation, CAM) or (method.times and isinstance(method.times.aggregation, CAM))
    if reads_layer:
        found.append("needs a feature map of shape (batch, channel, height, width)")
    given = settings(method.sampling)
    if "references" in given and given["references"] is None:
        found.append("needs reference images")
    if not refused and not found:
        found.append("every model that torch can differentiate")
    return "; ".join(found)


def _directness(method: Method) -> str:
    aggregation, propagation = method.aggregation, method.propagation
    if method.times is not None:
        return "low: a product of two maps, one fine and one coarse"
    if isinstance(aggregation, FullGrad):
        if not aggregation.biases:
            return "low: gradients of layers, brought to one scale and added"
        signed = aggregation.sign is Sign.SIGNED
        if aggregation.rescale:
            return "low: shares of the value in each layer, brought to one scale and added"
        return "high: the part of the value that comes from here, biases of layers with height and width included" + (
            "; with those of the other layers, which the checks list, it sums to the value" if signed else ""
        )
    if isinstance(aggregation, CAM):
        return "medium: how much a coarse position adds, to first order, with weights shared or not by positions"
    if propagation.relevance:
        return "medium: the part of the value that the rules lay on this pixel; what the rules mean is a convention"
    if propagation is not GRADIENT:
        return "low: a derivative with negative or small signals taken out on the way, so it derives nothing"
    if method.sampling.reduction is not Reduction.MEAN:
        return "medium: how strongly, or how unsteadily, the value answers to this pixel; no sign"
    if method.sampling.from_baseline:
        if not isinstance(aggregation, InputTimesSignal):
            return "high: change in value per change of the pixel, averaged over the way from the baseline"
        said = "high: the part of the change in value from the baseline that this pixel is given"
        return said + ("; sums to it" if method.complete else "; sums to it in expectation")
    if isinstance(aggregation, InputTimesSignal):
        return "medium: first-order change in value if the pixel went to the encoding's zero"
    many = "" if isinstance(method.sampling, Image) else ", averaged over noise"
    return f"high: change in value per change of the pixel{many}"


def _blind(method: Method) -> str:
    said = []
    reads_input = isinstance(method.aggregation, InputSignal | InputTimesSignal)
    if isinstance(method.aggregation, InputTimesSignal) or (reads_input and method.propagation.times_input):
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
        signed = isinstance(method.aggregation, FullGrad) and method.aggregation.sign is Sign.SIGNED
        return (
            "its map and the terms of layers without height and width, which the checks list, to the value"
            if signed
            else "to nothing; the terms that it is drawn from, with their signs, to the value"
        )
    return f"to {method.propagation.promise}" if method.has_books and method.propagation.promise else ""


def _minimality(method: Method) -> str:
    if isinstance(method.aggregation, CAM):
        return "one or few blobs, as coarse as the layer"
    if isinstance(method.aggregation, FullGrad):
        return "dense: every layer adds to it"
    if method.times is not None or method.propagation.name.startswith("rect_grad"):
        return "sparse: most pixels are zero or nearly so"
    if isinstance(method.sampling, Image) and not method.propagation.relevance and method.propagation is GRADIENT:
        return "low: many scattered pixels of either sign"
    return "medium: fewer scattered pixels than the gradient"


def _coherence(method: Method) -> str:
    if isinstance(method.aggregation, CAM):
        return "smooth blobs; their edges are interpolation, not evidence"
    if isinstance(method.aggregation, FullGrad):
        return "smooth, with the object's outline; a large part comes from layers, not pixels"
    if method.times is not None or (method.propagation is not GRADIENT and not method.propagation.relevance):
        return "crisp outlines, which it draws for edges whether or not the model uses them"
    if method.propagation.relevance:
        return "follows edges and textures; smoother with positive rules"
    if isinstance(method.sampling, Image):
        return "grainy"
    return "less grainy than the gradient"
