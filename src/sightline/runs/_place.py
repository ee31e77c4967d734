"""A folder of files anywhere that fsspec reaches: whole files or none, and one writer at a time."""

import contextlib
import errno
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
from filelock import FileLock, Timeout
from fsspec.implementations.local import LocalFileSystem

from sightline.errors import InputError, SightlineError

LEASE = 300.0
"""Seconds after which a remote folder's writer that gave no sign is taken for gone; it gives five in that time."""
_HALF = ".half"


class Place:
    """A folder, local or remote.

    Args:
        url: a path, or an address of fsspec (`s3://bucket/run`, `memory://run`).

    Raises:
        InputError: fsspec knows no such address.
    """

    def __init__(self, url: str | Path) -> None:
        try:
            self.files, self.root = fsspec.core.url_to_fs(str(url))
        except (ValueError, ImportError) as error:
            raise InputError(f"{url} is no folder that fsspec can reach: {error}.") from error
        self.url = str(url)
        self._lease = uuid.uuid4().hex

    @property
    def local(self) -> Path | None:
        """The folder, where it is on this machine."""
        return Path(self.root) if isinstance(self.files, LocalFileSystem) else None

    @property
    def zarr(self) -> str:
        """Its address for zarr."""
        return str(self.root) if self.local is not None else self.url

    def write(self, name: str, content: bytes) -> None:
        """Write a file, of which nobody ever sees a half."""
        if self.local is None:
            # An object is there when it is whole.
            with self.reached():
                self.files.pipe_file(f"{self.root}/{name}", content)
            return
        path = self.local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(f"{path.name}{_HALF}")
        try:
            half.write_bytes(content)
            half.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                half.unlink(missing_ok=True)
            raise

    def read(self, name: str) -> bytes | None:
        """A file's content, or None if there is none."""
        try:
            with self.reached():
                return bytes(self.files.cat_file(f"{self.root}/{name}"))
        except (FileNotFoundError, NotADirectoryError):
            # Where a file stands in a folder's place, there is no file either.
            return None

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError), self.reached():
            self.files.rm_file(f"{self.root}/{name}")

    def names(self, folder: str) -> list[str]:
        """The files of a folder in it."""
        try:
            with self.reached():
                found = self.files.ls(f"{self.root}/{folder}", detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(name for path in found if not (name := str(path).rpartition("/")[2]).endswith(_HALF))

    def sweep(self) -> None:
        """Remove what a process that was killed has half written."""
        if self.local is not None:
            for part in ("maps", "scores", "failures", "sums"):
                for pattern in (f"*{_HALF}", "*.partial"):
                    for path in (self.local / part).rglob(pattern):
                        path.unlink(missing_ok=True)
            for path in self.local.glob(f"*{_HALF}"):
                if path.is_file():
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def reached(self) -> Iterator[None]:
        """Turn what a remote file system has to say of itself into an OSError.

        Raises:
            OSError: it could not be reached, or refused.
        """
        try:
            yield
        except (OSError, MemoryError, SightlineError):
            raise
        except Exception as error:
            if self.local is not None:
                raise
            raise OSError(errno.EIO, f"{type(error).__name__}: {error}") from error

    def _beat(self, over: threading.Event) -> None:
        """Give signs while a chunk takes long; whoever lost the folder hears of it at its next own sign."""
        while not over.wait(LEASE / 5):
            with contextlib.suppress(OSError, SightlineError):
                self.sign()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder; a process that dies lets it go.

        Raises:
            InputError: another process holds it, or it cannot be written.
        """
        try:
            if self.local is None:
                self.sign()
            else:
                self.local.mkdir(parents=True, exist_ok=True)
                if not os.access(self.local, os.W_OK):
                    raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise InputError(f"{self.url} cannot be written: {error.strerror or error}.") from error
        held = InputError(f"Another process writes to {self.url}. Wait for it, or take another folder.")
        if self.local is None:
            over = threading.Event()
            beat = threading.Thread(target=self._beat, args=(over,), daemon=True)
            beat.start()
            try:
                yield
            finally:
                over.set()
                beat.join()
                with contextlib.suppress(OSError, ValueError):
                    if json.loads(self.read("lease.json") or b"{}").get("who") == self._lease:
                        self.remove("lease.json")
            return
        lock = FileLock(self.local / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise held from None
        try:
            yield
        finally:
            lock.release()

    def sign(self) -> None:
        """Say that this process is alive; where another one has said so lately, refuse.

        Raises:
            InputError: another process holds the folder.
        """
        if self.local is not None:
            return
        found = self.read("lease.json")
        if found is not None:
            try:
                lease: dict[str, Any] = json.loads(found)
                held = lease["who"] != self._lease and time.time() - lease["when"] < LEASE
            except (ValueError, KeyError, TypeError):
                # It is nobody's.
                held = False
            if held:
                raise InputError(
                    f"Another process writes to {self.url}, or died in the last {LEASE / 60:g} minutes. Wait, or if "
                    "you know that it is gone, remove lease.json there."
                )
        self.write("lease.json", json.dumps({"who": self._lease, "when": time.time()}).encode())
