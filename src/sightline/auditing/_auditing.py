"""`audit`: a model, images and methods in; figures, intervals and verdicts out."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any, Literal, ParamSpec, Protocol, cast, overload

import numpy as np
import torch
from torch import Tensor, nn

from sightline._common.checksums import checksum
from sightline._common.options import takes
from sightline._common.seeds import image_key
from sightline.arrays import ImageBatch, as_images, encoding_of, whole
from sightline.auditing._block import Block, Partners, ordered_outputs
from sightline.auditing._forecast import Forecast
from sightline.auditing._found import Audit
from sightline.auditing._masks import Masks, as_masks
from sightline.auditing._options import TESTS, AuditOptions, Progress
from sightline.auditing._pairs import Pairs, Sample
from sightline.auditing._randomisation import Randomisation
from sightline.auditing._store import ScoreStore
from sightline.auditing._subjects import Asked, Custom, Subjects
from sightline.auditing._verdicts import Rule
from sightline.auditing.questions import (
    ClassSensitivity,
    Completeness,
    Convergence,
    Faithfulness,
    ImageSensitivity,
    InputBias,
    Localisation,
    ParameterRandomization,
    Question,
    References,
    Stability,
)
from sightline.errors import InputError
from sightline.explaining._explanation import described
from sightline.explaining._layer_names import methods_named
from sightline.methods import Method, method_or_function
from sightline.models import OutputKind, as_kind, ask, fingerprint, home_of, model_info, output_of

FURTHER = ("convergence", "faithfulness", "localisation")
_FLOATS = 1 << 25
P = ParamSpec("P")


class AuditCall(Protocol[P]):
    """The type of `audit`: the options are those of `AuditOptions`, and a dry run gives a `Forecast`."""

    @overload
    def __call__(self, model: Callable[..., Any], images: Asked, /, *options: P.args, **more: P.kwargs) -> Audit: ...
    @overload
    def __call__(self, *options: Any, dry_run: Literal[True], **more: Any) -> Forecast: ...


def _typed(options: Callable[P, AuditOptions]) -> Callable[[Callable[..., Audit | Forecast]], AuditCall[P]]:
    return cast("Callable[[Callable[..., Audit | Forecast]], AuditCall[P]]", takes(cast("type", options)))


@_typed(AuditOptions)
def audit(  # noqa: D417 - {options} are documented by `AuditOptions`
    model: Callable[..., Any], images: Asked, *options: Any, dry_run: bool = False, **more: Any
) -> Audit | Forecast:
    """Ask of some methods whether their maps explain this model.

    Every figure stands between a floor (the map of another image, of another predicted class) and a ceiling (the map of
    the same image under slight noise) that are measured in the same run, with an interval over images, or groups of
    them, and random networks. Verdicts are corrected for their number. Four controls are audited beside the methods:
    noise, the input itself, an edge detector, and the gradient.

    Args:
        model: a network in evaluation mode (or any callable from a batch of images to its output).
        images: see `sightline.explain`; a verdict needs at least twenty.
        {options}
        dry_run: whether only to say how many images and random networks a verdict will need, and how long the audit
            will take: a `Forecast`.

    Raises:
        InputError: images, methods or tests cannot be used, or the folder holds another audit.
        RefusalError: the network gives no class scores, or every method is refused on it.
    """
    asked = AuditOptions(*options, **more)
    plan = Plan(model, images, asked)
    if dry_run:
        return plan.forecast()
    for number in range(plan.blocks):
        plan.keep(number, progress=asked.progress)
    if asked.progress is not None:
        asked.progress("done", plan.blocks, plan.blocks)
    return plan.found()


class Plan:
    """An audit as blocks of images and questions that know nothing of each other, so that others may see to some.

    Args:
        model: see `audit`.
        images: see `audit`.
        options: see `audit`.

    Attributes:
        blocks: how many there are.

    Raises:
        InputError: see `audit`.
        RefusalError: see `audit`.
    """

    def __init__(self, model: Callable[..., Any], images: Asked, options: AuditOptions) -> None:
        methods, tests, seed, references = options.methods, options.tests, options.seed, options.references
        self._model, self._images, self._seed, self._tests = model, images, seed, tests
        self._batch = batch = as_images(_tensor(images))
        unknown = [name for name in tests if name not in {*TESTS, *FURTHER}]
        if unknown or not tests:
            raise InputError(f"Tests are {', '.join(TESTS + FURTHER)}; got {', '.join(unknown) or 'none'}.")
        marked = _marked(options, batch)
        given = [methods] if isinstance(methods, str | Method | Custom) else list(methods)
        made = [method_or_function(one) for one in given]
        rows = [methods_named(model, [one])[0] if isinstance(one, Method) else one for one in made]
        self._subjects = Subjects(rows, seed, references)
        how = options.randomisation or Randomisation(seed=seed)
        self._logits = ask(model, batch, 64)
        self._output = output_of(model, batch, self._logits, as_kind(options.output))
        self._questions = _questions(model, batch, tests, how, self._subjects, marked, self._output)
        self._explained = ordered_outputs(self._logits, self._output, batch, seed)[:, 0]
        names = images.names if isinstance(images, ImageBatch) else [f"image {i}" for i in range(len(batch))]
        keys = [image_key(image) for image in batch]
        self._sample = Sample.of(names, keys, self._explained.numpy(), options.groups, seed)
        size = _block_size(batch, len(self._subjects.names), options.block)
        self._identity = {
            "model": fingerprint(model) if isinstance(model, nn.Module) else repr(model),
            "images": image_key(batch),
            "output": asdict(self._output),
            "methods": [*map(_named, self._subjects.rows), *(custom.name for custom in self._subjects.custom)],
            "tests": list(tests),
            "randomisation": asdict(how),
            "references": None if references is None else image_key(as_images(_tensor(references))),
            "encoding": str(encoding_of(model, images)),
            "groups": None if options.groups is None else checksum(json.dumps(self._sample.groups.tolist())),
            "floor": {
                "pairs": int(self._sample.others.known.sum()),
                "of other classes": int(self._sample.others.kept.sum()),
            },
            "masks": None if marked is None else image_key(torch.stack([marked.objects, marked.counted])),
            "seed": seed,
            "block": size,
        }
        self._store = ScoreStore(options.folder, self._identity)
        self._names: dict[int, list[tuple[Question, list[str]]]] = {}
        starts = list(range(0, len(batch), size))
        self._rows = [range(*ends) for ends in pairwise([*starts, len(batch)])]
        self.blocks = len(starts)

    def forecast(self) -> Forecast:
        """What the audit will be able to decide, and how long it will take, from the time of its first block."""
        block = self._block(0, compares=False)
        # Once without the clock, for what only the first pass does.
        _ = block.base
        started = time.perf_counter()
        maps = self._subjects.maps(self._model, block.images, [block.predicted], "forecast").maps[0]
        list(block.compared("forecast", "forecast", maps))
        each = (time.perf_counter() - started) / len(self._rows[0])
        outputs = self._logits.shape[1]
        sets = 1 + sum(question.asks(outputs) for question in (References(), *self._questions))
        randomised = [one for one in self._questions if isinstance(one, ParameterRandomization)]
        return Forecast(
            images=len(self._batch),
            networks=randomised[0].how.networks if randomised and randomised[0].rules else 0,
            verdicts=sum(len(one.rules) for one in self._questions) * len(self._subjects.names),
            seconds=each * len(self._batch) * sets,
        )

    @property
    def kept(self) -> bool:
        """Whether the scores of all parts are there and whole."""
        blocks = (self._block(number, compares=False) for number in range(self.blocks))
        return all(self._store.has(name) for block in blocks for _, names in self._parts(block) for name in names)

    def shares(self, workers: int) -> list[tuple[int, int, int]]:
        """What to hand to so many workers, as arguments of `keep`.

        A block goes to one worker, who makes the maps of its images once, for as long as there are blocks enough.
        Where there are not, randomised networks are handed to workers of their own; but where the answers steer a
        sampling, maps depend on what else is asked, and all must be asked together.
        """
        if any(row.sampling.steered for row in self._subjects.rows):
            workers = 1
        of = min(-(-workers // self.blocks), 1 + sum(one.parts for one in self._questions if one.parts > 1))
        return [(number, share, of) for share in range(of) for number in range(self.blocks)]

    def keep(self, number: int, share: int = 0, of: int = 1, *, progress: Progress | None = None) -> None:
        """See to a block, or a share of it, but for what the folder has.

        Args:
            number: the block's.
            share: which share: the first has what is asked of the network as it is, the others each some of the
                randomised ones.
            of: how many shares there are.
            progress: see `audit`.
        """

        def tell(words: str) -> None:
            if progress is not None:
                progress(words, number, self.blocks)

        block = self._block(number, compares="class_sensitivity" in self._tests and share == 0)
        begun = False
        for question, names in self._parts(block):
            own = [i for i in range(len(names)) if _share(i, len(names), of) == share]
            missing = [i for i in own if not self._store.has(names[i])]
            for i in set(own) - set(missing):
                # What was refused before an interruption is not asked after it.
                self._subjects.refused |= self._store.refused(names[i])
            if missing and not begun:
                tell("maps")
                _, begun = block.base, True
            if missing:
                for i, scores in question.by_part(block, tell, missing):
                    self._store.keep(names[i], scores, self._subjects.refused)

    def _block(self, number: int, *, compares: bool) -> Block:
        rows = self._rows[number]
        return Block(
            self._model, self._images[rows.start : rows.stop], rows, self._logits[rows.start : rows.stop],
            self._output, self._subjects, self._seed, compares,
            self._partners(rows, self._sample.others, own=True), self._partners(rows, self._sample.alike, own=False),
        )  # fmt: skip

    def _partners(self, rows: range, pairs: Pairs, *, own: bool) -> Partners | None:
        """Images elsewhere in the audit to compare with, asked about their own class or about that of these."""
        partners = pairs.partners[rows.start : rows.stop].tolist()
        known = torch.from_numpy(pairs.known[rows.start : rows.stop])
        if not bool(known.any()):
            return None
        return Partners(self._images, partners, self._explained[partners if own else list(rows)], known)

    def _parts(self, block: Block) -> list[tuple[Question, list[str]]]:
        """What is asked of a block, and under which names the scores of its parts are kept."""
        start = block.numbers.start
        if start not in self._names:
            self._names[start] = [
                (question, [f"{name}.{i:02d}" for i in range(question.parts)] if question.parts > 1 else [name])
                for question in (References(), *self._questions)
                if not question.cannot_bite(block.model, block.tensor, block.logits)
                for name in [f"{start:05d}.{question.name}"]
            ]
        return self._names[start]

    def found(self) -> Audit:
        """Verdicts, once every block was seen to."""
        blocks = (self._block(number, compares=False) for number in range(self.blocks))
        kept = [name for block in blocks for _, names in self._parts(block) for name in names]
        for name in kept:
            self._subjects.refused |= self._store.refused(name)
        scores = self._store.scores(kept)
        # Which blocks came before the refusal depends on who saw to them.
        scores = scores[~scores["method"].isin(self._subjects.refused)].reset_index(drop=True)
        rules: dict[str, Rule | None] = {}
        reasons: dict[str, str] = {}
        told = {question.name: question.told for question in self._questions}
        for question in self._questions:
            own: dict[str, Rule | None] = {rule.test: rule for rule in question.rules} or {question.name: None}
            rules |= own
            reasons |= dict.fromkeys(own, question.cannot_bite(self._model, self._batch, self._logits))
        encoding = encoding_of(self._model, self._images)
        null = None if encoding is None else encoding.null_colour
        settings = {**self._identity, "null_colour": null, "weights": model_info(self._model).weights}
        return Audit.of(
            scores,
            self._subjects,
            rules,
            reasons,
            told,
            self._sample,
            settings,
        )


def _tensor(images: Asked) -> Tensor:
    return images.tensor if isinstance(images, ImageBatch) else images


def _named(row: Method) -> dict[str, Any]:
    """What decides a method's maps, the same in every process."""
    return {
        "name": row.name,
        "formula": row.formula,
        "sampling": described(row.sampling),
        "propagation": row.propagation.name,
        "aggregation": described(row.aggregation),
        "reduction": row.reduction,
        "times": row.times and row.times.name,
    }


