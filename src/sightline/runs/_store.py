"""What a run has found, on disk: maps in Zarr, scores and failures in Parquet, everything else in a manifest.

- `manifest.json`: what was asked of which model and images, and in which order methods and targets were added (tasks).
- `maps/TARGET/METHOD`: an array (image, height, width), a shard for each chunk of images; NaN where there is no map.
- `scores/CHUNK.TASK.parquet`: a row for each image, target and method.
- `failures/CHUNK.TASK.parquet`: images and methods without a map, with the reason.
- `sums/CHUNK.TASK.json`: of which run the chunk is, and the checksums of all its files. It is written last: where it
  is, all is, and what was damaged later is found.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from sightline._common.checksums import checksum, sealed, unsealed
from sightline.errors import InputError
from sightline.runs._identity import FREE
from sightline.runs._place import Place

FORMAT = 3
_READ_AT_ONCE = 1 << 18
"""Bytes of maps that are compressed together, and so read together."""
_FAILURES = pa.schema(
    [("image", pa.int64()), ("name", pa.string()), ("target", pa.string()), ("method", pa.string()),
     ("reason", pa.string())]
)  # fmt: skip
_SCORES = pa.schema(
    [("image", pa.int64()), ("name", pa.string()), ("label", pa.string()), ("target", pa.string()),
     ("method", pa.string()), ("explained", pa.string()), ("output", pa.int64()), ("other", pa.int64()),
     ("is_predicted", pa.bool_()), ("value", pa.float64()), ("predicted", pa.int64()),
     ("probability", pa.float64()), ("completeness", pa.float64()), ("not_finite", pa.int64()),
     ("scale", pa.float64())]
)  # fmt: skip


_IMAGES = pa.schema([("name", pa.string()), ("label", pa.string()), ("content", pa.string())])
_MEND = "Give the command of the run again: it finds what is damaged and computes it anew."


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
        self._checked: set[str] = set()

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
            known = json.loads(content)
            if isinstance(known, dict) and known.get("format", FORMAT) != FORMAT:
                raise InputError(f"{self.place.url}/manifest.json is not what this version of `sightline run` writes.")
            return unsealed(content)
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{self.place.url}/manifest.json is damaged ({error}). Remove it and give the same command: the run "
                "begins anew, and takes what is whole and was made of the same model and images."
            ) from error

    def write_manifest(self) -> None:
        """Write down what is known of the run."""
        self.place.write("manifest.json", sealed(self.manifest, indent=1).encode())

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
        """Chunks and tasks that are not done, in order, as far as a look at the names of files tells."""
        scores, sums = ({name.rpartition(".")[0] for name in self.place.names(kind)} for kind in ("scores", "sums"))
        done = scores & sums
        return [(number, tag) for tag in self.tasks for number in range(self.chunks) if _stem(number, tag) not in done]

    def unsound(self, readers: int) -> list[tuple[int, str]]:
        """Chunks and tasks that are not done or not whole, in order, by reading all there is."""
        missing = set(self.missing())
        every = [(number, tag) for tag in self.tasks for number in range(self.chunks)]
        with ThreadPoolExecutor(readers, "check") as pool:
            whole = pool.map(lambda one: one not in missing and self._is_whole(*one), every)
            return [one for one, good in zip(every, whole, strict=True) if not good]

    def _is_whole(self, number: int, tag: str) -> bool:
        content = self.place.read(f"sums/{_stem(number, tag)}.json")
        try:
            return content is not None and unsealed(content) == self._sums(number, tag)
        except ValueError:
            return False

    def _sums(self, number: int, tag: str) -> dict[str, Any]:
        """Of which run a chunk is, and the checksum of each of its files; None for one that is not there."""
        names = [self._shard(number, target, method) for target, method in self._pairs(tag)]
        names += [f"{kind}/{_file(number, tag)}" for kind in ("failures", "scores")]
        found = {name: None if (content := self.place.read(name)) is None else checksum(content) for name in names}
        return {"run": self._run, "files": found}

    @property
    def _run(self) -> str:
        """A name for what decides the maps, so that what another run left in the folder is not taken for this one's."""
        identity = {key: value for key, value in self.manifest["identity"].items() if key not in FREE}
        return checksum(json.dumps(identity, sort_keys=True, default=str))

    def _pairs(self, tag: str) -> list[tuple[str, str]]:
        """Targets and methods of a task that have arrays."""
        shapes = self.manifest["shapes"]
        return [(t, method) for t, methods in self.tasks[tag] for method in methods if method in shapes.get(t, {})]

    def _shard(self, number: int, target: str, method: str) -> str:
        zeros = "/0" * len(self.manifest["shapes"][target][method])
        return f"{_array(target, method)}/c/{number}{zeros}"

    def create(self) -> None:
        """Write what describes the arrays of maps, where it is not as it should be; the maps stay."""
        identity = self.manifest["identity"]
        count, size = int(self.manifest["count"]), int(identity["chunk"])
        kind = np.dtype(identity["precision"])
        described: dict[str, Any] = {}
        memory = zarr.storage.MemoryStore(described)
        for target, method in [pair for tag in self.tasks for pair in self._pairs(tag)]:
            shape = self.manifest["shapes"][target][method]
            bytes_each = int(np.prod(shape)) * kind.itemsize
            together = max(
                d for d in range(1, size + 1) if size % d == 0 and (d == 1 or d * bytes_each <= _READ_AT_ONCE)
            )
            zarr.create_array(
                memory, name=_array(target, method), shape=(count, *shape), dtype=kind,
                chunks=(together, *shape), shards=(size, *shape), fill_value=np.nan,
                compressors=BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
                attributes=self.manifest["methods"][method], zarr_format=3, overwrite=True,
                dimension_names=("image", *("channel", "row", "column")[-len(shape) :]),
            )  # fmt: skip
        for name, content in described.items():
            wanted = content.to_bytes()
            if self.place.read(name) != wanted:
                self.place.write(name, wanted)

    def array(self, target: str, method: str) -> "zarr.Array[Any]":
        """The array of a method's maps, read when it is indexed."""
        if (target, method) not in self._arrays:
            try:
                found = zarr.open_array(self.place.zarr, path=_array(target, method), mode=self._mode)
            except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
                raise self._damaged(f"{_array(target, method)}/zarr.json", error) from error
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
        self.place.remove(f"sums/{_stem(number, tag)}.json")
        for (target, method), values in maps.items():
            # Zarr reads what is there before it writes, which may be damaged.
            self.place.remove(self._shard(number, target, method))
            with self.place.reached():
                self.array(target, method)[rows.start : rows.stop] = values
        if failures:
            self.place.write(f"failures/{_file(number, tag)}", _parquet(failures, _FAILURES))
        else:
            # An earlier try that did not come to its end may have left some.
            self.place.remove(f"failures/{_file(number, tag)}")
        self.place.write(f"scores/{_file(number, tag)}", _parquet(scores, _SCORES))
        self.place.write(f"sums/{_stem(number, tag)}.json", sealed(self._sums(number, tag)).encode())

    def write_images(self, table: pd.DataFrame) -> None:
        """Write names, labels and the names of the contents of all images, where they are not there already."""
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pandas(table, schema=_IMAGES, preserve_index=False), buffer, compression="zstd")
        if self.place.read("images.parquet") != buffer.getvalue():
            self.place.write("images.parquet", buffer.getvalue())

    def images(self) -> pd.DataFrame:
        """Names, labels and the names of the contents of all images."""
        found: pd.DataFrame = self._table("images.parquet", _IMAGES).to_pandas()
        return found

    def _check(self, number: int, tag: str, name: str) -> None:
        """Refuse a file of a chunk that is done where it is not what was written, once for each file.

        Raises:
            InputError: it is not, or its checksum cannot be read.
        """
        if name in self._checked:
            return
        sums = f"sums/{_stem(number, tag)}.json"
        try:
            known = unsealed(self.place.read(sums) or b"")["files"][name]
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(sums, error) from error
        content = self.place.read(name)
        if known != (None if content is None else checksum(content)):
            raise self._damaged(name, ValueError("its checksum is not the one that was kept"))
        self._checked.add(name)

    def _table(self, name: str, schema: pa.Schema) -> pa.Table:
        content = self.place.read(name)
        if content is None:
            raise InputError(f"{self.place.url} has lost {name}. {_MEND}")
        try:
            return pq.read_table(io.BytesIO(content), schema=schema)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(name, error) from error

    def _damaged(self, name: str, error: Exception) -> InputError:
        return InputError(f"{self.place.url}/{name} is damaged ({' '.join(str(error).split())[:200]}). {_MEND}")

    def values(self, target: str, method: str, numbers: Sequence[int]) -> NDArray[np.float32]:
        """Maps of some images as they are kept.

        Raises:
            InputError: they cannot be read.
        """
        array = self.array(target, method)
        tag, missing = self._task_of(target, method), set(self.missing())
        for chunk in sorted({number // int(self.manifest["identity"]["chunk"]) for number in numbers}):
            if (chunk, tag) not in missing:
                self._check(chunk, tag, self._shard(chunk, target, method))
        try:
            # Neighbours are read together.
            return np.asarray(array.oindex[np.array(numbers, dtype=np.int64)], dtype=np.float32)
        except (ValueError, RuntimeError, KeyError, OSError) as error:
            raise self._damaged(_array(target, method), error) from error

    def _task_of(self, target: str, method: str) -> str:
        return next(
            tag for tag, pairs in self.tasks.items() for own, methods in pairs if own == target and method in methods
        )

    def scales(self, target: str, method: str, numbers: Sequence[int]) -> NDArray[np.float32]:
        """What turns maps as they are kept into maps; 1 where there is none."""
        size = int(self.manifest["identity"]["chunk"])
        tag = self._task_of(target, method)
        known: dict[int, float] = {}
        missing = set(self.missing())
        for chunk in sorted({number // size for number in numbers}):
            if (chunk, tag) not in missing:
                self._check(chunk, tag, f"scores/{_file(chunk, tag)}")
                rows = self._table(f"scores/{_file(chunk, tag)}", _SCORES).to_pylist()
                known |= {r["image"]: r["scale"] for r in rows if r["target"] == target and r["method"] == method}
        return np.array([known.get(number, 1.0) for number in numbers], dtype=np.float32)

    def table(self, kind: str) -> pd.DataFrame:
        """All rows of `scores` or `failures` that are there."""
        schema = _SCORES if kind == "scores" else _FAILURES
        there, missing = set(self.place.names(kind)), set(self.missing())
        found = []
        for number, tag in [(number, tag) for tag in self.tasks for number in range(self.chunks)]:
            if (number, tag) not in missing:
                name = f"{kind}/{_file(number, tag)}"
                self._check(number, tag, name)
                if _file(number, tag) in there:
                    found.append(self._table(name, schema))
        table: pd.DataFrame = pa.concat_tables([schema.empty_table(), *found]).to_pandas()
        return table.sort_values(["image"], kind="stable", ignore_index=True)


def tag_of(pairs: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A short name for targets with their methods."""
    return hashlib.blake2b(json.dumps(pairs).encode(), digest_size=4).hexdigest()


def _stem(number: int, tag: str) -> str:
    return f"{number:06d}.{tag}"


def _file(number: int, tag: str) -> str:
    return f"{_stem(number, tag)}.parquet"


def _array(target: str, method: str) -> str:
    return f"maps/{target}/{method}"


def _parquet(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema), buffer, compression="zstd")
    return buffer.getvalue()
