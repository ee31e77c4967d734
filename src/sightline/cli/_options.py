"""What several commands ask on the command line: a model, and how it wants its pictures."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from torch import nn

from sightline.errors import InputError
from sightline.models import load_model
from sightline.models._device import device_named
from sightline.models._output_kind import as_kind

PageSide = Annotated[
    int | None,
    typer.Option(
        help="Longer side of the maps on the page in pixels; by default as large as fits into 16 MB, up to 1024."
    ),
]


def with_model(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a model; it is called with the loaded one in place of `network`."""
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "network"]
    asked = list(inspect.signature(_model).parameters.values())
    arguments = [p for p in [asked[0], *own] if p.default is inspect.Parameter.empty]
    options = [p for p in [*own, *asked[1:]] if p.default is not inspect.Parameter.empty]

    @wraps(command)
    def run(**given: Any) -> None:
        network = _model(**{p.name: given.pop(p.name) for p in asked})
        command(network=network, **given)

    ordered = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in [*arguments, *options]]
    run.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in ordered}
    return run


def _model(
    model: Annotated[
        str,
        typer.Argument(help="torchvision:NAME, timm:NAME, hf:ID_OR_DIR, FILE.py:FACTORY or package.module:FACTORY."),
    ],
    weights: Annotated[Path | None, typer.Option(help="A .pt or .safetensors file of weights.")] = None,
    class_names: Annotated[
        Path | None, typer.Option("--class-names", help="A text file with a class name per line.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="What the outputs are: classes (one among all, softmax), labels (each a yes or no of its own, "
            "sigmoid) or values (regression); by default what the model says, else classes."
        ),
    ] = None,
    multi_label: Annotated[
        bool | None, typer.Option(help="Short for --output labels; --no-multi-label for --output classes.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Side of the input in pixels.")] = None,
    mean: Annotated[str | None, typer.Option(help="Mean per channel, with commas, in the units of --range.")] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviation per channel, in the units of --range.")] = None,
    resize: Annotated[
        str | None, typer.Option(help="Short side before the centre crop in pixels; or stretch; or none.")
    ] = None,
    channels: Annotated[
        int | None, typer.Option(help="1 for grey pictures or 3 for RGB; by default as many as the model takes.")
    ] = None,
    values: Annotated[
        str | None,
        typer.Option(
            help="Which values of the files are black and white, in their own units: 0,4095 for 12 bits stored in 16."
        ),
    ] = None,
    value_range: Annotated[
        str | None,
        typer.Option("--range", help="What pixels 0..255 become before mean and std: 0,1 or -1,1 or 0,255."),
    ] = None,
    pretrained: Annotated[bool, typer.Option(help="Fetch the model's published weights if none are given.")] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
) -> nn.Module:
    return load_model(
        model,
        weights=weights,
        size=size,
        mean=numbers(mean, "--mean"),
        std=numbers(std, "--std"),
        value_range=_rising(value_range, "--range", "0,1 or -1,1 or 0,255"),
        resize=_resize(resize),
        channels=channels,
        values=_rising(values, "--values", "0,4095"),
        classes=class_names,
        output=as_kind(output, "--output"),
        multi_label=multi_label,
        pretrained=pretrained,
        device=device_named(device),
    )


def numbers(text: str | None, option: str, *, single: bool = True) -> float | tuple[float, ...] | None:
    """Numbers with commas; a single one as itself, unless a comma follows it.

    Raises:
        InputError: they are no numbers.
    """
    if text is None:
        return None
    try:
        found = tuple(float(part) for part in text.strip().removesuffix(",").split(","))
    except ValueError:
        raise InputError(f"{option} takes numbers with commas, as in 0.485,0.456,0.406; got {text!r}.") from None
    return found[0] if single and len(found) == 1 and "," not in text else found


def listed(text: str) -> list[str]:
    """Words with commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def check_places(images: list[str], out: Path) -> None:
    """Refuse a folder of results that lies among the pictures.

    Raises:
        InputError: it does, or a path is empty.
    """
    if not all(images) or str(out) == "" or out == Path():
        raise InputError(
            "A path came empty, or --out is the current folder itself. Name the images, and a folder of its own."
        )
    inside = [
        folder for folder in images if Path(folder).is_dir() and out.resolve().is_relative_to(Path(folder).resolve())
    ]
    if inside:
        raise InputError(
            f"--out {out} lies inside the image folder {inside[0]}, where the next run would take its montage for a "
            "photograph. Name a folder elsewhere."
        )


def _resize(text: str | None) -> int | Literal["stretch", "none"] | None:
    if text is None:
        return None
    if text == "stretch":
        return "stretch"
    if text == "none":
        return "none"
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--resize takes a number of pixels, `stretch` or `none`; got {text!r}.")
    return int(text)


def _rising(text: str | None, option: str, example: str) -> tuple[float, float] | None:
    found = numbers(text, option, single=False)
    if found is None:
        return None
    if isinstance(found, float) or len(found) != 2 or not found[0] < found[1]:
        raise InputError(f"{option} takes two rising numbers, as in {example}; got {text!r}.")
    return found[0], found[1]
