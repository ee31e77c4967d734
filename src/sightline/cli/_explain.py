"""The command `sightline explain`: raw maps of images, a manifest and a page."""

from collections.abc import Iterator, Sequence

from rich.markup import escape

from sightline._common.words import counted, readable
from sightline.cli._console import console, interruptible, progress, say, say_refused
from sightline.cli._images import read_images, say_replaced
from sightline.cli._model import check_places, loaded
from sightline.cli._targets import save_each, targets_of
from sightline.explaining import Explanation
from sightline.explaining import explain as explained
from sightline.methods import catalogue
from sightline.models import model_info
from sightline.options import ExplainOptions, ModelOptions
from sightline.rendering import write_page

_LOST = {"constants": "to biases", "stabiliser": "in sums of nearly zero", "elsewhere": "elsewhere"}


def explain(model: ModelOptions, asked: ExplainOptions) -> None:
    """Explain images: write raw maps, a manifest and a montage to look at."""
    out = asked.out
    check_places([*asked.images, *(asked.references or ())], out)
    network = loaded(model)
    say_replaced(out)
    info = model_info(network)
    height, width = info.preprocessing.size
    say("model", f"{info.spec}; weights {info.weights}; pictures at {width} x {height} px, {info.preprocessing.source}")
    for note in info.notes:
        say("note", note)
    names = list(catalogue()) if asked.methods == ("all",) else list(asked.methods)
    nothing = f"Nothing was written to {readable(out)}."
    with interruptible(nothing):
        batch, compared = read_images(network, asked, asked.references)
        targets = targets_of(network, batch, asked.target)
    with interruptible(nothing), progress("explaining") as advance:
        found = explained(
            network,
            batch,
            names,
            targets=targets,
            references=compared,
            seed=asked.seed,
            on_refusal="record",
            progress=advance,
        )
    folders = save_each(found, targets, out)
    page = write_page(out, side=asked.page_side)
    _summary(found, batch.warnings)
    result, several = found[0], f", {len(found)} targets" if len(found) > 1 else ""
    skipped = f" ({len(batch.failures)} not used)" if batch.failures else ""
    montages = ", ".join(readable(folder / "montage.png") for folder in folders[:3])
    montages += ", ..." if len(folders) > 3 else ""
    console.print(
        f"{counted(len(result), 'image')}{skipped}, {counted(len(result.maps), 'method')}{several}: "
        f"{escape(montages)}; to look closer open {escape(readable(page))} in a browser",
        soft_wrap=True,
    )


def _summary(found: Sequence[Explanation], said: Sequence[str]) -> None:
    """What a reader should know; of several targets everything that is said once."""
    say_refused({name: why for one in found for name, why in one.refused.items()})
    for note in dict.fromkeys(note for one in found for note in one.checks.notes):
        if note not in said:
            of = [one.targets[0] for one in found if note in one.checks.notes]
            say("note", note if len(of) == len(found) else f"{', '.join(of)}: {note}")
    for one in found:
        head = f"{one.targets[0]}, " if len(found) > 1 else ""
        for line in _sums(one):
            console.print(escape(head + line), soft_wrap=True, highlight=False)


def _sums(result: Explanation) -> Iterator[str]:
    for name, residual in result.checks.completeness.items():
        if name not in result.checks.decomposition and name not in result.checks.conservation:
            worst = float(residual.abs().max())
            yield f"{name}: its sum misses the change in value from the baseline by at most {worst:.2g}"
    for name, parts in result.checks.decomposition.items():
        worst, left = float(parts.residual.abs().max()), float(parts.remainder.abs().max())
        yield f"{name}: its parts sum to the value but for {worst:.2g}; biases without a place in the map: {left:.2g}"
    for name, kept in result.checks.conservation.items():
        shares = kept.lost
        lost = ", ".join(f"{shares[where]:.2g} {said}" for where, said in _LOST.items() if abs(shares[where]) >= 0.005)
        gone = f"; the rest went {lost}" if lost else ""
        yield f"{name}: {shares['arrived']:.2g} of the explained value arrives{gone}"
