"""Layouts against the operations themselves: an input whose values say where they are tells where each place went."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sightline.operations.kinds._spelling import layout_rule, spelling
from sightline.operations.layout import Grid, Layouts, Unreadable, grid_of

BATCH, CHANNELS, HEIGHT, WIDTH = 2, 3, 8, 12


class Following(TorchFunctionMode):
    """Follows layouts without the rest of a pass."""

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        self.layouts = Layouts()
        self.layouts.begin(inputs)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name, kind, _ = spelling(func)
        self.layouts.follow(func, name, layout_rule(name, kind), args, kwargs, tensors((args, kwargs)), tensors(result))
        return result


def tensors(value) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    return [t for item in value for t in tensors(item)] if isinstance(value, list | tuple) else []


def grid_after(function, inputs: Tensor) -> tuple[Tensor, Grid | Unreadable, str]:
    """The result of a function, its grid, and what mixed the images."""
    following = Following(inputs)
    with following, torch.no_grad():
        result = function(inputs)
    layout = following.layouts.of(result)
    return result, grid_of(layout, len(inputs)), "" if layout is None else layout.mixed


def coordinates() -> Tensor:
    """Images whose channels hold the image's number, the row and the column of each pixel."""
    image, row, column = torch.meshgrid(
        torch.arange(BATCH), torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij"
    )  # fmt: skip
    return torch.stack([image, row, column], 1).double()


def assert_read(function, *, tolerance: float = 1e-9) -> Grid:
    """What is read from the result holds, at each place, the image, row and column that the grid says.

    The function must keep the three channels in their order.
    """
    result, grid, _ = grid_after(function, coordinates())
    assert isinstance(grid, Grid), grid
    read = grid.read(result)
    assert read.shape == (BATCH, CHANNELS, *grid.sizes)
    rows, columns = (
        (span.low + span.high) / 2 + step * torch.arange(size)
        for span, step, size in zip(grid.spans, grid.steps, grid.sizes, strict=True)
    )
    for image in range(BATCH):
        inside = [(where >= 0) & (where <= size - 1) for where, size in ((rows, HEIGHT), (columns, WIDTH))]
        here = inside[0][:, None] & inside[1][None]
        assert here.any()
        assert torch.all(read[image, 0][here] == image)
        wrong = torch.maximum((read[image, 1] - rows[:, None]).abs(), (read[image, 2] - columns).abs())
        assert float(wrong[here].max()) <= tolerance
    return grid


