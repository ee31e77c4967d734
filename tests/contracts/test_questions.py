"""The questions of an audit: their scores of a method's maps, for each image."""

import math
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor

import sightline as sl
from helpers.contract import Contract, Declared, Network, Question
from sightline.aggregation import InputTimesSignal
from sightline.auditing import QUESTIONS, Randomisation
from sightline.sampling import Path

# What is asked about where the gradient promises nothing.
PATH = sl.Method(sampling=Path(steps=10), aggregation=InputTimesSignal(), name="path")


class TestQuestions(Contract):
    parts: ClassVar = {
        "class_sensitivity": Declared(lambda: "class_sensitivity", random=True, double=1e-2),
        "image_sensitivity": Declared(lambda: "image_sensitivity", random=True, double=1e-2),
        # Torch draws other weights in double precision.
        "parameter_randomization": Declared(lambda: "parameter_randomization", random=True, double=math.inf),
        "input_bias": Declared(lambda: "input_bias", double=1e-2),
        "completeness": Declared(lambda: "completeness", double=1e-2),
        "stability": Declared(lambda: "stability", random=True, double=1e-2),
        "convergence": Declared(lambda: "convergence", random=True, double=1e-2),
        "faithfulness": Declared(lambda: "faithfulness", double=1e-2, slow=True),
        "localisation": Declared(lambda: "localisation", double=1e-2),
    }
    count = 4
    together = 3

    @staticmethod
    def registered() -> Iterable[str]:
        return QUESTIONS.own

    def answer(self, part: str, question: Question) -> Tensor:
        images = question.images
        model = Network().eval().to(images.device, images.dtype)
        method = PATH if part == "completeness" else sl.catalogue()["gradient"]
        found = sl.audit(
            model,
            images,
            [method],
            [part],
            randomisation=Randomisation(stages=1, networks=2, seed=question.seed),
            masks=images[:, 0] > 0 if part == "localisation" else None,
            seed=question.seed,
            block=question.together,
        ).scores
        own = found[(found["test"] == part) & (found["method"] == method.name)]
        own = own.assign(network=own["network"].fillna(-1), draw=own["draw"].fillna(-1))
        table = own.pivot_table("value", "image", ["case", "measure", "network", "draw"], dropna=False)
        return torch.tensor(table.sort_index().to_numpy())
