"""Gradient Artificial Distancing: support networks that push two classes apart, and what stays important in all."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from sightline._common.renderers import render
from sightline.arrays import ImageBatch
from sightline.errors import InputError
from sightline.evaluation import Fill
from sightline.explaining import Classes as ClassesOf
from sightline.explaining import ClassesLike, Explanation, TargetLike, explain
from sightline.gad import _record as record
from sightline.gad._asking import Request, asked_of, changed, controlled, length_of, named, stacked
from sightline.gad._consistency import Consistency
from sightline.gad._controls import Control
from sightline.gad._evaluation import Evaluation
from sightline.gad._explained import Controlled, GADExplanation
from sightline.gad._fit import Fit
from sightline.gad._fitting import fit_networks
from sightline.gad._measuring import evaluate
from sightline.gad._networks import Kind
from sightline.gad._paper import paper_methods
from sightline.gad._samples import Labels
from sightline.gad._scores import ScoresOf
from sightline.gad._settings import Measurement, Mode, Question, Strategy, Training, check_question
from sightline.gad._targets import Alpha
from sightline.gad._training import Stage
from sightline.methods import Method

_DEFAULT = Consistency()
Methods = str | Method | Sequence[str | Method]
METHODS = ("input_x_gradient", "integrated_gradients")


class GAD(Fit):
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
        size = {} if batch_size is None else {"batch_size": batch_size}
        training = Training(mode, rate, epochs, steps, seed=seed, autocast=autocast, **size)
        super().__init__(model, classes, alphas, training, strategy, question, folder)
        self._batch_size = batch_size

    def fit(
        self,
        data: object,
        *,
        names: Labels = None,
        controls: bool | Sequence[Kind] = True,
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
            controls: whether to train as many networks on shuffled labels, which know nothing of the classes: a gain
                that they show too is none. Or which controls: `shuffled`, and `tuned`, as many networks trained on as
                the classifier they are, by cross-entropy with the labels and without distancing.
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
        if target is not None:
            self.use_scores(target)
        more: Sequence[Kind] = (("shuffled",) if controls else ()) if isinstance(controls, bool) else controls
        for kind in more:
            if kind not in {"shuffled", "tuned"}:
                raise InputError(f"Networks that can be trained as controls are shuffled and tuned; got {kind!r}.")
        kinds = dict.fromkeys(("distanced", *more))
        fit_networks(self, data, list(kinds), names, batch_size=self._batch_size, every=every, progress=progress)
        return self

    def explain(
        self,
        images: Any,
        methods: Methods = METHODS,
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
            target = ClassesOf(None, length_of(images), self.classes)
        settings: dict[str, Any] = {"references": references, "seed": seed, "chunk": chunk, "on_refusal": on_refusal}
        settings |= {"question": question, "progress": progress}
        return self.explain_each(images, methods, [target], reading=reading, **settings)[0]

    def explain_each(
        self,
        images: Any,
        methods: Methods = METHODS,
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
        chosen = named(self.model, methods)
        parts = [_part(progress, number, 1 + len(self.alphas)) for number in range(1 + len(self.alphas))]
        wanted = check_question(question or self.question)
        asked = asked_of(self, images, self.classes if targets is None else targets, wanted)
        originals = explain(self.model, images, chosen, targets=asked, **settings, progress=parts[0])
        request = Request(images, chosen, asked, settings, reading)
        return stacked(self.networks.each(), originals, request, self.about(wanted), parts[1:])

    def explain_with_controls(
        self,
        images: Tensor | ImageBatch,
        methods: Methods = METHODS,
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
        return controlled(self, images, methods, targets, reading, question or self.question, controls, seed)

    def change(
        self,
        images: Any,
        methods: Methods = METHODS,
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
        return changed(self, images, named(self.model, methods), target, kind, settings)

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
            methods: see `sightline.explain`; by default the paper's five, with its settings (`paper_methods`).
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
        measurement = Measurement(
            readings=(readings,) if isinstance(readings, Consistency) else tuple(readings),
            question=question, controls=controls, blur=blur,
            fills=tuple(fills), black=black, per_component=per_component, seed=seed,
        )  # fmt: skip
        return evaluate(self, images, paper_methods() if methods is None else methods, measurement, progress)

    def _repr_html_(self) -> str:
        return str(render(self, "html"))

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
            training = Training(**there["training"])
            settings = {"strategy": there["strategy"], "question": there["question"], **asdict(training)}
            classes, alphas = tuple(there["classes"]), [tuple(pair) for pair in there["alphas"]]
        except (KeyError, TypeError) as error:
            raise record.unreadable(Path(folder), error) from error
        loaded = cls(model, classes, alphas, folder=folder, **settings)
        loaded.resume(there, target)
        return loaded


def _part(progress: Callable[[int, int], None] | None, number: int, networks: int) -> Callable[[int, int], None] | None:
    """Progress of one network as a part of that of all, each of which makes the same passes."""
    if progress is None:
        return None
    return lambda done, of: progress(number * of + done, networks * of)
