"""Ours against the libraries that compute the same maps: time, counted arithmetic and peak memory, side by side.

Ours is the whole public path, `sl.explain` with one method. A peer gets the best form that its interface allows:
weights that need no gradient, BatchNorm merged and hooks registered before the clock starts. Writes its section of
`benchmarks/RESULTS.md`. Run on a quiet machine, with the extra `bench` installed: `make bench`.
"""

import argparse
import copy
import multiprocessing
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from measure import (
    RESULTS,
    conditions,
    declare_missing_operators,
    operations,
    paired,
    peak_mib,
    write_section,
)
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import sightline as sl

declare_missing_operators()

import torchvision  # noqa: E402
from captum import attr as captum  # noqa: E402
from captum.attr._utils.lrp_rules import EpsilonRule  # noqa: E402
from pytorch_grad_cam import GuidedBackpropReLUModel  # noqa: E402
from torchvision.models.mobilenetv2 import InvertedResidual, MobileNetV2  # noqa: E402
from zennit import composites as zennit  # noqa: E402
from zennit.attribution import Gradient  # noqa: E402
from zennit.canonizers import AttributeCanonizer, Canonizer, SequentialMergeBatchNorm  # noqa: E402
from zennit.layer import Sum  # noqa: E402
from zennit.rules import Epsilon  # noqa: E402
from zennit.torchvision import ResNetCanonizer  # noqa: E402
from zennit.types import Linear  # noqa: E402

TARGET = 5
CLASSES = list(range(10))

Run = Callable[[], Tensor]
Prepare = Callable[[nn.Module, Tensor], Run]  # what it does itself is not timed


def explain(method: str, model: nn.Module, images: Tensor, chunk: int | None) -> Run:
    return lambda: sl.explain(model, images, method, TARGET, chunk=chunk)[method]


def explain_ten(model: nn.Module, images: Tensor, chunk: int | None) -> Run:
    def run() -> Tensor:
        found = sl.explain(model, images, "gradient", targets=CLASSES, chunk=chunk)
        return torch.stack([explanation["gradient"] for explanation in found])

    return run


def bare(model: nn.Module, images: Tensor, *, frozen: bool) -> Run:
    model.requires_grad_(not frozen)

    def run() -> Tensor:
        x = images.clone().requires_grad_()
        (found,) = torch.autograd.grad(model(x)[:, TARGET].sum(), x)
        return found

    return run


def captum_with(method: type, model: nn.Module, images: Tensor, **settings: bool) -> Run:
    peer = method(model)
    return lambda: peer.attribute(images.clone().requires_grad_(), TARGET, **settings).detach()


def captum_ten(model: nn.Module, images: Tensor) -> Run:
    peer = captum.Saliency(model)

    def run() -> Tensor:
        x = images.clone().requires_grad_()
        return torch.stack([peer.attribute(x, number, abs=False) for number in CLASSES])

    return run


def captum_lrp(model: nn.Module, images: Tensor) -> Run:
    """Captum has no merging of BatchNorm; it gets a network that never had one. Its rules must be set for each call."""
    model = without_batch_norm(model)
    peer = captum.LRP(model)
    # What Captum adds in its max-pooling, where nothing needs it, is made nothing.
    rules = {nn.Conv2d: 1e-3, nn.Linear: 1e-3, nn.AdaptiveAvgPool2d: 1e-3, nn.MaxPool2d: 1e-30}

    def run() -> Tensor:
        for module in model.modules():
            if type(module) in rules:
                module.rule = EpsilonRule(rules[type(module)])
        return peer.attribute(images.clone().requires_grad_(), TARGET).detach()

    return run


def without_batch_norm(model: nn.Module) -> nn.Module:
    """A network whose `features` are one row, with every BatchNorm merged into the convolution before it."""
    layers = list(model.features)
    model.features = nn.Sequential(
        *(
            fuse_conv_bn_eval(layer, after) if isinstance(after, nn.BatchNorm2d) else layer
            for layer, after in pairwise([*layers, nn.Identity()])
            if not isinstance(layer, nn.BatchNorm2d)
        )
    )
    return model.requires_grad_(False)


