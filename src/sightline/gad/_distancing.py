"""Gradient Artificial Distancing: support networks that push two classes apart, and what stays important in all."""

import dataclasses
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the name torch's own documentation gives it)

from sightline._common.integers import as_integers, described
from sightline._common.renderers import render
from sightline._common.seeds import seed_of
from sightline._common.torch_private import BatchNormBase, DropoutBase
from sightline.arrays import ImageBatch, as_images, whole
from sightline.errors import InputError, RefusalError
from sightline.evaluation import Fill
from sightline.explaining import Classes as ClassesOf
from sightline.explaining import ClassesLike, Explanation, TargetLike, class_numbers, explain, methods_named
from sightline.gad import _paper as paper
from sightline.gad import _record as record
from sightline.gad._asking import Question, asked_of, changed, check_question, of_pair, stacked
from sightline.gad._consistency import Consistency
from sightline.gad._controls import COPIES, SINGLE, Control, as_controls
from sightline.gad._evaluation import Evaluation
from sightline.gad._explained import Controlled, GADExplanation
from sightline.gad._measuring import evaluate
from sightline.gad._networks import Kind, Networks, on_one_line
from sightline.gad._samples import Labels, samples_of
from sightline.gad._scores import ScoresOf, with_scores
from sightline.gad._survey import Said, agreement, check_outputs, doubts, fidelities, moved, survey, watch
from sightline.gad._targets import Alpha, Step, distanced, shuffled, steps_of, told
from sightline.gad._training import Mode, Recipe, Stage, check_norms, train
from sightline.methods import Method, as_method
from sightline.models import fingerprint, model_info

Strategy = Literal["trained", "interpolated"]

ENOUGH = 0.6
"""The share of a distance by which a support network must have moved, for its maps to say anything of distancing."""
HARDLY = 0.25
"""The share below which it hardly moved at all."""
LOOKED_AT = 1024
"""Training images on which the report looks."""
_CHECKPOINT = "training.safetensors"
_BATCH = 64
_OF_A_BATCH = (BatchNormBase, DropoutBase)
_DEFAULT = Consistency()