def windows(x: Tensor, size: int = 4) -> Tensor:
    """(batch, height, width, channel) into (window, place, channel), as Swin does."""
    b, h, w, c = x.shape
    return x.view(b, h // size, size, w // size, size, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, size * size, c)


EXACT = {
    "nothing": lambda x: x * 1,
    "channels last": lambda x: x.permute(0, 2, 3, 1),
    "tokens": lambda x: x.flatten(2).transpose(1, 2),
    "tokens first": lambda x: x.flatten(2).permute(2, 0, 1),
    "columns before rows": lambda x: x.transpose(2, 3).flatten(2),
    "windows": lambda x: windows(x.permute(0, 2, 3, 1)),
    "shifted windows": lambda x: windows(x.permute(0, 2, 3, 1).roll((-2, -3), (1, 2))),
    "images in the channels": lambda x: x.reshape(1, -1, HEIGHT, WIDTH),
    "movedim": lambda x: x.movedim(1, -1),
    "mT": lambda x: x.mT,
    "unfolded tensor": lambda x: x.unfold(2, 4, 4).unfold(3, 4, 4),
    "chunks put together again": lambda x: torch.cat(x.chunk(2, 2), 2),
    "a slice": lambda x: x[:, :, 2:6, 3:],
    "every second": lambda x: x[:, :, ::2, 1::3],
    "narrow": lambda x: x.narrow(3, 5, 4),
    "ellipsis": lambda x: x[..., 1:-1],
    "flipped": lambda x: x.flip(-1),
    "flipped and cut": lambda x: x.flip((2, 3))[:, :, 1:, :-2],
    "padded": lambda x: F.pad(x, (3, 1, 2, 0)),
    "cropped by padding": lambda x: F.pad(x, (-2, 0, -1, -3)),
    "reflected": lambda x: F.pad(x, (2, 2, 1, 1), mode="reflect"),
    "pooled": lambda x: F.avg_pool2d(x, 2),
    "pooled with padding": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)[:, :, 1:-1, 1:-1],
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, (4, 3)),
    "resized": lambda x: F.interpolate(x, (16, 24), mode="bilinear")[:, :, 2:-2, 2:-2],
    "corners aligned": lambda x: F.interpolate(x, (15, 23), mode="bilinear", align_corners=True),
    "a mean of windows": lambda x: x.reshape(BATCH, 3, 4, 2, 6, 2).mean((3, 5)),
    "depthwise": lambda x: F.conv2d(x, _middle(3), padding=1, groups=3)[:, :, 1:-1, 1:-1],
    "depthwise, dilated and strided": lambda x: F.conv2d(x, _middle(3), stride=2, dilation=2, groups=3),
    "depthwise, even": lambda x: F.conv2d(x, torch.full((3, 1, 2, 2), 0.25).double(), stride=2, groups=3),
    "a kernel for each image": lambda x: F.conv2d(
        x.reshape(1, -1, HEIGHT, WIDTH), _middle(3 * BATCH), groups=3 * BATCH
    ).view(BATCH, 3, HEIGHT - 2, WIDTH - 2),
    "linear over channels": lambda x: F.linear(x.permute(0, 2, 3, 1), torch.eye(3).double()),
    "matmul with weights": lambda x: x.flatten(2).transpose(1, 2) @ torch.eye(3).double(),
    "einsum": lambda x: torch.einsum("bchw,dc->bhwd", x, torch.eye(3).double()),
    "residual tokens": lambda x: (t := x.flatten(2).transpose(1, 2)) + 0 * t.softmax(1) @ torch.eye(3).double(),
    "nearest": lambda x: F.interpolate(x, scale_factor=0.25),
    "windows by views, folded": lambda x: F.fold(
        x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 1, 4, 5, 2, 3).reshape(BATCH, 12, 24), (HEIGHT, WIDTH), 2, stride=2
    ),
    "beside its mean": lambda x: torch.cat([x, x.mean((2, 3), keepdim=True).expand_as(x)], 1)[:, :3],
    "gated by strips": lambda x: x * (0 * x.mean(3, True) + 0 * x.mean(2, True)).exp(),
    "patches merged by slices": lambda x: torch.cat(
        [x[:, :, ::2, ::2], x[:, :, 1::2, ::2], x[:, :, ::2, 1::2], x[:, :, 1::2, 1::2]], 1
    ).unflatten(1, (4, 3)).mean(1),
    "fold of unfold": lambda x: F.fold(F.unfold(x, 2, stride=2), (HEIGHT, WIDTH), 2, stride=2),
    "split and stacked rows": lambda x: torch.stack([x[i] for i in range(BATCH)]),
    "twice the images": lambda x: torch.cat([x, 2 * x])[:BATCH],
}  # fmt: skip


def _shifted(x: Tensor) -> Tensor:
    moved = x.clone()
    moved[..., :-4] = x[..., 4:]
    return moved


def _middle(channels: int) -> Tensor:
    kernel = torch.zeros(channels, 1, 3, 3, dtype=torch.float64)
    kernel[:, :, 1, 1] = 1
    return kernel


def _pasted(x: Tensor) -> Tensor:
    canvas = x.new_zeros(BATCH, 3, 10, 15)
    canvas[:, :, 1:9, 2:14] = x
    return canvas


EXACT["written into zeros"] = _pasted


@pytest.mark.parametrize("name", EXACT)
def test_places_are_read_where_they_went(name: str) -> None:
    assert_read(EXACT[name])