def _questions(
    model: Any,
    batch: Tensor,
    tests: Sequence[str],
    how: Randomisation,
    subjects: Subjects,
    masks: Masks | None,
    output: OutputKind,
) -> list[Question]:
    local = [found for row in subjects.rows if (found := row.without_input) is not None]
    again = Subjects(local, subjects.seed, subjects.references, alone=True) if local else None
    made: dict[str, Callable[[], Question]] = {
        "class_sensitivity": lambda: ClassSensitivity(output),
        "image_sensitivity": ImageSensitivity,
        "parameter_randomization": lambda: ParameterRandomization(how, _stages(model, batch, how)),
        "input_bias": lambda: InputBias(float(batch.double().std()), again),
        "completeness": Completeness,
        "stability": Stability,
        "faithfulness": Faithfulness,
        "convergence": Convergence,
    }
    if masks is not None:
        made["localisation"] = lambda: Localisation(masks)
    return [made[name]() for name in dict.fromkeys([*tests, *(["localisation"] if masks is not None else [])])]


def _marked(options: AuditOptions, batch: Tensor) -> Masks | None:
    masks, threshold, ignore = options.masks, options.threshold, options.ignore
    if masks is None and ("localisation" in options.tests or threshold is not None or ignore is not None):
        raise InputError(
            "Localisation needs masks=: for each image, of its height and width, true where the object is."
        )
    if masks is None:
        return None
    height, width = batch.shape[2:]
    found = as_masks(masks, (len(batch), height, width), threshold=threshold, ignore=ignore)
    if not bool(found.objects.any()):
        raise InputError(
            "None of the masks has a pixel of an object, so there is nothing to localise. Check the value that marks "
            "objects in them, the threshold, and what is ignored."
        )
    return found


def _stages(model: Any, batch: Tensor, how: Randomisation) -> list[Any]:
    if not isinstance(model, nn.Module) or next(model.parameters(), None) is None:
        return []
    return how.plan(model, batch[:1].to(*home_of(model, batch)))


def _share(part: int, parts: int, of: int) -> int:
    """Which share has a part of a question; questions that do not fall into parts are in the first."""
    return 0 if parts == 1 else min(1 + part * (of - 1) // parts, of - 1)


def _block_size(batch: Tensor, methods: int, asked: int | None) -> int:
    """Images of a block: the maps of all methods for six classes and some more fit a fixed share of memory."""
    if asked is not None:
        whole("block", asked)
        return asked
    return int(np.clip(_FLOATS // (10 * methods * int(batch[0, 0].numel())), 2, 32))