class GAD:
    """Gradient Artificial Distancing for two classes of a network.

    For each distance alpha a copy of the network is trained to say what the original says, but with the other class's
    logit lowered by alpha on images of each class. Pixels that stay important in the original and in every copy are
    those that tell the two classes apart, if the controls agree.

    Mazini Rodrigues, Boutry and Najman 2024, arXiv 2401.14434.

    Args:
        model: the network, which stays as it is. It ends in logits, not in a softmax.
        classes: the two classes, as numbers of outputs or names; a tuple, a list, or an array as of `numpy.unique`.
        alphas: the distances, positive and rising (a leading 0 is the original, as the paper counts); a pair where the
            two classes are pushed by different amounts.
        mode: `eval` trains with the statistics of batch norms as they are and without dropout; `train` as in ordinary
            training. It changes the result greatly.
        strategy: `trained`: a network for each distance, as published. `interpolated`: the largest is trained, and the
            weights of the others lie on the line to it; in `eval` mode only.
        rate: Adam's learning rate.
        epochs: how often each training image is seen.
        steps: optimiser steps for each network, instead of epochs.
        batch_size: images of a step; by default what the loader says, or 64.
        seed: of the order of images, of dropout and of shuffled labels.
        autocast: whether to train in bfloat16 where torch thinks it safe.
        question: what networks are asked of a class of the pair: `pair`, why it and not the other (the difference of
            both logits), or `class`, what speaks for it alone (its logit), as published. It changes no training, and
            each explanation can ask otherwise.
        folder: where the weights are kept; by default a temporary one that goes when this object goes. A fit that was
            interrupted goes on from there; networks that the same fit made for other distances, or by the other
            strategy, are not trained again.

    Attributes:
        report: after `fit`, a row for each support network: see `fit`.
        notes: after `fit`, what a reader should know first.

    Raises:
        InputError: the model has no two such classes, the distances do not rise, or the settings contradict each other.
        RefusalError: weights cannot lie between the original's and a network trained in `train` mode.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: ClassesLike,
        alphas: Sequence[Alpha] = (2, 4, 6, 8),
        *,
        mode: Mode = "eval",
        strategy: Strategy = "trained",
        rate: float = 4e-5,
        epochs: int = 10,
        steps: int | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        autocast: bool = False,
        question: Question = "pair",
        folder: str | Path | None = None,
    ) -> None:
        if not isinstance(model, nn.Module) or not any(p.is_floating_point() for p in model.parameters()):
            raise InputError(
                "GAD trains copies of a network, so it needs a torch.nn.Module with parameters; got "
                f"{type(model).__name__}."
            )
        first, second = _pair(classes, model_info(model).class_names or ())
        if mode not in {"eval", "train"} or strategy not in {"trained", "interpolated"}:
            raise InputError(
                f'mode is "eval" or "train", strategy "trained" or "interpolated"; got {mode!r} and {strategy!r}.'
            )
        self.question: Question = check_question(question)
        for name, number in (("epochs", epochs), ("steps", steps), ("batch_size", batch_size)):
            if number is not None:
                whole(name, number)
        if not 0 < rate < float("inf"):
            raise InputError(f"The learning rate is above 0 and finite; got {rate}.")
        self.model, self.classes, self.alphas, self.strategy = model, (first, second), steps_of(alphas), strategy
        self._batch_size = batch_size
        self.recipe = Recipe(mode, rate, epochs, steps, batch_size or _BATCH, seed, autocast)
        check_norms(model, mode)
        if strategy == "interpolated" and mode == "train":
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
        # Without what `fit` takes as target.
        self._plain, self._target = model, False
        self.report = pd.DataFrame()
        self.notes: list[str] = []
        self._record: dict[str, Any] = {}

    def fit(
        self,
        data: object,
        *,
        names: Labels = None,
        controls: bool = True,
        every: int | None = None,
        progress: Callable[[Stage], None] | None = None,
        target: ScoresOf | None = None,
    ) -> "GAD":
        """Train the support networks.

        Args:
            data: labelled images: what `load_images` returns, a pair (images, labels), a dataset of (image, label), or
                a `DataLoader` over one. Labels are numbers of the network's outputs, one-hot rows, or names. Images of
                further classes are left out.
            names: which label is the first class and which the second, where labels are names that the model does not
                know, or numbers of a dataset that names its `classes` (such as an `ImageFolder`).
            controls: whether to train as many networks on shuffled labels, which know nothing of the classes. A gain
                that they show too is none.
            every: steps between two checkpoints; by default an epoch.
            progress: called after each step.
            target: for a model that returns several tensors, a function from its output to the class scores, shape
                (batch, classes); what follows is explained and evaluated by these scores.

        Returns:
            This object. `report` has a row for each support network: its kind (distanced, shuffled), alphas, steps,
            seconds, the share of all images on which the original network agrees with the labels given, and over at
            most 1024 of the training images, evenly spread, the mean squared error, and for both classes by how much
            the other logit fell (shift) and their own rose. `notes` says where a shift is under 0.6 alpha, and where
            the original network agrees with the labels no better than by chance, as it does where they are swapped.

        Raises:
            InputError: the data cannot be used, or the folder holds another fit.
            RefusalError: the error of a training was not finite; what was reached before is kept.
        """
        return self.fit_kinds(
            data, ["distanced", "shuffled"] if controls else ["distanced"], names, every, progress, target
        )

    def fit_kinds(
        self,
        data: object,
        kinds: Sequence[Kind],
        names: Labels = None,
        every: int | None = None,
        progress: Callable[[Stage], None] | None = None,
        target: ScoresOf | None = None,
    ) -> "GAD":
        """Train support networks of some kinds; see `fit`.

        Args:
            data: see `fit`.
            kinds: `distanced`, by the classes; `shuffled`, by labels that know nothing of them; `tuned`, as a
                classifier by cross-entropy with the labels, without distancing, in another order for each.
            names: see `fit`.
            every: see `fit`.
            progress: see `fit`.
            target: see `fit`.
        """
        if target is not None:
            self._take_scores(target)
        with torch.inference_mode(mode=False):
            return self._fit(data, names, kinds, every, progress)

    def _fit(
        self,
        data: object,
        names: Labels,
        kinds: Sequence[Kind],
        every: int | None,
        progress: Callable[[Stage], None] | None,
    ) -> "GAD":
        if any(module.training for module in self.model.modules() if isinstance(module, _OF_A_BATCH)):
            raise InputError(
                "The model is in training mode, where its maps would explain an accident of the batch. Call "
                "model.eval() first; how the copies are trained is said by mode=."
            )
        info = model_info(self.model)
        samples = samples_of(data, self.classes, names, info.class_names)
        recipe = self.recipe
        if self._batch_size is None and samples.batch_size is not None:
            recipe = self.recipe = Recipe(**{**asdict(recipe), "batch_size": samples.batch_size})
        original = survey(self.model, samples, self.classes, recipe.batch_size, autocast=recipe.autocast)
        check_outputs(original, self.classes)
        self._open(original.content, names)
        self._record["doubts"] = doubts(original, self.classes, self.titles)
        labels = {
            "distanced": original.labels,
            "tuned": original.labels,
            "shuffled": shuffled(original.labels, seed_of(recipe.seed, "shuffled labels")),
        }
        trained: dict[str, dict[str, float]] = self._record["trained"]
        for kind in kinds:
            for alphas in self.networks.trained:
                file = self.networks.file(alphas, kind)
                if self.networks.has(alphas, kind):
                    continue
                shift = watch(original, labels[kind], self.classes)
                network = self.networks.scratch()
                name = f"{kind} network, alpha {told(alphas)}"
                targets = distanced(original.logits, labels[kind], self.classes, alphas)
                how = recipe
                loss: Callable[[Tensor, Tensor], Tensor] = F.mse_loss
                if kind == "tuned":
                    targets, loss = labels[kind], F.cross_entropy
                    how = dataclasses.replace(recipe, seed=seed_of(recipe.seed, name))
                checkpoint = self.folder / _CHECKPOINT
                done = train(
                    network, samples, original.numbers, targets, how, name, loss=loss,
                    checkpoint=checkpoint, belongs=self._record["identity"], every=every, shift=shift,
                    progress=progress,
                )  # fmt: skip
                trained[file.name] = {"steps": done.steps, "last loss": done.loss, "seconds": done.seconds}
                self.networks.keep(network, alphas, kind)
                record.write(self.folder, self._record)
                checkpoint.unlink(missing_ok=True)
                del network
        rows = []
        # Enough to tell how far a network moved, at a cost that does not count beside the training.
        part = torch.linspace(0, len(original.numbers) - 1, min(LOOKED_AT, len(original.numbers))).round().long()
        for kind in kinds:
            asked = Said(original.numbers[part], labels[kind][part], original.logits[part], "")
            for alphas, support in self.networks.each(kind):
                said = survey(
                    support, samples, self.classes, recipe.batch_size,
                    among=asked.numbers.tolist(), autocast=recipe.autocast,
                )  # fmt: skip
                known = trained.get(self.networks.file(alphas, kind).name, {})
                rows.append(
                    {"kind": kind, "alpha": told(alphas), "alpha 1": alphas[0], "alpha 2": alphas[1]}
                    | {"steps": known.get("steps", 0), "seconds": known.get("seconds", 0.0)}
                    | {"label agreement": agreement(original, self.classes)}
                    | moved(asked, said, self.classes, alphas)
                )
        self._record["report"] = rows
        record.write(self.folder, self._record)
        self._tell(rows)
        return self

    def fidelity(self, data: object, *, names: Labels = None) -> pd.DataFrame:
        """Whether the support networks still see images as the original does; ask it of images held out from `fit`.

        Args:
            data: see `fit`.
            names: see `fit`.

        Returns:
            A row for each support network: the share of images on which it decides as the original, and Spearman's
            correlation of each logit of the pair over the images of each class.
        """
        return fidelities(*self.said(data, names=names), self.classes)

    def explain(
        self,
        images: object,
        methods: str | Method | Sequence[str | Method] = ("input_x_gradient", "integrated_gradients"),
        target: TargetLike = None,
        *,
        reading: Consistency = _DEFAULT,
        question: Question | None = None,
        references: object = None,
        seed: int = 0,
        chunk: int | None = None,
        on_refusal: Literal["raise", "record"] = "raise",
        progress: Callable[[int, int], None] | None = None,
    ) -> GADExplanation:
        """Explain images by what stays important in all networks.

        Args:
            images: see `sightline.explain`.
            methods: see `sightline.explain`.
            target: None for the likelier of the two classes, for each image; a class of the pair, or one for each
                image; else see `sightline.explain`.
            reading: what "stays important" means.
            question: `pair` or `class`, see `GAD`; by default what the object says. Targets other than classes, such
                as a `Pair`, are asked as they are.
            references: see `sightline.explain`.
            seed: see `sightline.explain`.
            chunk: see `sightline.explain`.
            on_refusal: see `sightline.explain`.
            progress: called with (rows done, rows of all networks) after each pass.

        Raises:
            InputError: images, methods or target cannot be used, `fit` was not called, or the question is `pair` and
                a class is none of the pair.
            RefusalError: see `sightline.explain`.
        """
        if target is None:
            batch = as_images(images.tensor if isinstance(images, ImageBatch) else images)
            target = ClassesOf(None, len(batch), self.classes)
        settings: dict[str, Any] = {"references": references, "seed": seed, "chunk": chunk, "on_refusal": on_refusal}
        settings |= {"question": question, "progress": progress}
        return self.explain_each(images, methods, [target], reading=reading, **settings)[0]

    def explain_each(
        self,
        images: object,
        methods: str | Method | Sequence[str | Method] = ("input_x_gradient", "integrated_gradients"),
        targets: Sequence[TargetLike] | None = None,
        *,
        reading: Consistency = _DEFAULT,
        question: Question | None = None,
        references: object = None,
        seed: int = 0,
        chunk: int | None = None,
        on_refusal: Literal["raise", "record"] = "raise",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[GADExplanation]:
        """Explain the same images for several targets; by default for both classes of the pair.

        Args:
            images: see `explain`.
            methods: see `explain`.
            targets: what is explained, each as `sightline.explain` takes it; by default both classes.
            reading: see `explain`.
            question: see `explain`.
            references: see `explain`.
            seed: see `explain`.
            chunk: see `explain`.
            on_refusal: see `explain`.
            progress: see `explain`.

        Returns:
            One explanation for each target.
        """
        settings: dict[str, Any] = {"references": references, "seed": seed, "chunk": chunk, "on_refusal": on_refusal}
        methods = self._named(methods)
        parts = [_part(progress, number, 1 + len(self.alphas)) for number in range(1 + len(self.alphas))]
        wanted = check_question(question or self.question)
        chosen = asked_of(self, images, self.classes if targets is None else targets, wanted)
        originals = explain(self.model, images, methods, targets=chosen, **settings, progress=parts[0])  # type: ignore[call-overload]
        about = self._about(wanted)
        return stacked(self.networks.each(), originals, images, methods, chosen, reading, settings, about, parts[1:])

    def explain_with_controls(
        self,
        images: Tensor | ImageBatch,
        methods: str | Method | Sequence[str | Method] = ("input_x_gradient", "integrated_gradients"),
        targets: Sequence[ClassesLike] | None = None,
        *,
        reading: Consistency = _DEFAULT,
        question: Question | None = None,
        controls: Sequence[Control | str] | Literal["all"] | None = None,
        seed: int = 0,
    ) -> Controlled:
        """Explain images by GAD and by what GAD has to be better than; the original network is asked once.

        Args:
            images: see `explain`.
            methods: see `explain`; refusals are recorded.
            targets: classes of the pair, one or one for each image; by default one after the other.
            reading: see `explain`.
            question: see `explain`. Where it is `pair`, the original network's map of the pair is what GAD starts from.
            controls: further controls; see `evaluate`.
            seed: see `explain`.
        """
        methods = self._named(methods)
        wanted = check_question(question or self.question)
        given = [_given(target) for target in (self.classes if targets is None else targets)]
        pairs = [of_pair(target, self.classes) for target in given]
        settings: dict[str, Any] = {"seed": seed, "on_refusal": "record"}
        chosen: list[Any] = list(pairs) if wanted == "pair" else list(given)
        beside = [] if wanted == "pair" else pairs
        try:
            asked = explain(self.model, images, methods, targets=[*chosen, *beside], **settings)
        except RefusalError:
            if wanted == "pair":
                raise
            # Where none of the methods explains a pair, the classes are explained alone.
            asked = explain(self.model, images, methods, targets=chosen, **settings)
        originals = asked[: len(chosen)]
        rather = originals if wanted == "pair" else asked[len(chosen) :]
        about = self._about(wanted)
        gad = stacked(self.networks.each(), originals, images, methods, chosen, reading, settings, about)
        shuffled = []
        if self.networks.complete("shuffled"):
            networks = self.networks.each("shuffled")
            shuffled = stacked(networks, originals, images, methods, chosen, reading, settings, about)
        more = as_controls(controls)
        copies: dict[str, list[GADExplanation]] = {
            control: stacked(self.networks.each(kind), originals, images, methods, chosen, reading, settings, about)
            for control, kind in COPIES.items()
            if control in more
        }
        single: dict[str, list[Explanation]] = {}
        missing: dict[str, str] = {}
        for control, method in SINGLE.items():
            if control in more:
                try:
                    single[control] = explain(self.model, images, method, targets=list(pairs), seed=seed)
                except RefusalError as error:
                    # Not every network has such a map.
                    missing[control] = str(error)
        return Controlled(gad, shuffled, rather, copies, single, missing)

    def change(
        self,
        images: object,
        methods: str | Method | Sequence[str | Method] = ("input_x_gradient", "integrated_gradients"),
        target: ClassesLike | None = None,
        *,
        kind: Kind = "distanced",
        references: object = None,
        seed: int = 0,
        chunk: int | None = None,
        on_refusal: Literal["raise", "record"] = "raise",
    ) -> Explanation:
        """What distancing changed: what the largest distance took from the other class's logit.

        The map of the original network for the other class of the pair, less that of the support network of the
        largest distance. It shows by what the copy pushes the classes apart, not what the original network sees.

        Args:
            images: see `sightline.explain`.
            methods: see `sightline.explain`.
            target: the class of each image, of the pair; by default the likelier one. The other class's map is
                compared, which distancing changes on images of this class.
            kind: `distanced`, or `shuffled` for the control that was trained on shuffled labels.
            references: see `sightline.explain`.
            seed: see `sightline.explain`.
            chunk: see `sightline.explain`.
            on_refusal: see `sightline.explain`.

        Returns:
            An explanation of the other class whose maps are these differences, signed.

        Raises:
            InputError: images, methods or target cannot be used, or there are no such networks.
            RefusalError: see `sightline.explain`.

        Example:
            >>> gad.change(images, "input_x_gradient").show()  # doctest: +SKIP
        """
        settings: dict[str, Any] = {"references": references, "seed": seed, "chunk": chunk, "on_refusal": on_refusal}
        return changed(self, images, self._named(methods), target, kind, settings)

    def _named(self, methods: str | Method | Sequence[str | Method]) -> list[Method]:
        """The methods with layers by name, since a module of the original is none of a support network's."""
        given = [methods] if isinstance(methods, str | Method) else methods
        return methods_named(self.model, [as_method(one) for one in given])

    def _about(self, question: Question) -> tuple[list[str], dict[str, Any]]:
        """What an explanation says of the networks: notes, and settings."""
        keys = ("classes", "alphas", "strategy", "recipe", "report")
        return self.notes, {key: self._record.get(key) for key in keys} | {"question": question}

    def evaluate(
        self,
        images: Tensor | ImageBatch,
        methods: Sequence[str | Method] | None = None,
        readings: Consistency | Sequence[Consistency] = (_DEFAULT,),
        *,
        question: Question | None = None,
        controls: Sequence[Control | str] | Literal["all"] | None = None,
        blur: float = 0.0,
        fills: Sequence[Fill | str] = (Fill.BLACK,),
        black: Tensor | None = None,
        per_component: bool = False,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Evaluation:
        """Measure regions and what occluding them does, for both classes of each image, beside controls.

        Mazini Rodrigues et al. 2024, arXiv 2401.14434, sections 5, 6.1 and 6.2. Controls: distancing with shuffled
        labels, the original map cut higher, a random part of the original's pixels, the original network's map of one
        class rather than the other; each at GAD's number of pixels and at GAD's hull area.

        Args:
            images: held out from `fit`; see `sightline.explain`.
            methods: see `sightline.explain`; by default the paper's five, with its settings (`paper.methods`).
            readings: what "stays important" means.
            question: see `explain`; by default `class` for `PAPER_LIKE`, and for other readings what the object says.
            controls: further controls besides the standard ones, by name, or `all`; see `Control`.
            blur: standard deviation in pixels of a Gaussian by which the maps of every arm are blurred first.
            fills: what an occluded region is filled with.
            black: a black pixel as the model sees it, shape (channel,), where neither images nor model tell; also the
                baseline of methods that start from black.
            per_component: whether pixels that touch get a hull of their own, instead of one around all.
            seed: of random pixels, and of methods that draw.
            progress: called with images done and images in all.

        Raises:
            InputError: `fit` was not called, or no method could be evaluated.
        """
        return evaluate(
            self, images, paper.methods() if methods is None else methods,
            [readings] if isinstance(readings, Consistency) else list(readings),
            question=question, controls=controls, blur=blur,
            fills=fills, black=black, per_component=per_component, seed=seed, progress=progress,
        )  # fmt: skip

    def _repr_html_(self) -> str:
        return str(render(self, "html"))

    def said(self, data: object, *, names: Labels = None) -> tuple[Said, dict[Step, Said]]:
        """What the original network says of the pair's images, and what each support network does."""
        samples = samples_of(data, self.classes, names, model_info(self.model).class_names)
        size = self.recipe.batch_size
        before = survey(self.model, samples, self.classes, size)
        return before, {a: survey(network, samples, self.classes, size) for a, network in self.networks.each()}

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

    @property
    def names(self) -> tuple[str, str] | None:
        """How the pictures of the two classes were labelled in the fit, where by names."""
        names = self._record.get("names")
        return (names[0], names[1]) if names else None

    @property
    def titles(self) -> tuple[str, str]:
        """The two classes in words: the number of the output, and its name where one is known."""
        names, known = self.names, model_info(self.model).class_names or ()
        said = [
            f"{names[place] if names else known[c]} (output {c})" if names or c < len(known) else f"output {c}"
            for place, c in enumerate(self.classes)
        ]
        return said[0], said[1]

    def _take_scores(self, target: ScoresOf) -> None:
        """From now on ask the networks for what a function makes of their output."""
        self.model, self._target = with_scores(self._plain, target), True
        interpolated = self.strategy == "interpolated"
        self.networks = Networks(self.model, self.alphas, self.folder, interpolated=interpolated)

    @classmethod
    def load(cls, folder: str | Path, model: nn.Module, target: ScoresOf | None = None) -> "GAD":
        """Read what `save` wrote, for the network it was fitted to.

        Args:
            folder: where it is.
            model: the network that it was fitted to.
            target: the function that `fit` was given as its target, if any.

        Raises:
            InputError: there is nothing of the kind, or it was fitted to another network.
        """
        there = record.read(Path(folder))
        try:
            recipe, strategy = Recipe(**there["recipe"]), there["strategy"]
            question = there.get("question", "pair")
            classes, alphas = tuple(there["classes"]), [tuple(pair) for pair in there["alphas"]]
        except (KeyError, TypeError) as error:
            raise record.unreadable(Path(folder), error) from error
        if there.get("base") != fingerprint(model):
            raise InputError(
                f"The support networks in {folder} were trained from a network with other weights than the one that "
                "came; maps of the two say nothing about each other. Load the network they were fitted to."
            )
        if bool(there.get("target")) is (target is None):
            raise InputError(
                f"The support networks in {folder} were fitted {'with' if target is None else 'without'} target=, the "
                "function from the model's output to its class scores. Give GAD.load the same."
            )
        loaded = cls(model, classes, alphas, strategy=strategy, question=question, folder=folder, **asdict(recipe))
        if target is not None:
            loaded._take_scores(target)
        loaded._record = there
        loaded.networks.known = set(there.get("trained", {}))
        loaded._tell(there.get("report", []))
        return loaded

    def _open(self, data: str, names: Labels) -> None:
        """Begin a fit in the folder, or go on with the same one."""
        identity = {
            "base": fingerprint(self.model),
            "data": data,
            "classes": list(self.classes),
            "recipe": asdict(self.recipe),
            "target": self._target,
        }
        # None of these is of the identity: a network is the same whatever others are trained beside it.
        asked = {
            "alphas": [list(pair) for pair in self.alphas],
            "strategy": self.strategy,
            "question": self.question,
            "names": names and list(names),
        }
        self._record = record.begin(self.folder, identity, asked)
        self.networks.known = set(self._record["trained"])

    def _tell(self, rows: list[dict[str, Any]]) -> None:
        self.report = pd.DataFrame(rows)
        self.notes = list(self._record.get("doubts", []))
        for row in rows:
            for place in (1, 2):
                asked, came = row[f"alpha {place}"], row[f"shift {place}"]
                if row["kind"] == "distanced" and not came >= ENOUGH * asked:
                    moved = "moved only part of the way" if came >= HARDLY * asked else "hardly moved"
                    own, other = self.titles[place - 1], self.titles[2 - place]
                    # Rounding must not make it what is wanted.
                    share = min(came / asked, ENOUGH - 0.01)
                    self.notes.append(
                        f"The network for alpha {row['alpha']} {moved}: on images of {own} the logit of {other} fell "
                        f"by {came:.2g} of {asked:g} ({share:.0%}; at least {ENOUGH:.0%} is wanted). Train it "
                        "longer, or at a higher rate, before its maps are taken for those of distanced classes."
                    )


def _part(progress: Callable[[int, int], None] | None, number: int, networks: int) -> Callable[[int, int], None] | None:
    """Progress of one network as a part of that of all, each of which makes the same passes."""
    if progress is None:
        return None
    return lambda done, of: progress(number * of + done, networks * of)


def _given(target: Any) -> Any:
    """A target, where it is classes as Python's integers."""
    numbers = as_integers(target)
    return target if numbers is None else numbers


def _pair(classes: object, names: Sequence[str]) -> tuple[int, int]:
    numbers = as_integers(class_numbers(classes, names))
    if not isinstance(numbers, Sequence) or len(numbers) != 2 or min(numbers) < 0 or numbers[0] == numbers[1]:
        raise InputError(
            "classes are two different outputs of the network, by number or name, as in (281, 207); got "
            f"{described(classes)}."
        )
    return numbers[0], numbers[1]
