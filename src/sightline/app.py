"""The app: drop photographs, choose methods and classes, look at maps, a short audit, and the full report.

Thin over `explain`, `audit` and the report. It listens on this machine alone unless told otherwise, and then asks for a
password; uploads are read and deleted at once; what is made for one user lies in a folder of their own until they
leave.
"""

import base64
import io
import ipaddress
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from markupsafe import Markup
from PIL import Image
from torch import nn

from sightline._common.words import counted
from sightline.arrays import Found, ImageBatch, load_images, unique_names
from sightline.auditing import Randomisation, audit
from sightline.errors import InputError, SightlineError, install
from sightline.explaining import Pair, TargetLike, explain
from sightline.gad import GAD
from sightline.methods import catalogue
from sightline.models import OutputKind, ask, model_info, output_of
from sightline.rendering import resampled, write_page

if TYPE_CHECKING:
    import gradio
    from fastapi import FastAPI

LARGEST = 20 * 1024 * 1024
"""Bytes of an uploaded file."""
PIXELS = 40_000_000
"""Pixels of an uploaded photograph."""
PICTURES = 32
"""Photographs at a time."""
WAITING = 16
"""Requests that may wait for the one that is computed."""
_NONE, _OPEN = "none", -1
_DEFAULT = ["gradient", "integrated_gradients", "grad_cam"]
_STAGES = 4
_BEGIN = "Drop photographs to begin."
_NONE_TAKEN = "No photograph was taken:"
_THUMBNAIL = 128
"""Pixels of the longer side of a picture that was taken."""
# Nothing is fetched from anywhere else, whatever the library's own page asks for.
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; connect-src 'self'; frame-ancestors 'none'"
)
# The theme's greys and its white on a middle blue are too pale to be read by everybody.
_CONTRAST = (
    ".or, .subdued { color: var(--body-text-color) !important } button.primary { background: #1d4ed8 !important }"
)


def serve(
    network: nn.Module,
    *,
    gad: GAD | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    password: str | None = None,
) -> None:
    """Serve the app until it is stopped.

    Args:
        network: a loaded model.
        gad: its support networks, if there are some.
        host: the address to listen on.
        port: and the port.
        password: of the user `sightline`; needed wherever others can reach the address.

    Raises:
        InputError: others can reach the address and there is no password, or the extra `app` is missing.
    """
    check_host(host, password)
    import uvicorn

    with tempfile.TemporaryDirectory(prefix="sightline-app-") as folder:
        uvicorn.run(
            application(network, Path(folder), gad=gad, password=password), host=host, port=port, log_level="warning"
        )


def check_host(host: str, password: str | None) -> None:
    """Refuse to be reached by others without a password.

    Raises:
        InputError: they could.
    """
    try:
        inside = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        inside = False
    if not inside and not password:
        raise InputError(
            f"At {host} others could use the app, so a password is needed: put one into the environment variable "
            "SIGHTLINE_PASSWORD, or leave --host at 127.0.0.1."
        )


