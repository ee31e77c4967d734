"""What following layouts costs: a forward that looks for the last feature map, with and without it, in pairs.

python benchmarks/layout_cost.py
"""

from unittest import mock

import torch
from measure import RESULTS, conditions, declare_missing_operators, paired, write_section
from torch.utils.flop_counter import FlopCounterMode

declare_missing_operators()

import timm  # noqa: E402

from sightline.operations import LAST_SPATIAL, Tape  # noqa: E402
from sightline.operations.layout import Layouts  # noqa: E402

NETWORKS = (("resnet18", 224), ("resnet50", 224), ("swin_tiny_patch4_window7_224", 224), ("vit_small_patch16_224", 224))


def _nothing(*_: object, **__: object) -> None:
    return


def main() -> None:
    """A row for each network."""
    torch.set_num_threads(1)
    rows = []
    for name, size in NETWORKS:
        torch.manual_seed(0)
        model = timm.create_model(name, pretrained=False, num_classes=10).eval()
        images = torch.randn(2, 3, size, size, requires_grad=True)

        def record(*, follows: bool) -> object:
            follow = Layouts.follow if follows else _nothing
            with mock.patch.object(Layouts, "follow", follow):
                return Tape(model, (), [LAST_SPATIAL]).record(images)  # noqa: B023 - called within the loop

        counts = []
        for follows in (False, True):
            with FlopCounterMode(display=False) as counter:
                record(follows=follows)
            counts.append(counter.get_total_flops())
        times = paired(lambda: record(follows=False), lambda: record(follows=True), 9)
        same = "the same" if counts[0] == counts[1] else f"{counts[0]} against {counts[1]}"
        rows.append(f"| {name} | {1000 * times.first:.0f} ms | {times} | {same} |")
    text = [
        "Seconds of a forward of two images that looks for the last feature map: without following layouts, and the",
        "ratio with it (median of 9 pairs, 95 % interval).",
        "",
        "| network | without | ratio | counted operations |",
        "|---|---|---|---|",
        *rows,
        "",
        conditions(),
    ]
    write_section(RESULTS, "Following layouts", text)


if __name__ == "__main__":
    main()
