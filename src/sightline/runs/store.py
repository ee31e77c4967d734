"""What a run has found, on disk: maps in Zarr, scores and failures in Parquet, everything else in a manifest.

- `manifest.json`: what was asked of which model and images, and in which order methods and targets were added (tasks).
- `maps/TARGET/METHOD`: an array (image, height, width), a shard for each chunk of images; NaN where there is no map.
- `scores/CHUNK.TASK.parquet`: a row for each image, target and method. It is written last: where it is, all is.
- `failures/CHUNK.TASK.parquet`: images and methods without a map, with the reason.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from sightline.errors import InputError
from sightline.runs.place import Place

FORMAT = 1
_READ_AT_ONCE = 1 << 18
"""Bytes of maps that are compressed together, and so read together."""
_FAILURES = pa.schema(
    [("image", pa.int64()), ("name", pa.string()), ("target", pa.string()), ("method", pa.string()),
     ("reason", pa.string())]
)  # fmt: skip
_SCORES = pa.schema(
    [("image", pa.int64()), ("name", pa.string()), ("label", pa.string()), ("target", pa.string()),
     ("method", pa.string()), ("explained", pa.string()), ("value", pa.float64()), ("predicted", pa.int64()),
     ("probability", pa.float64()), ("completeness", pa.float64()), ("not_finite", pa.int64()),
     ("scale", pa.float64())]
)  # fmt: skip


class Store:
    """The results of a run.

    Args:
        url: where they are.
        writable: whether they may be changed.
    """

    def __init__(self, url: str, *, writable: bool = True) -> None:
        self.place = Place(url)
        self._mode: Literal["r", "r+"] = "r+" if writable else "r"
        self._arrays: dict[tuple[str, str], zarr.Array[Any]] = {}

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What is known of the run; empty before it began.

        Raises:
            InputError: it is not what a run writes.
        """
        content = self.place.read("manifest.json")
        if content is None:
            return {}
        try:
            found = json.loads(content)
        except ValueError as error:
            raise InputError(f"{self.place.url}/manifest.json is damaged ({error}).") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise InputError(f"{self.place.url}/manifest.json is not what this version of `sightline run` writes.")
        return found

    def write_manifest(self) -> None:
        """Write down what is known of the run."""
        self.place.write(
            "manifest.json", json.dumps(self.manifest, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace")
        )

    @property
    def tasks(self) -> dict[str, list[tuple[str, list[str]]]]:
        """Targets, each with its methods, by the task that they were first asked for with."""
        tasks: dict[str, list[Any]] = self.manifest["tasks"]
        return {tag: [(target, list(methods)) for target, methods in pairs] for tag, pairs in tasks.items()}

    def chunk(self, number: int) -> range:
        """The images of a chunk."""
        size, count = int(self.manifest["identity"]["chunk"]), int(self.manifest["count"])
        return range(number * size, min((number + 1) * size, count))

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return -(-int(self.manifest["count"]) // int(self.manifest["identity"]["chunk"]))

    def missing(self) -> list[tuple[int, str]]:
        """Chunks and tasks that are not done, in order."""
        done = set(self.place.names("scores"))
        return [(number, tag) for tag in self.tasks for number in range(self.chunks) if _file(number, tag) not in done]

    def create(self, target: str, method: str, shape: Sequence[int], attributes: Mapping[str, Any]) -> None:
        """Make the array of a method's maps, all of them unknown."""
        identity = self.manifest["identity"]
        count, size = int(self.manifest["count"]), int(identity["chunk"])
        kind = np.dtype(identity["precision"])
        bytes_each = int(np.prod(shape)) * kind.itemsize
        together = max(d for d in range(1, size + 1) if size % d == 0 and (d == 1 or d * bytes_each <= _READ_AT_ONCE))
        with self.place.reached():
            zarr.create_array(
                self.place.zarr, name=_array(target, method), shape=(count, *shape), dtype=kind,
                chunks=(together, *shape), shards=(size, *shape), fill_value=np.nan,
                compressors=BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
                attributes=dict(attributes), zarr_format=3, overwrite=True,
                dimension_names=("image", *("channel", "row", "column")[-len(shape) :]),
            )  # fmt: skip

    def array(self, target: str, method: str) -> "zarr.Array[Any]":
        """The array of a method's maps, read when it is indexed."""
        if (target, method) not in self._arrays:
            found = zarr.open_array(self.place.zarr, path=_array(target, method), mode=self._mode)
            self._arrays[target, method] = found
        return self._arrays[target, method]

    def write(
        self,
        number: int,
        tag: str,
        maps: Mapping[tuple[str, str], NDArray[np.floating[Any]]],
        scores: Sequence[Mapping[str, Any]],
        failures: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write a chunk of a task; it counts as done when this returns, and not before."""
        rows = self.chunk(number)
        for (target, method), values in maps.items():
            with self.place.reached():
                self.array(target, method)[rows.start : rows.stop] = values
        if failures:
            self.place.write(f"failures/{_file(number, tag)}", _parquet(failures, _FAILURES))
        else:
            # An earlier try that did not come to its end may have left some.
            self.place.remove(f"failures/{_file(number, tag)}")
        self.place.write(f"scores/{_file(number, tag)}", _parquet(scores, _SCORES))

    def write_images(self, table: pd.DataFrame) -> None:
        """Write names and labels of all images."""
        buffer = io.BytesIO()
        schema = pa.schema([("name", pa.string()), ("label", pa.string())])
        pq.write_table(pa.Table.from_pandas(table, schema=schema, preserve_index=False), buffer, compression="zstd")
        self.place.write("images.parquet", buffer.getvalue())

    def images(self) -> pd.DataFrame:
        """Names and labels of all images."""
        content = self.place.read("images.parquet")
        if content is None:
            raise InputError(f"{self.place.url} has lost images.parquet.")
        found: pd.DataFrame = pq.read_table(io.BytesIO(content)).to_pandas()
        return found

    def scales(self, target: str, method: str, numbers: Sequence[int]) -> NDArray[np.float32]:
        """What turns maps as they are kept into maps; 1 where there is none."""
        size = int(self.manifest["identity"]["chunk"])
        tag = next(
            tag for tag, pairs in self.tasks.items() for own, methods in pairs if own == target and method in methods
        )
        known: dict[int, float] = {}
        for chunk in sorted({number // size for number in numbers}):
            content = self.place.read(f"scores/{_file(chunk, tag)}")
            if content is not None:
                rows = pq.read_table(io.BytesIO(content), schema=_SCORES).to_pylist()
                known |= {r["image"]: r["scale"] for r in rows if r["target"] == target and r["method"] == method}
        return np.array([known.get(number, 1.0) for number in numbers], dtype=np.float32)

    def table(self, kind: str) -> pd.DataFrame:
        """All rows of `scores` or `failures` that are there."""
        schema = _SCORES if kind == "scores" else _FAILURES
        found = [
            pq.read_table(io.BytesIO(content), schema=schema)
            for name in self.place.names("scores")
            if (content := self.place.read(f"{kind}/{name}")) is not None
        ]
        table: pd.DataFrame = pa.concat_tables([schema.empty_table(), *found]).to_pandas()
        return table.sort_values(["image"], kind="stable", ignore_index=True)


def tag_of(pairs: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A short name for targets with their methods."""
    return hashlib.blake2b(json.dumps(pairs).encode(), digest_size=4).hexdigest()


def _file(number: int, tag: str) -> str:
    return f"{number:06d}.{tag}.parquet"


def _array(target: str, method: str) -> str:
    return f"maps/{target}/{method}"


def _parquet(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema), buffer, compression="zstd")
    return buffer.getvalue()