def application(network: nn.Module, folder: Path, *, gad: GAD | None = None, password: str | None = None) -> "FastAPI":
    """The web application; all that it keeps for a while lies in `folder`.

    Raises:
        InputError: the extra `app` is missing.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # What lies in that folder is served to whoever knows its path, so the work lies beside it.
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "served")
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    try:
        import gradio as gr
        from fastapi import FastAPI, Request, Response
    except ImportError as error:
        raise InputError(f"The app needs Gradio: {install('app')}.") from error
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    async def guard(request: Request, call_next: Callable[..., Any]) -> Response:
        if int(request.headers.get("content-length", "0")) > PICTURES * LARGEST:
            return Response(f"Up to {PICTURES} photographs of {LARGEST // 1024**2} MB, please.", status_code=413)
        response: Response = await call_next(request)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    server.middleware("http")(guard)
    mounted: FastAPI = gr.mount_gradio_app(
        server,
        _page(gr, Desk(network, work, gad)),
        path="/",
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        auth=("sightline", password) if password else None,
        allowed_paths=[],
        show_error=False,
        max_file_size=LARGEST,
        ssr_mode=False,
        enable_monitoring=False,
        footer_links=[],
        theme=gr.themes.Default(
            primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        css=_CONTRAST,
    )
    return mounted


class Desk:
    """What the buttons do.

    Args:
        network: the model.
        folder: where results lie until their user leaves.
        gad: its support networks.
    """

    def __init__(self, network: nn.Module, folder: Path, gad: GAD | None = None) -> None:
        self.network, self.folder, self.gad = network, folder, gad
        self.info = model_info(network)
        preparation = self.info.preprocessing
        blank = torch.zeros(1, preparation.channels, *preparation.size)
        try:
            scores = ask(network, blank, 1)
            self.output, self.outputs = output_of(network, blank, scores), scores.shape[1]
        except SightlineError:
            # What is wrong with the model is told when photographs are explained.
            self.output, self.outputs = OutputKind(), len(self.info.class_names or ())

    @property
    def classes(self) -> list[tuple[str, int]]:
        """The outputs to choose from, each with its number, since two may share a name."""
        names = self.info.class_names or ()
        if len(names) != self.outputs:
            return [(f"{self.output.noun} {number}", number) for number in range(self.outputs)]
        return [(f"{number}: {name}", number) for number, name in enumerate(names)]

    @property
    def choices(self) -> list[tuple[str, int]]:
        """What may be explained: the predicted class or label, where there is one, and each output."""
        if not self.output.predicts and self.outputs > 0:
            return self.classes
        predicted = "the predicted class" if self.output.kind == "classes" else "the most probable label"
        return [(predicted, _OPEN), *self.classes]

    def read(self, files: list[str] | None) -> tuple[ImageBatch | None, str]:
        """Load what was uploaded, and delete the files.

        Returns:
            The pictures, or None; and what a user should know, in sentences.
        """
        paths = [Path(file) for file in files or []]
        try:
            if not paths:
                return None, "Drop photographs first."
            if len(paths) > PICTURES:
                return None, f"Up to {PICTURES} photographs at a time, please; {len(paths)} came."
            if heavy := [path.name for path in paths if path.stat().st_size > LARGEST]:
                return None, f"{heavy[0]} is larger than {LARGEST // 1024**2} MB. Make it smaller."
            batch = load_images([str(path) for path in paths], self.network, max_pixels=PIXELS)
        except SightlineError as error:
            return None, self._named(str(error), paths)
        except OSError as error:
            return None, f"{Path(str(error.filename)).name} cannot be read; upload it again."
        finally:
            for path in paths:
                path.unlink(missing_ok=True)
        skipped = [self._named(reason, paths) for _, reason in batch.failures]
        names = unique_names([Found(Path(path.name), Path()) for path in batch.paths])
        batch = replace(batch, names=names, paths=[Path(path.name) for path in batch.paths], failures=[])
        return batch, "\n".join([f"{counted(len(batch), 'photograph')} ready.", *batch.warnings, *skipped])

    @staticmethod
    def _named(words: str, paths: list[Path]) -> str:
        """Where a file lies here is nobody's business."""
        for path in paths:
            words = words.replace(str(path), path.name)
        return words

    def explain(
        self, batch: ImageBatch, place: Path, methods: list[str], first: int | None, second: int | None
    ) -> tuple[str, str]:
        """Explain, and write the page; the picture to show, and what a user should know."""
        targets: list[TargetLike] = [first]
        if second is not None:
            if first is None or first == second:
                raise InputError("To compare two classes, choose both, and two different ones.")
            targets = [Pair(first, second), first, second]
        found, *each = explain(self.network, batch, methods, targets=targets, on_refusal="record")
        for old in (*place.glob("class *"), place / "gad"):
            # Of what was asked before, only the audit still holds.
            shutil.rmtree(old, ignore_errors=True)
        found.save(place)
        for number, one in enumerate(each):
            one.save(place / f"class {number}")
        notes = [*found.checks.notes, *(f"{name} was refused: {why}" for name, why in found.refused.items())]
        if self.gad is not None:
            kept = self.gad.explain(batch, methods, targets[0], on_refusal="record")
            kept.save(place / "gad")
            notes += kept.notes
        return str(place / "montage.png"), "\n".join(dict.fromkeys(notes)) or "Done."

    def audit(
        self, batch: ImageBatch, place: Path, methods: list[str], tell: Callable[[float, str], None]
    ) -> tuple[str, str]:
        """A short audit of these photographs; its picture, and its advice."""
        found = audit(
            self.network,
            batch,
            methods,
            ("class_sensitivity", "parameter_randomization", "input_bias"),
            randomisation=Randomisation(stages=_STAGES),
            progress=lambda words, done, of: tell(done / of, words),
        )
        found.save(place / "audit")
        return str(place / "audit" / "audit.png"), found.advice


