"""A fit: a network, two of its classes, and the support networks that were trained from it, in a folder."""

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from sightline._common.integers import as_integers, described
from sightline.errors import InputError, RefusalError
from sightline.explaining import ClassesLike, class_numbers
from sightline.gad import _record as record
from sightline.gad._networks import Networks, on_one_line
from sightline.gad._samples import Labels, samples_of
from sightline.gad._scores import ScoresOf, with_scores
from sightline.gad._settings import Question, Strategy, Training, check_question
from sightline.gad._survey import Outputs, fidelities, survey
from sightline.gad._targets import Alpha, Step, steps_of
from sightline.gad._training import check_norms
from sightline.models import fingerprint, model_info

ENOUGH = 0.6
"""The share of a distance by which a support network must have moved, for its maps to say anything of distancing."""
HARDLY = 0.25
"""The share below which it hardly moved at all."""


class Fit:
    """A network, two of its classes, and the support networks that were trained from it, in a folder.

    Args:
        model: the network; it stays as it is.
        classes: the two classes, as numbers of outputs or names.
        alphas: the distances.
        training: how each support network is trained.
        strategy: which of them are trained.
        question: what networks are asked of a class of the pair, unless an explanation says otherwise.
        folder: where the weights are kept; by default a temporary one that goes when this object goes.

    Attributes:
        networks: the support networks.
        report: a row for each support network, after a fit.
        notes: what a reader should know first, after a fit.
        record: what `gad.json` holds.

    Raises:
        InputError: the model has no two such classes, the distances do not rise, or the settings contradict each other.
        RefusalError: weights cannot lie between the original's and a network trained in `train` mode.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: ClassesLike,
        alphas: Sequence[Alpha],
        training: Training,
        strategy: Strategy = "trained",
        question: Question = "pair",
        folder: str | Path | None = None,
    ) -> None:
        if not isinstance(model, nn.Module) or not any(p.is_floating_point() for p in model.parameters()):
            raise InputError(
                "GAD trains copies of a network, so it needs a torch.nn.Module with parameters; got "
                f"{type(model).__name__}."
            )
        self.classes = _pair(classes, model_info(model).class_names or ())
        if strategy not in {"trained", "interpolated"}:
            raise InputError(f'strategy is "trained" or "interpolated"; got {strategy!r}.')
        self.question: Question = check_question(question)
        self.model, self.alphas, self.training, self.strategy = model, steps_of(alphas), training, strategy
        check_norms(model, training.mode)
        if strategy == "interpolated" and training.mode == "train":
            raise RefusalError(
                "Between the original and a network trained in train mode the weights of smaller distances do not lie: "
                "batch statistics change whatever the distance. Take strategy='trained', or mode='eval'."
            )
        if strategy == "interpolated" and not on_one_line(self.alphas):
            raise InputError(
                "Weights can be interpolated only where each distance is one share of the last, for both classes; got "
                f"{alphas!r}. Take strategy='trained'."
            )
        if folder is None:
            folder = tempfile.mkdtemp(prefix="sightline-gad-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.folder = Path(folder)
        self.networks = Networks(model, self.alphas, self.folder, interpolated=strategy == "interpolated")
        # The model without what `use_scores` puts around it.
        self._plain, self._has_scores = model, False
        self.report = pd.DataFrame()
        self.notes: list[str] = []
        self.record: dict[str, Any] = {}

    @property
    def names(self) -> tuple[str, str] | None:
        """How the pictures of the two classes were labelled in the fit, where by names."""
        names = self.record.get("names")
        return (names[0], names[1]) if names else None

    @property
    def titles(self) -> tuple[str, str]:
        """The two classes in words: the number of the output, and its name where one is known."""
        names, known = self.names, model_info(self.model).class_names or ()
        first, second = (
            f"{names[place] if names else known[c]} (output {c})" if names or c < len(known) else f"output {c}"
            for place, c in enumerate(self.classes)
        )
        return first, second

    def about(self, question: Question) -> tuple[list[str], dict[str, Any]]:
        """What an explanation says of the support networks: notes, and settings."""
        keys = ("classes", "alphas", "strategy", "training", "report")
        return self.notes, {key: self.record.get(key) for key in keys} | {"question": question}

    def outputs(self, data: object, *, names: Labels = None) -> tuple[Outputs, dict[Step, Outputs]]:
        """The outputs of the original network for the pair's images, and those of each support network."""
        samples = samples_of(data, self.classes, names, model_info(self.model).class_names)
        size = self.training.batch_size
        before = survey(self.model, samples, self.classes, size)
        return before, {a: survey(network, samples, self.classes, size) for a, network in self.networks.each()}

    def fidelity(self, data: object, *, names: Labels = None) -> pd.DataFrame:
        """Whether the support networks still see images as the original does; ask it of images held out from `fit`.

        Args:
            data: see `fit`.
            names: see `fit`.

        Returns:
            A row for each support network: the share of images on which it decides as the original, and Spearman's
            correlation of each logit of the pair over the images of each class.
        """
        return fidelities(*self.outputs(data, names=names), self.classes)

    def use_scores(self, target: ScoresOf) -> None:
        """From now on read the class scores from the networks' output by a function."""
        self.model, self._has_scores = with_scores(self._plain, target), True
        interpolated = self.strategy == "interpolated"
        self.networks = Networks(self.model, self.alphas, self.folder, interpolated=interpolated)

    def begin(self, data: str, names: Labels) -> None:
        """Begin a fit in the folder, or go on with the same one.

        Args:
            data: a name for the images and their labels.
            names: how the two classes are labelled.

        Raises:
            InputError: the folder holds another fit, or cannot be written.
        """
        identity = {
            "base": fingerprint(self.model),
            "data": data,
            "classes": list(self.classes),
            "training": asdict(self.training),
            "target": self._has_scores,
        }
        # Not part of the identity: a support network does not depend on which others are trained.
        asked = {
            "alphas": [list(pair) for pair in self.alphas],
            "strategy": self.strategy,
            "question": self.question,
            "names": names and list(names),
        }
        self.record = record.begin(self.folder, identity, asked)
        self.networks.known = set(self.record["trained"])

    def set_report(self, rows: list[dict[str, Any]]) -> None:
        """Take the rows of the report, and note where a network moved less than it should."""
        self.report = pd.DataFrame(rows)
        self.notes = list(self.record.get("doubts", []))
        for row in rows:
            for place in (1, 2):
                asked, moved = row[f"alpha {place}"], row[f"shift {place}"]
                if row["kind"] == "distanced" and not moved >= ENOUGH * asked:
                    self.notes.append(self._short_of(row["alpha"], place, asked, moved))

    def _short_of(self, alpha: str, place: int, asked: float, moved: float) -> str:
        far = "moved only part of the way" if moved >= HARDLY * asked else "hardly moved"
        own, other = self.titles[place - 1], self.titles[2 - place]
        # Rounding must not show the share that is wanted.
        share = min(moved / asked, ENOUGH - 0.01)
        return (
            f"The network for alpha {alpha} {far}: on images of {own} the logit of {other} fell by {moved:.2g} of "
            f"{asked:g} ({share:.0%}; at least {ENOUGH:.0%} is wanted). Train it longer, or at a higher rate, before "
            "its maps are taken for those of distanced classes."
        )

    def save(self, folder: str | Path) -> Path:
        """Write the support networks, their settings and their report to a folder."""
        if not self.networks.complete("distanced"):
            raise InputError("There are no support networks to save yet. Call fit first.")
        folder = Path(folder)
        if folder.resolve() == self.folder.resolve():
            return folder
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is not an empty folder, and may hold another fit. Name a new one.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in [*sorted(self.networks.known), record.FILE]:
                shutil.copyfile(self.folder / name, folder / name)
        except OSError as error:
            raise InputError(f"The folder {folder} cannot be written: {error.strerror or error}.") from error
        return folder

    def resume(self, there: dict[str, Any], target: ScoresOf | None) -> None:
        """Take what a folder's record holds.

        Raises:
            InputError: it belongs to another network, or to other class scores.
        """
        if there.get("base") != fingerprint(self.model):
            raise InputError(
                f"The support networks in {self.folder} were trained from a network with other weights than the one "
                "given; maps of the two say nothing about each other. Load the network they were fitted to."
            )
        if bool(there.get("target")) is (target is None):
            raise InputError(
                f"The support networks in {self.folder} were fitted {'with' if target is None else 'without'} target=, "
                "the function from the model's output to its class scores. Give GAD.load the same."
            )
        if target is not None:
            self.use_scores(target)
        self.record = there
        self.networks.known = set(there.get("trained", {}))
        self.set_report(there.get("report", []))


def _pair(classes: object, names: Sequence[str]) -> tuple[int, int]:
    numbers = as_integers(class_numbers(classes, names))
    if not isinstance(numbers, Sequence) or len(numbers) != 2 or min(numbers) < 0 or numbers[0] == numbers[1]:
        raise InputError(
            "classes are two different outputs of the network, by number or name, as in (281, 207); got "
            f"{described(classes)}."
        )
    return numbers[0], numbers[1]
