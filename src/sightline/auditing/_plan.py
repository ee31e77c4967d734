"""An audit as blocks of images: which parts there are, who has seen to them, and the verdicts once all are done."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline._common.checksums import checksum
from sightline._common.seeds import image_key
from sightline.arrays import ImageBatch, as_images, encoding_of, whole
from sightline.auditing._forecast import Forecast
from sightline.auditing._found import Audit
from sightline.auditing._options import AuditOptions, Progress
from sightline.auditing._pairs import Pairs, Sample
from sightline.auditing._store import ScoreStore
from sightline.auditing.questions import (
    Block,
    Custom,
    Partners,
    Question,
    References,
    Setup,
    Subjects,
    ordered_outputs,
    questions_of,
)
from sightline.auditing.questions._checked import answers, prepared
from sightline.auditing.questions._identity import identity
from sightline.errors import InputError
from sightline.evaluation import Asked, Masks, Randomisation, as_masks, values_of
from sightline.explaining import described, methods_named
from sightline.methods import Method, method_or_function
from sightline.models import as_kind, ask, fingerprint, model_info, output_of

_FLOATS = 1 << 25


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
        self._model, self._images, self._seed = model, images, options.seed
        self._batch = batch = as_images(values_of(images))
        masks = _masks(options, batch)
        asked = questions_of(options.tests, masked=masks is not None)
        methods = options.methods
        given = [methods] if isinstance(methods, str | Method | Custom) else list(methods)
        made = [method_or_function(one) for one in given]
        rows = [methods_named(model, [one])[0] if isinstance(one, Method) else one for one in made]
        self._subjects = Subjects(rows, options.seed, options.references)
        how = options.randomisation or Randomisation(seed=options.seed)
        self._logits = ask(model, batch, 64)
        self._output = output_of(model, batch, self._logits, as_kind(options.output))
        setup = Setup(model, batch, self._logits, self._output, self._subjects, how, masks, options.seed)
        self._questions = [prepared(question, setup) for question in asked]
        _check_tests(self._questions)
        self._outputs = ordered_outputs(self._logits, self._output, batch, options.seed)
        names = images.names if isinstance(images, ImageBatch) else [f"image {i}" for i in range(len(batch))]
        keys = [image_key(image) for image in batch]
        self._sample = Sample.of(names, keys, self._explained.numpy(), options.groups, options.seed)
        size = _block_size(batch, len(self._subjects.names), options.block)
        self._identity = {
            "model": fingerprint(model) if isinstance(model, nn.Module) else repr(model),
            "images": image_key(batch),
            "output": asdict(self._output),
            "methods": [*map(_named, self._subjects.rows), *(custom.name for custom in self._subjects.custom)],
            "tests": [question.name for question in asked],
            "questions": [identity(question) for question in asked],
            "randomisation": asdict(how),
            "references": None if options.references is None else image_key(as_images(values_of(options.references))),
            "encoding": str(encoding_of(model, images)),
            "groups": None if options.groups is None else checksum(json.dumps(self._sample.groups.tolist())),
            "floor": {
                "pairs": int(self._sample.others.known.sum()),
                "of other classes": int(self._sample.others.kept.sum()),
            },
            "masks": None if masks is None else image_key(torch.stack([masks.objects, masks.counted])),
            "seed": options.seed,
            "block": size,
        }
        self._store = ScoreStore(options.folder, self._identity)
        self._names: dict[int, list[tuple[Question, list[str]]]] = {}
        self._failed: dict[str, str] = {}
        starts = list(range(0, len(batch), size))
        self._rows = [range(*ends) for ends in pairwise([*starts, len(batch)])]
        self.blocks = len(starts)

    @property
    def _explained(self) -> Tensor:
        """Shape (image,): the class that is predicted, or the output that was drawn."""
        return self._outputs[:, 0]

    def forecast(self) -> Forecast:
        """What the audit will be able to decide, and how long it will take, from the time of its first block."""
        block = self._block(0, compares=0)
        # Once without the clock, for what only the first pass does.
        _ = block.base
        started = time.perf_counter()
        maps = self._subjects.maps(self._model, block.images, [block.predicted], "forecast").maps[0]
        list(block.compared("forecast", "forecast", maps))
        each = (time.perf_counter() - started) / len(self._rows[0])
        outputs = self._logits.shape[1]
        sets = 1 + sum(question.map_sets(outputs) for question in (References(), *self._questions))
        return Forecast(
            images=len(self._batch),
            networks=max(question.networks for question in self._questions),
            verdicts=sum(len(one.rules) for one in self._questions) * len(self._subjects.names),
            seconds=each * len(self._batch) * sets,
        )

    @property
    def kept(self) -> bool:
        """Whether the scores of all parts are there and whole."""
        blocks = (self._block(number, compares=0) for number in range(self.blocks))
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

        compares = sum(question.compares_classes for question in self._questions) if share == 0 else 0
        block = self._block(number, compares=compares)
        begun = False
        for question, names in self._parts(block):
            own = [i for i in range(len(names)) if _share(i, len(names), of) == share]
            missing = [i for i in own if not self._store.has(names[i]) or self._store.failure(names[i])]
            for i in set(own) - set(missing):
                # What was refused before an interruption is not asked after it.
                self._subjects.refused |= self._store.refused(names[i])
            if missing and question.name in self._failed:
                for i in missing:
                    self._store.keep(names[i], [], self._subjects.refused, self._failed[question.name])
                continue
            if missing and not begun:
                tell("maps")
                _, begun = block.base, True
            if missing:
                for i, scores, failure in answers(question, block, tell, missing):
                    self._store.keep(names[i], scores, self._subjects.refused, failure)
                    if failure:
                        self._failed[question.name] = failure

    def _block(self, number: int, *, compares: int) -> Block:
        rows = self._rows[number]
        return Block(
            self._model, self._images[rows.start : rows.stop], rows, self._logits[rows.start : rows.stop],
            self._outputs[rows.start : rows.stop], self._output, self._subjects, self._seed, compares,
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
                if not question.not_applicable(block.model, block.tensor, block.logits)
                for name in [f"{start:05d}.{question.name}"]
            ]
        return self._names[start]

    def found(self) -> Audit:
        """Verdicts, once every block was seen to."""
        blocks = (self._block(number, compares=0) for number in range(self.blocks))
        parts = [(question, name) for block in blocks for question, names in self._parts(block) for name in names]
        reasons: dict[str, str] = {}
        for question, name in parts:
            self._subjects.refused |= self._store.refused(name)
            if failure := self._store.failure(name):
                reasons.setdefault(question.name, failure)
        scores = self._store.scores([name for question, name in parts if question.name not in reasons])
        # Which blocks came before the refusal depends on who saw to them.
        scores = scores[~scores["method"].isin(self._subjects.refused)].reset_index(drop=True)
        for question in self._questions:
            if reason := question.not_applicable(self._model, self._batch, self._logits):
                reasons[question.name] = reason
        encoding = encoding_of(self._model, self._images)
        null = None if encoding is None else encoding.null_colour
        settings = {**self._identity, "null_colour": null, "weights": model_info(self._model).weights}
        return Audit.of(scores, self._subjects, self._questions, reasons, self._sample, settings)


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


def _check_tests(questions: list[Question]) -> None:
    """Refuse two questions that answer a test of one name."""
    known: dict[str, str] = {}
    for question in questions:
        for test in question.tests:
            if (other := known.setdefault(test, question.name)) != question.name:
                raise InputError(
                    f"Both {other} and {question.name} answer a test called {test}; rename it in one of them."
                )


def _masks(options: AuditOptions, batch: Tensor) -> Masks | None:
    masks, threshold, ignore = options.masks, options.threshold, options.ignore
    if masks is None and threshold is None and ignore is None:
        return None
    if masks is None:
        raise InputError(
            "threshold= and ignore= belong to masks=: for each image, of its height and width, true where the object "
            "is. Give masks= too."
        )
    height, width = batch.shape[2:]
    found = as_masks(masks, (len(batch), height, width), threshold=threshold, ignore=ignore)
    if not bool(found.objects.any()):
        raise InputError(
            "None of the masks has a pixel of an object, so there is nothing to localise. Check the value that marks "
            "objects in them, the threshold, and what is ignored."
        )
    return found


def _share(part: int, parts: int, of: int) -> int:
    """Which share has a part of a question; questions that do not fall into parts are in the first."""
    return 0 if parts == 1 else min(1 + part * (of - 1) // parts, of - 1)


def _block_size(batch: Tensor, methods: int, asked: int | None) -> int:
    """Images of a block: the maps of all methods for six classes and some more fit a fixed share of memory."""
    if asked is not None:
        whole("block", asked)
        return asked
    return int(np.clip(_FLOATS // (10 * methods * int(batch[0, 0].numel())), 2, 32))
