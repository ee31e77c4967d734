"""Truth: where the deciding part is known, what of the important pixels lies on it, beside as many of each control."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from torch import Tensor

from sightline.evaluation import sign_flips
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


def gains_on_truth(rows: pd.DataFrame) -> pd.DataFrame:
    """The mean share on the truth of each arm of `on_truth`, and GAD's less each control's, paired by image.

    Returns:
        A row for each arm (`original`, `gad` and the controls): its mean `share` over the `images` where something
        stays, the mean number of `pixels` there, and for controls the `gain` of GAD with its 95 % interval (`low`,
        `high`) and `p`, by flipping the signs of the differences (`sign_flips`).
    """
    known = rows[rows["gad"].notna()]
    found = {}
    for arm in known.select_dtypes("float"):
        row = {"share": float(known[arm].mean()), "images": len(known), "pixels": float(known["pixels"].mean())}
        if arm not in {"gad", "original"}:
            flipped = sign_flips(known["gad"] - known[arm])
            row |= {"gain": flipped.mean, "low": flipped.low, "high": flipped.high, "p": flipped.p}
        found[str(arm)] = row
    return pd.DataFrame.from_dict(found, orient="index").rename_axis("arm")


def _share(pixels: np.ndarray, truth: np.ndarray) -> float:
    return float((pixels & truth).sum() / pixels.sum()) if pixels.any() else float("nan")