def _page(gr: Any, desk: Desk) -> "gradio.Blocks":
    # Folders and pictures of someone who left without a word go after a day.
    with gr.Blocks(title="Sightline", analytics_enabled=False, delete_cache=(3600, 86_400)) as page:
        mine = gr.State(None, time_to_live=86_400)
        place = gr.State(None, time_to_live=86_400, delete_callback=_forget)
        gr.Markdown("# Sightline\nWhat does this classifier look at, and can its maps be trusted?")
        # The model's name is anybody's text, so it is no Markdown.
        gr.HTML(str(Markup("<p>Model: <b>{}</b> (weights: {})</p>").format(desk.info.spec, desk.info.weights)))
        with gr.Row():
            with gr.Column(scale=1):
                files = gr.File(label=f"Photographs (up to {PICTURES})", file_count="multiple", type="filepath")
                said = gr.Textbox(_BEGIN, label="Messages", lines=2, max_lines=12, interactive=False)
                methods = gr.Dropdown(list(catalogue()), value=_DEFAULT, multiselect=True, label="Methods")
                first = gr.Dropdown(
                    desk.choices, value=desk.choices[0][1], label=f"{desk.output.noun.capitalize()} to explain"
                )
                second = gr.Dropdown([(_NONE, _OPEN), *desk.classes], value=_OPEN, label="Rather than")
                go, ask = gr.Button("Explain", variant="primary"), gr.Button("Short audit")
            with gr.Column(scale=2):
                picture = gr.HTML()
                report = gr.File(label="Full report, for your browser", interactive=False)

        def read(given: list[str] | None, old: str | None) -> tuple[Any, ...]:
            _forget(old)
            batch, words = desk.read(given)
            own = None if batch is None else tempfile.mkdtemp(dir=desk.folder)
            # The files are gone, so the pictures that were taken are shown in their place.
            if batch is None:
                return None, None, f"{_NONE_TAKEN} {words}", None, "", None
            return batch, own, words, None, _thumbnails(batch), None

        def work(
            batch: ImageBatch | None, own: str | None, said: str, run: Callable[[ImageBatch, Path], tuple[str, str]]
        ) -> tuple[Any, ...]:
            if batch is None or own is None:
                # Why an upload was refused stays on the screen until there is another.
                return "", None, said if said.startswith(_NONE_TAKEN) else _BEGIN
            try:
                shown, words = run(batch, Path(own))
                return _picture(Path(shown)), str(write_page(own)), words
            except SightlineError as error:
                return _thumbnails(batch), None, f"Not done: {error}"

        def explained(batch: Any, own: Any, said: str, names: list[str], one: int, other: int) -> tuple[Any, ...]:
            chosen = [None if number in {_OPEN, None} else number for number in (one, other)]
            return work(batch, own, said, lambda b, p: desk.explain(b, p, names, *chosen))

        def audited(
            batch: Any,
            own: Any,
            said: str,
            names: list[str],
            progress: Any = gr.Progress(),  # noqa: B008
        ) -> tuple[Any, ...]:
            return work(
                batch, own, said, lambda b, p: desk.audit(b, p, names, lambda share, words: progress(share, desc=words))
            )

        files.upload(read, [files, place], [mine, place, said, files, picture, report], api_visibility="private")
        go.click(
            explained, [mine, place, said, methods, first, second], [picture, report, said], api_visibility="private"
        )
        ask.click(audited, [mine, place, said, methods], [picture, report, said], api_visibility="private")
    page.queue(default_concurrency_limit=1, max_size=WAITING, api_open=False)
    blocks: gradio.Blocks = page
    return blocks


def _picture(path: Path) -> str:
    """A picture in the page itself, so that no address leads to it."""
    words = {"montage.png": "The photographs, and their maps by each method", "audit.png": "The audit's figures"}
    data = base64.b64encode(path.read_bytes()).decode()
    return Markup('<img alt="{}" src="data:image/png;base64,{}" style="max-width: 100%">').format(
        words[path.name], data
    )


def _thumbnails(batch: ImageBatch) -> str:
    """The pictures that were taken, small, with their names."""
    shown = Markup("")
    for name, picture in zip(batch.names, batch.display(), strict=True):
        high, wide = picture.shape[:2]
        share = min(1.0, _THUMBNAIL / max(high, wide))
        small = resampled(np.clip(picture, 0, 1), max(1, round(high * share)), max(1, round(wide * share)))
        buffer = io.BytesIO()
        Image.fromarray(np.round(small * 255).astype(np.uint8)).save(buffer, "PNG")
        shown += Markup(
            '<figure style="margin: 0; max-width: 10rem"><img alt="" src="data:image/png;base64,{}">'
            '<figcaption style="overflow-wrap: anywhere">{}</figcaption></figure>'
        ).format(base64.b64encode(buffer.getvalue()).decode(), name)
    return str(Markup('<div style="display: flex; flex-wrap: wrap; gap: .6rem">{}</div>').format(shown))


def _forget(own: str | None) -> None:
    if own is not None:
        shutil.rmtree(own, ignore_errors=True)