MOVES = {
    "permute": lambda x, n: x.permute(*list(itertools.permutations(range(x.dim())))[n % math.factorial(x.dim())]),
    "unsqueeze": lambda x, n: x.unsqueeze(n % (x.dim() + 1)),
    "flatten": lambda x, n: x.flatten(n % x.dim(), min(n % x.dim() + 1, x.dim() - 1)),
    "split": lambda x, n: x.unflatten(n % x.dim(), (-1, 2)) if x.shape[n % x.dim()] % 2 == 0 else x,
    "squeeze": lambda x, n: x.squeeze(n % x.dim()),
    "roll": lambda x, n: x.roll(n, n % x.dim()).roll(-n, n % x.dim()),
    "contiguous": lambda x, n: x.contiguous(),
}


@given(st.lists(st.tuples(st.sampled_from(sorted(MOVES)), st.integers(0, 23)), max_size=7))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_sequence_of_moves_is_read_or_refused(moves: list[tuple[str, int]]) -> None:
    """What only moves values about is read as they were, or there is no grid; never anything else."""

    def moved(x: Tensor) -> Tensor:
        for name, number in moves:
            x = MOVES[name](x, number) if x.dim() < 7 or name != "unsqueeze" else x
        return x

    inputs = coordinates()
    result, grid, mixed = grid_after(moved, inputs)
    assert not mixed
    if isinstance(grid, Grid):
        assert torch.equal(grid.read(result), inputs)


