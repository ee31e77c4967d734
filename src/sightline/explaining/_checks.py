"""The checks that every explanation carries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sightline._common.equality import Compared
from sightline.explaining._conservation import Conservation
from sightline.explaining._decomposition import Decomposition
from sightline.explaining._manifest import number

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Checks(Compared):
    """What every explanation carries, so that a map can be doubted on evidence.

    Attributes:
        operations: for each method, how many operations on the way from the input were `ruled`, `passed` and
            `not covered`.
        completeness: for each method that promises it, the residual sum of map - (value - value of the baseline),
            shape (image,); for FullGrad, the sum of all parts of the decomposition less the value; for relevance that
            a propagation promises to conserve, the sum of the map less the relevance that set out, NaN for images where
            biases or other constants received a share.
        conservation: for each method of relevance, how much of the explained value arrived, and where the rest went.
        decomposition: for each method that draws the exact decomposition of the explained value (FullGrad), its parts.
        evaluations: for each method that chooses where to ask, how often it asked, shape (image,).
        nan: for each method, how many values of its maps are not finite.
        notes: sentences a reader should see before the picture: maps that are zero everywhere, saturated outputs.
        settings: seed, dtype, device, rows per pass and versions.
    """

    operations: Mapping[str, Mapping[str, int]]
    completeness: Mapping[str, Tensor]
    conservation: Mapping[str, Conservation]
    decomposition: Mapping[str, Decomposition]
    evaluations: Mapping[str, Tensor]
    nan: Mapping[str, int]
    notes: tuple[str, ...]
    settings: Mapping[str, Any]

    @property
    def table(self) -> "pd.DataFrame":
        """The checks with a row for each method."""
        import pandas as pd

        rows = {
            name: {
                **counts,
                "not finite": self.nan.get(name, 0),
                "completeness residual": (
                    float(np.nanmax(self.completeness[name].abs().numpy()))
                    if name in self.completeness
                    else float("nan")
                ),
                "relevance arrived": (
                    self.conservation[name].lost["arrived"] if name in self.conservation else float("nan")
                ),
            }
            for name, counts in self.operations.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    def record(self, method: str) -> dict[str, Any]:
        """What a manifest says of a method that has a map; see `of_records`."""
        entry: dict[str, Any] = {
            "operations": dict(self.operations.get(method, {})),
            "not_finite": self.nan[method],
        }
        if method in self.completeness:
            entry["completeness_residual"] = self.completeness[method].tolist()
        if method in self.evaluations:
            entry["evaluations"] = self.evaluations[method].tolist()
        if method in self.decomposition:
            parts = self.decomposition[method]
            entry["decomposition"] = {"remainder": parts.remainder.tolist(), "parts": parts.table.to_dict("records")}
        if method in self.conservation:
            kept = self.conservation[method]
            entry["conservation"] = {
                "start": kept.start.tolist(),
                "arrived": kept.arrived.tolist(),
                "shares": kept.lost,
                "operations": kept.table.to_dict("records"),
            }
        return entry

    @classmethod
    def of_records(
        cls, records: Mapping[str, Mapping[str, Any]], notes: Sequence[str], settings: Mapping[str, Any]
    ) -> "Checks":
        """The checks of a manifest, without conservation and decomposition by image, of which it has means.

        Args:
            records: for each method that has a map, see `record`.
            notes: see `Checks`.
            settings: see `Checks`.
        """
        residuals = {
            name: one["completeness_residual"] for name, one in records.items() if "completeness_residual" in one
        }
        return cls(
            operations={name: one["operations"] for name, one in records.items()},
            completeness={
                name: torch.tensor([number(value) for value in values], dtype=torch.float64)
                for name, values in residuals.items()
            },
            conservation={},
            decomposition={},
            evaluations={
                name: torch.tensor(one["evaluations"]) for name, one in records.items() if "evaluations" in one
            },
            nan={name: one["not_finite"] for name, one in records.items()},
            notes=tuple(notes),
            settings=settings,
        )
