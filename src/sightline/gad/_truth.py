"""Truth: where the deciding part is known, what of the important pixels lies on it, beside as many of each control."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from torch import Tensor

from sightline.evaluation._intervals import mean_interval
from sightline.gad._consistency import Consistency
from sightline.gad._controls import as_many, orders


def on_truth(
    stack: Float[Tensor, "network batch height width"],
    shuffled: Float[Tensor, "network batch height width"] | None,
    truth: Bool[Tensor, "batch height width"],
    reading: Consistency,
    seeds: Sequence[int],
    pair: Float[Tensor, "batch height width"] | None = None,
) -> pd.DataFrame:
    """The share of the important pixels that lies on the truth, for each image.

    Args:
        stack: the maps of the original network (first) and of the support networks.
        shuffled: the same of networks distanced by shuffled labels.
        truth: true on what decides.
        reading: what "stays important" means.
        seeds: for each image, of its random pixels.
        pair: the original network's maps of the class rather than the other.

    Returns:
        A row for each image: `pixels` that stay, and the share on the truth of these (`gad`), of what was important
        originally (`original`), and of as many `pixels` from each control. NaN where nothing stays.
    """
    kept = reading(stack)
    beside = None if shuffled is None else reading(shuffled).scores
    taken = orders(stack[0], kept.original, beside, pair, seeds)
    shape = (int(stack.shape[2]), int(stack.shape[3]))
    rows = []
    for i, mask in enumerate(truth.cpu().numpy()):
        pixels, original = (part[i].cpu().numpy() for part in (kept.pixels, kept.original))
        count = int(pixels.sum())
        row = {"pixels": count, "original": _share(original, mask), "gad": _share(pixels, mask)}
        rows.append(row | {c.value: _share(as_many(order[i], count, shape), mask) for c, order in taken.items()})
    return pd.DataFrame(rows)


def gains_on_truth(rows: pd.DataFrame) -> dict[str, float]:
    """GAD's mean share on the truth less each control's, paired by image, with 95 % intervals.

    Returns:
        Means of the columns of `on_truth` over images where something stays, `empty`, how many others there are, and
        for each control `over CONTROL`, `over CONTROL, low` and `over CONTROL, high`.
    """
    known = rows[rows["gad"].notna()]
    shares = known.select_dtypes("float")
    found = {
        "empty": float(len(rows) - len(known)),
        "pixels": float(known["pixels"].mean()),
        **{str(name): float(shares[name].mean()) for name in shares},
    }
    for control in shares:
        if control not in {"gad", "original"}:
            gain = (known["gad"] - known[control]).to_numpy()
            low, high = mean_interval(gain)
            over = f"over {control}"
            found |= {over: float(gain.mean()) if len(gain) else np.nan, f"{over}, low": low, f"{over}, high": high}
    return found


def _share(pixels: np.ndarray, truth: np.ndarray) -> float:
    return float((pixels & truth).sum() / pixels.sum()) if pixels.any() else float("nan")