def zennit_with(composite: Callable[..., zennit.Composite], model: nn.Module, images: Tensor) -> Run:
    registered = composite(canonizers=canonizers(model))
    registered.register(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0  # which Zennit's merging forgets
    rectified = composite is zennit.GuidedBackprop

    def start(scores: Tensor) -> Tensor:
        chosen = torch.zeros_like(scores)
        chosen[:, TARGET] = 1 if rectified else scores[:, TARGET]
        return chosen

    peer = Gradient(model, registered, start)
    return lambda: peer(images.clone())[1].detach()


def zennit_epsilon(canonizers: list[Canonizer]) -> zennit.Composite:
    return zennit.LayerMapComposite([*zennit.layer_map_base(1e-3), (Linear, Epsilon(1e-3))], canonizers=canonizers)


def canonizers(model: nn.Module) -> list[Canonizer]:
    if isinstance(model, torchvision.models.ResNet):
        return [ResNetCanonizer()]
    return [SequentialMergeBatchNorm(), AttributeCanonizer(modules_for_mobilenet)]


def modules_for_mobilenet(_: str, module: nn.Module) -> dict[str, object] | None:
    """Zennit sees modules only: its own `Sum` for each residual addition, and a module for the pooling."""
    if isinstance(module, InvertedResidual) and module.use_res_connect:
        add = Sum()
        return {"zennit_sum": add, "forward": lambda x: add(torch.stack([x, module.conv(x)], -1))}
    if isinstance(module, MobileNetV2):
        pool = nn.AdaptiveAvgPool2d(1)
        return {"zennit_pool": pool, "forward": lambda x: module.classifier(pool(module.features(x)).flatten(1))}
    return None


def grad_cams_guided(model: nn.Module, images: Tensor) -> Run:
    peer = GuidedBackpropReLUModel(model)
    return lambda: torch.from_numpy(peer(images.clone(), TARGET)).permute(2, 0, 1)[None]


CAPTUM_GRADIENT = partial(captum_with, captum.Saliency, abs=False)
GRADIENT = {
    "bare torch": partial(bare, frozen=False),
    "bare torch, frozen": partial(bare, frozen=True),
    "Captum": CAPTUM_GRADIENT,
}
EPSILON_PLUS = {"Zennit": partial(zennit_with, zennit.EpsilonPlus)}


class Row(NamedTuple):
    """A method on a network, and who else computes it."""

    network: str
    method: str
    peers: dict[str, Prepare]

    def ours(self, model: nn.Module, images: Tensor, chunk: int | None) -> Run:
        if self.method == TEN:
            return explain_ten(model, images, chunk)
        return explain(self.method, model, images, chunk)


TEN = "gradient, ten classes"
ROWS = [
    Row("resnet18", "gradient", GRADIENT),
    Row("resnet18", TEN, {"Captum": captum_ten}),
    Row(
        "resnet18",
        "guided_backprop",
        {
            "Captum": partial(captum_with, captum.GuidedBackprop),
            "Zennit": partial(zennit_with, zennit.GuidedBackprop),
            "pytorch-grad-cam": grad_cams_guided,
        },
    ),
    Row("resnet18", "deconvnet", {"Captum": partial(captum_with, captum.Deconvolution)}),
    Row("resnet18", "rect_grad", {}),
    Row("resnet18", "lrp_epsilon", {"Zennit": partial(zennit_with, zennit_epsilon)}),
    Row("resnet18", "lrp_epsilon_plus", EPSILON_PLUS),
    Row(
        "resnet18",
        "lrp_epsilon_alpha2_beta1",
        {"Zennit": partial(zennit_with, zennit.EpsilonAlpha2Beta1)},
    ),
    Row("mobilenet_v2", "gradient", GRADIENT),
    Row("mobilenet_v2", "lrp_epsilon_plus", EPSILON_PLUS),
    # Captum's LRP knows no additions but its own module, so it is met on a network without any.
    Row("vgg11_bn", "lrp_epsilon", {"Captum": captum_lrp, "Zennit": partial(zennit_with, zennit_epsilon)}),
    Row("vgg11_bn", "lrp_epsilon_plus", EPSILON_PLUS),
]
ONE_IMAGE_ONLY = {"pytorch-grad-cam"}


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model


def pictures(batch: int, size: int) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


OURS, OURS_AT_ONCE = "ours", "ours, in one pass"


def prepared(row: Row, peer: str, model: nn.Module, images: Tensor) -> Run:
    """Each works on a model of its own, since most peers change theirs."""
    model = copy.deepcopy(model)
    if peer not in row.peers:
        return row.ours(model, images, len(images) if peer == OURS_AT_ONCE else None)
    return row.peers[peer](model.requires_grad_(False), images)


def difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def times(rows: list[Row], batches: list[int], pairs: int, size: int) -> list[str]:
    lines = [
        "| network | method | batch | ours, s | peer | peer, s | ours / peer | largest difference of the maps |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        model = network(row.network)
        for batch in batches:
            images = pictures(batch, size)
            count = pairs if batch == 1 else max(2, pairs // 4)
            ours = prepared(row, OURS, model, images)
            for peer in row.peers or [OURS]:
                if peer in ONE_IMAGE_ONLY and batch > 1:
                    continue
                theirs = prepared(row, peer, model, images)
                found = paired(theirs, ours, count)
                cells = [row.network, row.method, str(batch), f"{found.second:.3f}"]
                if peer == OURS:
                    cells += ["none", "", "", ""]
                else:
                    apart = difference(ours(), theirs())
                    cells += [peer, f"{found.first:.3f}", str(found), f"{apart:.0e}"]
                lines.append(f"| {' | '.join(cells)} |")
                print(lines[-1], flush=True)
    return lines


def arithmetic(rows: list[Row], size: int) -> list[str]:
    lines = ["| network | method | ours | peers |", "|---|---|---|---|"]
    images = pictures(1, size)
    for row in rows:
        model = network(row.network)
        forward = operations(lambda model=model: model(images))
        counted = {peer: operations(prepared(row, peer, model, images)) / forward for peer in (OURS, *row.peers)}
        ours = counted.pop(OURS)
        peers = ", ".join(f"{peer} {units:.2f}" for peer, units in counted.items()) or "none"
        lines.append(f"| {row.network} | {row.method} | {ours:.2f} | {peers} |")
        print(lines[-1], flush=True)
    return lines


def memory(rows: list[Row], batches: list[int], size: int) -> list[str]:
    lines = [
        "| network | method | batch | ours, MiB | ours in one pass, MiB | peers, MiB |",
        "|---|---|---|---|---|---|",
    ]
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh, max_tasks_per_child=1) as pool:
        for row in rows:
            for batch in batches:
                found = {
                    peer: pool.submit(peak, row.network, row.method, peer, batch, size).result()
                    for peer in (OURS, OURS_AT_ONCE, *row.peers)
                    if peer not in ONE_IMAGE_ONLY
                }
                ours, at_once = found.pop(OURS), found.pop(OURS_AT_ONCE)
                peers = ", ".join(f"{peer} {mib:.0f}" for peer, mib in found.items()) or "none"
                lines.append(f"| {row.network} | {row.method} | {batch} | {ours:.0f} | {at_once:.0f} | {peers} |")
                print(lines[-1], flush=True)
    return lines


def peak(network_name: str, method: str, peer: str, batch: int, size: int) -> float:
    warnings.simplefilter("ignore")
    row = next(row for row in ROWS if (row.network, row.method) == (network_name, method))
    model = network(network_name)
    # A small run first, so that code loaded by the first call is not counted.
    prepared(row, peer, model, pictures(1, 64))()
    return peak_mib(prepared(row, peer, model, pictures(batch, size)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40, help="for one image; a quarter of it for batches")
    parser.add_argument("--network", help="of the rows of one network only")
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory, which takes longest")
    parser.add_argument("--quick", action="store_true", help="small pictures and two pairs, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # Captum announces every hook
    rows = [row for row in ROWS if options.network in {None, row.network}]
    size, pairs = (64, 2) if options.quick else (224, options.pairs)
    lines = [
        f"{conditions()}; `benchmarks/peers.py --pairs {pairs}`, {size} px, random weights.",
        "",
        "### Time",
        "",
        "Pairs of runs within one process, in alternating order; 95 % bootstrap interval of the median ratio.",
        "",
        *times(rows, [1] if options.quick else [1, 8], pairs, size),
        "",
        "### Arithmetic, in forward passes of the network",
        "",
        *arithmetic(rows, size),
    ]
    if not options.no_memory:
        lines += [
            "",
            "### Peak memory of a call, each in a process of its own",
            "",
            "Ours cuts a batch into passes by the free memory it finds; in one pass it does what the peers do.",
            "",
            *memory(rows[:2] if options.quick else rows, [2] if options.quick else [8, 16], size),
        ]
    write_section(options.out, "Against the libraries that compute the same maps", lines)


if __name__ == "__main__":
    main()
