"""A small run: its network, its pictures, its recipe, and what it must give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import sightline as sl

METHODS = ["gradient", "grad_cam", "lrp_epsilon", "smooth_grad"]
TARGETS = ["predicted", "top-2", "0", "2-1"]

NETWORK = """
import torch
from torch import nn
import sightline as sl


def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(150, 3),
    ).eval()


build.preprocessing = sl.Preprocessing(size=(12, 12), resize=12, mean=(0.5,) * 3, std=(0.25,) * 3)
build.class_names = ["cat", "dog", "hen"]
"""


def picture(number: int) -> Image.Image:
    noise = torch.randint(0, 256, (14, 16, 3), generator=torch.Generator().manual_seed(number)).byte()
    return Image.fromarray(noise.numpy())


# Pictures that are black all over have no logits.
WITHOUT = NETWORK.replace(
    "def build",
    """class Net(nn.Sequential):
    def forward(self, x):
        return torch.where((x > -1.9).flatten(1).any(1, keepdim=True), super().forward(x), torch.nan)


def build""",
).replace("nn.Sequential(\n        nn.Conv2d", "Net(\n        nn.Conv2d")


def recipe(place: Path, more: str = "", **changes: object) -> Path:
    given: dict[str, Any] = {"methods": METHODS, "targets": TARGETS, "folder": "out", "chunk": 4, "data": ""}
    given |= changes
    data = given["data"] or 'images = ["photos"]'
    text = (
        f"methods = {json.dumps(given['methods'])}\ntargets = {json.dumps(given['targets'])}\n"
        f'[model]\nspec = "net.py:build"\n[data]\n{data}\n'
        f"[output]\nfolder = {json.dumps(given['folder'])}\nchunk = {given['chunk']}\n{more}"
    )
    (place / "recipe.toml").write_text(text)
    return place / "recipe.toml"


def expected(place: Path, target: str, paths: str = "photos") -> sl.Explanation:
    model = sl.load_model(f"{place / 'net.py'}:build")
    images = sl.load_images(place / paths, model)
    asked: Any = {"predicted": None, "0": 0, "2-1": sl.Pair(2, 1)}.get(target, "second")
    if asked == "second":
        with torch.no_grad():
            asked = model(images.tensor).argsort(dim=1)[:, 1].tolist()
    return sl.explain(model, images, METHODS, asked)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def tree_of(found: sl.Run, folder: Path) -> dict[str, bytes]:
    assert found.complete
    # The manifest names the folder, as the recipe does.
    return {name: content for name, content in tree(folder).items() if name not in {"manifest.json", ".lock"}}
