"""What a page holds, read without a browser."""

import base64
import io
from html.parser import HTMLParser
from typing import Any

import numpy as np
from PIL import Image


class Seen(HTMLParser):
    """Tags, and the text of scripts by their type."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self._open: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._open = str(dict(attrs).get("type", "script"))

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.scripts[self._open] = self.scripts.get(self._open, "") + data

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._open = None


def values_of(found: dict[str, Any]) -> np.ndarray:
    raw = base64.b64decode(found["map"].removeprefix("data:image/png;base64,"))
    pixels = np.asarray(Image.open(io.BytesIO(raw))).astype(float)
    return ((pixels - 128) / 127 if found["signed"] else pixels / 255) * found["scale"]
