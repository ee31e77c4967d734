"""The command `sightline study`: claims of the literature, tested on a network."""

from rich.markup import escape
from rich.table import Table

from sightline._common.words import readable
from sightline.cli._console import console, interruptible, progress, say, say_refused
from sightline.cli._images import read_images
from sightline.cli._model import check_places, loaded
from sightline.options import ClaimsOptions, ModelOptions
from sightline.study import claims as study_claims


def claims(model: ModelOptions, asked: ClaimsOptions) -> None:
    """Test what the literature claims of saliency methods: positive forms, settings, input bias."""
    check_places(asked.images, asked.out)
    network = loaded(model)
    batch, _ = read_images(network, asked)
    kept = f"What is done is kept in {asked.out}; the same command goes on from there."
    with interruptible(kept), progress("studying") as advance:
        found = study_claims(
            network,
            batch,
            asked.methods,
            asked.parts,
            tests=asked.tests,
            folder=asked.out,
            count=asked.count,
            networks=asked.networks,
            stages=asked.stages,
            seed=asked.seed,
            progress=lambda words, done, of: advance(done, of, words),
        )
    table = Table("claim", "answer", box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for claim, answer in found.answers.items():
        table.add_row(escape(claim), answer)
    console.print(table)
    for name, part in found.parts.items():
        say_refused(part.refused)
        for note in part.notes:
            say("note", f"{name}: {note}")
    console.print(f"Wrote {escape(readable(asked.out / 'study.md'))}.", soft_wrap=True)
