"""`explain` from several threads at once gives what it gives from one, bit for bit."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline as sl
from sightline.operations._interception import eager


class Small(nn.Module):
    """Batch norms, a shared rectifier, a skip, a layer that is called twice."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem, self.norm, self.block = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(6, 4)
        self.norm.running_mean.normal_()

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.norm(self.stem(x)))
        for _ in range(2):
            h = h + self.relu(self.block(h))
        return self.head(F.avg_pool2d(h, 2).mean((2, 3)))


METHODS: list[list[str]] = [
    ["gradient", "grad_cam@norm"],
    ["lrp_epsilon_plus", "guided_backprop"],
    ["smooth_grad", "lrp_0", "layer_cam@block#2"],
    ["full_grad", "integrated_gradients"],
    ["rect_grad", "deconvnet", "saliency"],
]


@contextmanager
def _switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _all(jobs: list[Callable[[], sl.Explanation]]) -> list[sl.Explanation]:
    start = threading.Barrier(len(jobs))

    def run(job: Callable[[], sl.Explanation]) -> sl.Explanation:
        start.wait()
        return job()

    with _switching_often(), ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True], ids=["a model each", "one model"])
def test_threads_give_what_one_thread_gives(shared: bool) -> None:
    images = torch.rand(3, 3, 10, 10, generator=torch.Generator().manual_seed(1))
    models = [Small(0 if shared else seed).eval() for seed in range(len(METHODS))]
    models = [models[0]] * len(models) if shared else models
    hooks = len(nn.modules.module._global_forward_hooks), len(nn.modules.module._global_forward_pre_hooks)

    def job(number: int) -> Callable[[], sl.Explanation]:
        return lambda: sl.explain(models[number], images, METHODS[number], number % 4, chunk=2)

    jobs = [job(number) for number in range(len(METHODS))]
    expected = [one() for one in jobs]
    for _ in range(4):
        for one, other in zip(_all(jobs), expected, strict=True):
            assert one.layers == other.layers
            assert {name: torch.equal(one[name], other[name]) for name in other.maps} == dict.fromkeys(other.maps, True)
    assert hooks == (len(nn.modules.module._global_forward_hooks), len(nn.modules.module._global_forward_pre_hooks))


def test_refusals_stay_with_their_thread() -> None:
    images = torch.rand(2, 3, 10, 10)
    good, bad = Small(0).eval(), Small(1).train()
    (expected,) = (sl.explain(good, images, "gradient", 1),)

    def refused() -> sl.Explanation:
        with pytest.raises(sl.RefusalError, match="training mode"):
            sl.explain(bad, images, "gradient", 1)
        return expected

    for one in _all([lambda: sl.explain(good, images, "gradient", 1), refused] * 3):
        assert torch.equal(one["gradient"], expected["gradient"])


def test_the_stance_of_the_compiler_is_put_back_by_the_last() -> None:
    """Two that overlap and do not nest, as threads do."""
    import torch._dynamo.eval_frame as frame

    before = frame._stance
    first, second = eager(), eager()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert frame._stance.stance == "force_eager"
    second.__exit__(None, None, None)
    assert frame._stance == before