UNREADABLE = {
    "a token taken out of the middle": (
        lambda x: torch.cat([(t := x.flatten(2).mT)[:, :60], t[:, 61:]], 1),
        "getitem",
    ),
    "tokens from the fifth on": (lambda x: x.flatten(2).mT[:, 5:], "getitem"),
    "the batch three times": (lambda x: x[None].expand(3, -1, -1, -1, -1).flatten(0, 1), "images"),
    "images in another order": (lambda x: x.flip(0), "another order"),
    "images taken apart and put together backwards": (lambda x: torch.cat([x[1:], x[:1]]), "another order"),
    "images stacked backwards": (lambda x: torch.stack([x[1], x[0]]), "another order"),
    "rolled and cut": (lambda x: x.roll(-3, 3)[..., :-3], "getitem"),
    "rolled, then a window": (lambda x: F.avg_pool2d(x.roll(5, 3), 3, 1), "avg_pool2d"),
    "written from elsewhere": (lambda x: _shifted(x), "setitem"),
    "a class token": (lambda x: torch.cat([torch.zeros(BATCH, 1, 3).double(), x.flatten(2).mT], 1), "1 token"),
    "a linear layer over places": (lambda x: F.linear(x.flatten(2), torch.ones(96, 96).double()), "no places"),
    "sorted": (lambda x: x.sort(2).values, "sort"),
    "pooled": (lambda x: x.mean((2, 3)), "no places"),
    "flattened": (lambda x: x.flatten(1), "one axis"),
    "half a window": (lambda x: x.view(BATCH, 3, 2, 4, 12)[:, :, :, :3], "missing"),
    "rows alone": (lambda x: x.mean(3), "axis 1"),
    "picked by numbers": (lambda x: x[:, :, [3, 1, 2]], "getitem"),
    "overlapping windows": (lambda x: x.unfold(2, 4, 2), "cannot be told"),
    "images as channels": (lambda x: F.conv2d(x.transpose(0, 1), torch.ones(1, BATCH, 1, 1).double()), "rows"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_has_no_grid_says_why(name: str) -> None:
    function, said = UNREADABLE[name]
    _, grid, _ = grid_after(function, coordinates())
    assert isinstance(grid, Unreadable)
    assert said in grid.reason


MIXING = {
    "centred over the batch": lambda x: x - x.mean(0, keepdim=True),
    "the whole mean": lambda x: x / x.mean(),
    "softmax over images": lambda x: x.softmax(0),
    "another image": lambda x: x - x.flip(0),
    "the first image": lambda x: x - x[0],
    "rolled images": lambda x: x + x.roll(1, 0),
    "chosen images": lambda x: x * x[[1, 0]],
    "all pairs": lambda x: x.flatten(1) @ x.flatten(1).T,
    "pairs by broadcasting": lambda x: x[:, None] - x[None],
    "a convolution over images": lambda x: F.conv2d(x.transpose(0, 1), torch.ones(4, BATCH, 1, 1).double()),
    "attention among images": lambda x: F.scaled_dot_product_attention(t := x.flatten(1)[None], t, t),
    "einsum over images": lambda x: torch.einsum("bchw,bd->dchw", x, torch.ones(BATCH, 4).double()),
    "normalised over images": lambda x: F.normalize(x, dim=0),
    "a running sum": lambda x: x.cumsum(0),
}
APART = {
    "one by one": lambda x: torch.stack([x[i] - x[i].mean() for i in range(BATCH)]),
    "slices of the batch": lambda x: torch.cat([x[i : i + 1] / x[i : i + 1].amax((1, 2, 3)) for i in range(BATCH)]),
    "test-time augmentation": lambda x: (a := torch.cat([x, x.flip(3)]), (a[:BATCH] + a[BATCH:]) / 2)[1],
    "crops in the batch": lambda x: x.unfold(2, 4, 4).permute(0, 2, 1, 3, 4).reshape(-1, 3, 12, 4).mean((1, 2, 3)),
    "a limit on all values": lambda x: x + 0 * x.mean((1, 2, 3), keepdim=True),
    "group norm": lambda x: F.group_norm(x, 3),
    "attention among places": lambda x: F.scaled_dot_product_attention(t := x.flatten(2).mT, t, t),
}


@pytest.mark.parametrize("name", MIXING)
def test_operations_that_mix_images_are_named(name: str) -> None:
    assert grid_after(MIXING[name], coordinates() + 1)[2]


@pytest.mark.parametrize("name", APART)
def test_operations_that_keep_images_apart_are_not(name: str) -> None:
    assert not grid_after(APART[name], coordinates() + 1)[2]


def test_branches_that_disagree_give_an_interval() -> None:
    """A shortcut that pools beside a convolution that does not: 2 x 2 means lie half a pixel on."""
    grid = grid_after(
        lambda x: F.conv2d(x, _middle(3), stride=2, padding=1, groups=3) + F.avg_pool2d(x, 2), coordinates()
    )[1]
    assert isinstance(grid, Grid)
    assert [(span.low, span.high) for span in grid.spans] == [(0, 0.5)] * 2


def test_cropped_pixels_have_no_part() -> None:
    grid = grid_after(lambda x: F.avg_pool2d(x[:, :, 2:6, 4:], 2), coordinates())[1]
    assert isinstance(grid, Grid)
    assert [(span.first, span.last) for span in grid.spans] == [(1.5, 5.5), (3.5, 11.5)]


def test_the_users_tensors_carry_no_notes() -> None:
    """A model may write into a buffer of its own."""
    buffer = torch.zeros(BATCH, 3, HEIGHT, WIDTH, dtype=torch.float64)
    _, grid, _ = grid_after(lambda x: buffer.copy_(x), coordinates())
    assert isinstance(grid, Grid)
    assert vars(buffer) == {}


def test_networks_of_modules() -> None:
    """Strided convolutions, pooling and a transposed convolution, by the formula of each."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.MaxPool2d(2), nn.ConvTranspose2d(4, 5, 2, stride=2), nn.GELU()
    ).double()
    grid = grid_after(model, coordinates())[1]
    # Centres: 0, 2, 4 ... ; then 1, 5, 9 ...; then 0, 2, 4 ... again.
    assert isinstance(grid, Grid)
    assert (grid.sizes, grid.steps) == ((4, 6), (2, 2))
    assert [(span.low, span.high) for span in grid.spans] == [(0, 0)] * 2
