"""A page for people at its real size: 50 photographs, 12 methods, MobileNetV2, an audit, GAD; its bytes and seconds.

Ready is when the first map is drawn and the strip of all methods stands beneath it, in Chromium without a screen; the
median of five openings. Photographs and weights are looked for in `../shared/data`, or where the environment variable
SIGHTLINE_DATA says. The photographs are ImageNet's and 13 pets, and GAD distances tabby from Labrador on photographs of
cats and dogs and explains the pets. An audit or a fit that was interrupted goes on.

    python benchmarks/page.py --folder page
"""

import argparse
import os
import shutil
import statistics
import sys
import time
from pathlib import Path

from measure import conditions, declare_missing_operators
from playwright.sync_api import sync_playwright

import sightline as sl
from sightline.rendering._writing import write_page

declare_missing_operators()

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("SIGHTLINE_DATA", ROOT.parent / "shared" / "data"))
METHODS = ["gradient", "saliency", "input_x_gradient", "integrated_gradients", "grad_cam", "grad_cam_plus_plus",
           "layer_cam", "guided_backprop", "full_grad", "lrp_epsilon_plus", "rect_grad",
           "excitation_backprop"]  # fmt: skip
PETS = 13
TABBY, LABRADOR = 281, 208
# Fifty times the cost of the others together.
AUDITED = [name for name in METHODS if name != "integrated_gradients"]


def made(folder: Path, images: int, audited: int) -> None:
    """Explain, audit and distance, unless that was done."""
    model = sl.load_model(
        f"{ROOT}/tests/helpers/networks.py:mobilenet_v2", weights=DATA / "weights/mobilenet_v2_imagenet_fp16.pt"
    )
    pets = sorted((DATA / "images/pets").glob("*.jpg"))[:PETS]
    photographs = sorted((DATA / "images/imagenet").glob("*.jpg"))[: images - len(pets)]
    batch = sl.load_images([*photographs, *pets], model)
    if not (folder / "manifest.json").exists():
        sl.explain(model, batch, METHODS).save(folder)
    if audited and not (folder / "audit" / "audit.json").exists():
        found = sl.audit(
            model, batch[:audited], AUDITED, ["class_sensitivity", "parameter_randomization", "input_bias"],
            randomisation=sl.Randomisation(stages=3), folder=folder / "audit",
            progress=lambda words, done, of: print(f"{done}/{of} {words}", file=sys.stderr, flush=True),
        )  # fmt: skip
        found.save(folder / "audit")
    if pets and not (folder / "gad" / "manifest.json").exists():
        training = sl.load_images(DATA / "images/cats_and_dogs/train", model, limit=400)
        gad = sl.GAD(
            model,
            (TABBY, LABRADOR),
            (2, 4),
            strategy="interpolated",
            steps=100,
            batch_size=32,
            folder=folder / "support",
        ).fit(training, names=("cat", "dog"), controls=False)
        print(gad.report.to_string(), *gad.notes, sep="\n", file=sys.stderr)
        gad.explain(batch[-len(pets) :], METHODS).save(folder / "gad")


def ready(page: Path, screenshot: Path) -> list[float]:
    """Seconds from the opening to a gallery that can be used."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"]
        )
        for _ in range(5):
            tab = browser.new_page(viewport={"width": 1280, "height": 1000})
            start = time.perf_counter()
            tab.goto(page.resolve().as_uri(), wait_until="commit")
            tab.wait_for_selector("#strip button", timeout=60_000)
            seconds.append(time.perf_counter() - start)
            tab.screenshot(path=screenshot, full_page=True)
            tab.close()
        browser.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("page"))
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--audited", type=int, default=24, help="images of the audit; 0 for none")
    options = parser.parse_args()
    made(options.folder, options.images, options.audited)
    start = time.perf_counter()
    page = write_page(options.folder)
    written = time.perf_counter() - start
    seconds = ready(page, options.folder / "page.png")
    print(
        f"{conditions()}; {options.images} photographs, {len(METHODS)} methods: {page.stat().st_size / 1e6:.1f} MB, "
        f"written in {written:.1f} s, ready in {statistics.median(seconds):.2f} s "
        f"[{min(seconds):.2f}, {max(seconds):.2f}]"
    )


if __name__ == "__main__":
    main()
