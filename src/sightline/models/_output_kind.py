"""What the numbers in a model's output are, and how they are read: the one place that turns them into probabilities."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sightline.errors import InputError

Kind = Literal["classes", "labels", "values"]
Scale = Literal["logits", "probabilities", "log probabilities"]
CHOICES = (
    '"classes" (one class among all, by softmax), "labels" (each output a yes or no of its own, by sigmoid) or '
    '"values" (numbers as they are, as in regression)'
)
_ENDINGS: dict[str, tuple[Kind, Scale]] = {
    "softmax": ("classes", "probabilities"),
    "special_softmax": ("classes", "probabilities"),
    "softmin": ("classes", "probabilities"),
    "log_softmax": ("classes", "log probabilities"),
    "special_log_softmax": ("classes", "log probabilities"),
    "sigmoid": ("labels", "probabilities"),
    "special_expit": ("labels", "probabilities"),
    "hardsigmoid": ("labels", "probabilities"),
    "log_sigmoid": ("labels", "log probabilities"),
}
_UNKNOWN: tuple[None, Scale] = (None, "logits")
_MEANT = {
    "classes": ("class", "softmax", "single_label", "multiclass", "multi_class", "classification"),
    "labels": ("label", "sigmoid", "multi_label", "multilabel", "binary", "probabilities"),
    "values": ("value", "regression", "regressor", "identity", "none"),
}


@dataclass(frozen=True)
class OutputKind:
    """What the numbers in a model's output are.

    Attributes:
        kind: `classes`: scores of classes, of which one is right; `labels`: each output is a yes or no of its own;
            `values`: each output is a number in its own units.
        scale: whether scores of classes and labels are logits, probabilities already, or their logarithms.
        known: whether a user or the model said so; else it is assumed.
    """

    kind: Kind = "classes"
    scale: Scale = "logits"
    known: bool = True

    @classmethod
    def of(cls, stated: Kind | None, ends_in: str | None, scores: Tensor, combines: str | None = None) -> "OutputKind":
        """What an output is, from what is known.

        Args:
            stated: what a user or the model says; None where neither does.
            ends_in: the model's last operation, where it makes probabilities of scores.
            scores: shape (image, output): what the model said of some images.
            combines: the operation whose probabilities the model averages, adds or multiplies at its end, as an
                ensemble does.
        """
        found, scale = _ENDINGS.get(ends_in or "", _UNKNOWN)
        if found is None and _shares(scores):
            found, scale = "classes", "probabilities"
        likely, made = _ENDINGS.get(combines or "", _UNKNOWN)
        # What leaves 0..1 is no probability, such as a number of stars from 1 to 5.
        combined = found is None and made == "probabilities" and bool(((scores >= 0) & (scores <= 1)).all())
        if combined:
            scale = made
        one = scores.shape[1] == 1
        if stated == "values":
            return cls("values")
        kind = stated or found
        if kind is None:
            # One number may be a logit or a value; as it stands it is right in both cases.
            if one:
                return cls("values", known=False)
            return cls(likely, scale, known=False) if combined and likely else cls("classes", known=False)
        return cls("labels" if one else kind, scale)

    @property
    def noun(self) -> str:
        """What one output is called where it has no name."""
        return {"classes": "class", "labels": "label", "values": "output"}[self.kind]

    @property
    def predicts(self) -> bool:
        """Whether the largest output is what the model predicts."""
        return self.kind != "values"

    def read(self, scores: Tensor) -> Tensor:
        """What is shown of scores: probabilities, or values as they are.

        Args:
            scores: shape (image, output), floating point.

        Returns:
            Shape (image, output).
        """
        if self.kind == "values" or self.scale == "probabilities":
            return scores
        if self.scale == "log probabilities":
            return scores.exp()
        return scores.softmax(1) if self.kind == "classes" else scores.sigmoid()

    def note(self, outputs: int) -> str:
        """What a reader should know about how the output is read; empty where that was said."""
        if self.known:
            return ""
        if outputs == 1:
            return (
                "Nothing says what the model's only output is, so that it is shown as a value. If it is the logit of a "
                'yes or no, output="labels" (--output labels) shows its probability by the sigmoid; output="values" '
                "confirms that it is a value."
            )
        if self.scale == "probabilities":
            return (
                f"The model's {outputs} outputs lie between 0 and 1 and are made of probabilities, as those of an "
                f"ensemble are, so that they are taken as probabilities of {self.kind}. If they are values, as in "
                f'regression, say output="values" (--output values); output="{self.kind}" confirms it.'
            )
        return (
            f"Nothing says what the model's {outputs} outputs are, so that they are taken as logits of classes, and "
            'probabilities are by softmax. If each output is a yes or no of its own, say output="labels" (--output '
            'labels); if they are values, as in regression, output="values"; output="classes" confirms it.'
        )


def as_kind(value: object, name: str = "output") -> Kind | None:
    """Check what a user says of a model's output; None stays None.

    Raises:
        InputError: it is none of the three kinds.
    """
    if value is None:
        return None
    for kind in get_args(Kind):
        if value == kind:
            return kind  # type: ignore[no-any-return]
    word = str(value).lower().replace("-", "_").replace(" ", "_")
    meant = [kind for kind, words in _MEANT.items() if word.removesuffix("_classification") in words]
    hint = f' For {value!r} write "{meant[0]}".' if meant else ""
    raise InputError(f"{name} is {CHOICES}; got {value!r}.{hint}")


def kind_of(carrier: object) -> Kind | None:
    """What an object says of a model's output by its `output`, `multi_label`, or the `config` of transformers.

    An `output` that is anything but one of the three words, such as a layer of that name, says nothing.
    """
    said = getattr(carrier, "output", None)
    for kind in get_args(Kind):
        if isinstance(said, str) and said == kind:
            return kind  # type: ignore[no-any-return]
    several = getattr(carrier, "multi_label", None)
    if isinstance(several, bool):
        return "labels" if several else "classes"
    return kind_of_problem(getattr(getattr(carrier, "config", None), "problem_type", None))


def kind_of_problem(problem: Any) -> Kind | None:
    """What a `problem_type` of transformers means; None where it is not set."""
    words: dict[str, Kind] = {
        "regression": "values",
        "multi_label_classification": "labels",
        "single_label_classification": "classes",
    }
    return words.get(problem) if isinstance(problem, str) else None


def _shares(scores: Tensor) -> bool:
    """Whether scores of several outputs are shares that add up to one, to the rounding of their precision."""
    if scores.shape[1] < 2 or not bool(((scores >= 0) & (scores <= 1)).all()):
        return False
    tolerance = max(1e-5, 2 * torch.finfo(scores.dtype).eps)
    return bool(((scores.double().sum(1) - 1).abs() <= tolerance).all())
