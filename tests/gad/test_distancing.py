"""Gradient Artificial Distancing on networks small enough to be worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

import sightline as sl
from sightline.evaluation._regions import hulls
from sightline.gad import PAPER_LIKE, Consistency, Control, distanced
from sightline.gad._controls import as_many, as_wide, orders
from sightline.gad._weights import read
from sightline.models._fingerprint import fingerprint

CLASSES = (2, 0)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, stride=2), nn.ReLU(),
        nn.Dropout(0.3), nn.Flatten(), nn.Linear(6 * 9, 3),
    ).eval()  # fmt: skip


@pytest.fixture
def model() -> nn.Module:
    return network()


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(37) % 3
    images = torch.randn(37, 3, 8, 8, generator=generator)
    images[labels == 0, 0] += 1
    images[labels == 2, 2] += 1
    return images, labels


def test_the_papers_own_example_of_distancing() -> None:
    logits = torch.tensor([[1.0, -1.0], [0.5, -0.6], [-0.9, 0.8]])
    found = distanced(logits, torch.tensor([0, 0, 1]), (0, 1), (1.0, 1.0))
    torch.testing.assert_close(found, torch.tensor([[1.0, -2.0], [0.5, -1.6], [-1.9, 0.8]]))


def test_only_the_other_logit_of_the_pair_moves() -> None:
    logits = torch.arange(12.0).view(3, 4)
    found = distanced(logits, torch.tensor([3, 1, 2]), (1, 3), (0.5, 2.0))
    # Class 3 is second: its images push output 1 by the second distance; class 1 pushes output 3 by the first.
    expected = logits.clone()
    expected[0, 1] -= 2.0
    expected[1, 3] -= 0.5
    assert torch.equal(found, expected)
    assert torch.equal(logits, torch.arange(12.0).view(3, 4))


@pytest.mark.parametrize(
    "alphas",
    [
        (),
        (0,),
        (2, 0),
        (0, 0, 2),
        ((0, 1), (1, 2)),
        (-1,),
        (2, 2),
        (4, 2),
        ((1, 2), (2, 2)),
        (1, float("inf")),
        "ab",
        (None,),
    ],
)
def test_distances_that_do_not_rise_are_refused(model: nn.Module, alphas: object) -> None:
    with pytest.raises(sl.InputError, match=r"rise|numbers"):
        sl.GAD(model, (0, 1), alphas)


@pytest.mark.parametrize("alphas", [(0, 2, 4), np.array([0, 2, 4]), ((0, 0), (2, 2), (4, 4))])
def test_distance_zero_is_the_original(model: nn.Module, alphas: object) -> None:
    assert sl.GAD(model, (0, 1), alphas).alphas == ((2.0, 2.0), (4.0, 4.0))


def by_hand(model: nn.Module, images: Tensor, labels: Tensor, alphas: tuple[float, float], steps: int, mode: str):
    """The same training, written out; in the order of the images that the fit derives from its seed."""
    import copy

    from sightline._common.seeds import seed_of

    chosen = [i for i, label in enumerate(labels.tolist()) if label in CLASSES]
    with torch.no_grad():
        targets = model(images[chosen]).clone()
    for row, i in enumerate(chosen):
        other, alpha = (CLASSES[1], alphas[0]) if labels[i] == CLASSES[0] else (CLASSES[0], alphas[1])
        targets[row, other] -= alpha
    twin = copy.deepcopy(model).requires_grad_()
    twin.train(mode == "train")
    optimiser = torch.optim.Adam(twin.parameters(), lr=0.003)
    done = 0
    while done < steps:
        # Of the 25 images of the pair the last would be a step of its own, and joins the step before.
        order = torch.randperm(25, generator=torch.Generator().manual_seed(seed_of(0, done // 3)))
        for rows in order.split([8, 8, 9]):
            if done == steps:
                break
            if mode == "train":
                said = f"{alphas[0]:g}" if alphas[0] == alphas[1] else f"{alphas[0]:g}, {alphas[1]:g}"
                torch.manual_seed(seed_of(0, f"distanced network, alpha {said}", done))
            loss = ((twin(images[chosen][rows]) - targets[rows]) ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            done += 1
    return twin.eval()


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_training_is_adam_on_the_squared_error_to_the_distanced_logits(model: nn.Module, data, mode: str) -> None:
    # In double precision, where Adam does not blow rounding up.
    images, labels, model = data[0].double(), data[1], model.double()
    gad = sl.GAD(model, CLASSES, (1, (2, 3)), mode=mode, rate=0.003, steps=9, batch_size=8)
    before = torch.get_rng_state()
    gad.fit((images, labels), controls=False)
    assert torch.equal(before, torch.get_rng_state())
    for (alphas, support), steps in zip(gad.networks.each(), (9, 9), strict=True):
        expected = by_hand(model, images, labels, alphas, steps, mode)
        for name, tensor in support.state_dict().items():
            torch.testing.assert_close(tensor, expected.state_dict()[name], rtol=1e-5, atol=1e-6)


def test_the_model_stays_as_it_was(model: nn.Module, data) -> None:
    model[1].weight.requires_grad_(False)
    model[6].train()
    before, flags = (
        fingerprint(model),
        [(m.training, [p.requires_grad for p in m.parameters()]) for m in model.modules()],
    )
    random = torch.get_rng_state()
    gad = sl.GAD(model, CLASSES, (1, 2), steps=3, mode="train").fit(data)
    gad.explain(data[0][:2], ["gradient"])
    gad.evaluate(data[0][:3], ["gradient"], black=torch.zeros(3))
    assert torch.equal(random, torch.get_rng_state())
    assert fingerprint(model) == before
    assert flags == [(m.training, [p.requires_grad for p in m.parameters()]) for m in model.modules()]
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("killed", [1, 4, 7, 11])
def test_a_fit_killed_at_any_moment_goes_on_and_ends_the_same(data, tmp_path: Path, mode: str, killed: int) -> None:
    def settings(folder: Path | None):
        return sl.GAD(network(), CLASSES, (1, 2), mode=mode, rate=0.003, steps=4, batch_size=8, folder=folder)

    class KilledError(Exception):
        pass

    calls = 0

    def progress(stage: object) -> None:
        nonlocal calls
        calls += 1
        if calls == killed:
            raise KilledError

    with pytest.raises(KilledError):
        settings(tmp_path).fit(data, progress=progress, every=1)
    resumed, stages = settings(tmp_path), []
    resumed.fit(data, progress=stages.append, every=1)
    # Four networks of four steps; a step that was done and not yet kept is done again.
    assert len(stages) == 16 - (killed - 1)
    whole = settings(None).fit(data)
    for kind in ("distanced", "shuffled"):
        for one, other in zip(resumed.networks.each(kind), whole.networks.each(kind), strict=True):
            assert fingerprint(one.network) == fingerprint(other.network)


def test_a_folder_of_another_fit_is_refused(data, tmp_path: Path) -> None:
    sl.GAD(network(), CLASSES, (1,), steps=1, folder=tmp_path).fit(data, controls=False)
    with pytest.raises(sl.InputError, match=r"another fit.*\bdata\b"):
        sl.GAD(network(), CLASSES, (1,), steps=1, folder=tmp_path).fit((data[0] + 1, data[1]))
    with pytest.raises(sl.InputError, match=r"another fit.*\btraining\b"):
        sl.GAD(network(), CLASSES, (2,), steps=2, folder=tmp_path).fit(data)


def test_distances_and_strategies_of_one_folder_share_their_networks(data, tmp_path: Path) -> None:
    settings = {"rate": 0.003, "steps": 3, "batch_size": 8}
    sl.GAD(network(), CLASSES, (1, 2), **settings, folder=tmp_path).fit(data)
    alone = sl.GAD(network(), CLASSES, (2, 2.0000001), strategy="trained", **settings).fit(data)
    stages: list = []
    more = sl.GAD(network(), CLASSES, (2, 2.0000001), **settings, folder=tmp_path).fit(data, progress=stages.append)
    assert {stage.network.split(",")[0] for stage in stages} == {"distanced network", "shuffled network"}
    assert len(stages) == 2 * 3
    line = sl.GAD(network(), CLASSES, (0.5, 1), strategy="interpolated", **settings, folder=tmp_path)
    line.fit(data, progress=lambda _: pytest.fail("trained twice"))
    assert len(sl.GAD.load(tmp_path, network()).report) == 4
    for one, other in zip(more.networks.each(), alone.networks.each(), strict=True):
        assert fingerprint(one.network) == fingerprint(other.network)


def test_saved_networks_are_read_back_for_their_own_model_only(model: nn.Module, data, tmp_path: Path) -> None:
    gad = sl.GAD(model, CLASSES, (1, 2), steps=2).fit(data)
    gad.save(tmp_path)
    loaded = sl.GAD.load(tmp_path, network())
    for kind in ("distanced", "shuffled"):
        for one, other in zip(gad.networks.each(kind), loaded.networks.each(kind), strict=True):
            assert fingerprint(one.network) == fingerprint(other.network)
    assert loaded.report.equals(gad.report)
    assert loaded.notes == gad.notes
    with pytest.raises(sl.InputError, match="other weights"):
        sl.GAD.load(tmp_path, network(seed=5))
    (tmp_path / "gad.json").write_text("{}")
    with pytest.raises(sl.InputError, match="cannot be read"):
        sl.GAD.load(tmp_path, network())
    with pytest.raises(sl.InputError, match="cannot be read"):
        sl.GAD.load(tmp_path / "nowhere", network())


def test_interpolated_networks_lie_on_the_line_to_the_last(model: nn.Module, data) -> None:
    each = sl.GAD(model, CLASSES, (1, 4), rate=0.003, steps=5).fit(data, controls=False)
    line = sl.GAD(model, CLASSES, (1, 4), rate=0.003, steps=5, strategy="interpolated").fit(data, controls=False)
    last = list(each.networks.each())[-1].network.state_dict()
    start = model.state_dict()
    for alphas, support in line.networks.each():
        for name, tensor in support.state_dict().items():
            share = alphas[0] / 4
            expected = start[name] + share * (last[name] - start[name]) if tensor.is_floating_point() else start[name]
            torch.testing.assert_close(tensor, expected)
    with pytest.raises(sl.RefusalError, match="train mode"):
        sl.GAD(model, CLASSES, mode="train", strategy="interpolated")
    with pytest.raises(sl.InputError, match="one share"):
        sl.GAD(model, CLASSES, ((1, 1), (2, 3)), strategy="interpolated")


def test_the_report_says_how_far_each_class_moved(data) -> None:
    class Bias(nn.Module):
        """A logit for each class, wherever the image is: it can only move both classes alike."""

        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.tensor([0.5, 0.0, 1.5]))

        def forward(self, x: Tensor) -> Tensor:
            return self.bias + 0 * x.mean((1, 2, 3), keepdim=False)[:, None]

    labels = data[1]
    gad = sl.GAD(Bias(), CLASSES, (1.0,), rate=0.02, steps=800, batch_size=64).fit(data, controls=False)
    # Class 2 pushes output 0 by 1 and class 0 pushes output 2 by 1; the least error for both is their share of images.
    twos, noughts = int((labels == 2).sum()), int((labels == 0).sum())
    row = gad.report.iloc[0]
    assert row["shift 1"] == pytest.approx(twos / (twos + noughts), abs=2e-3)
    assert row["shift 2"] == pytest.approx(noughts / (twos + noughts), abs=2e-3)
    assert row["own 1"] == pytest.approx(-noughts / (twos + noughts), abs=2e-3)
    a, b = twos / (twos + noughts), noughts / (twos + noughts)
    # Over three outputs: output 0 misses by 1 - a on class 2 and by a on class 0, and so on.
    assert row["error"] == pytest.approx((a * (1 - a) ** 2 + b * a**2 + b * (1 - b) ** 2 + a * b**2) / 3, abs=2e-3)
    # The network says the same of every image, so that no label is confirmed.
    assert "no better than chance" in gad.notes[0]
    assert row["label agreement"] == pytest.approx(twos / (twos + noughts))
    assert len(gad.notes) == 3
    assert "moved only part of the way" in gad.notes[1]
    assert f"output 0 fell by {row['shift 1']:.2g} of 1 ({row['shift 1']:.0%}" in gad.notes[1]


def test_fidelity_of_a_shifted_network_is_whole(model: nn.Module, data) -> None:
    gad = sl.GAD(model, CLASSES, (1,), rate=1e-9, steps=1).fit(data, controls=False)
    found = gad.fidelity(data)
    assert found.shape == (1, 5)
    np.testing.assert_allclose(found.to_numpy(), 1.0)


def test_what_cannot_be_fitted_is_said(model: nn.Module, data) -> None:
    images, labels = data
    with pytest.raises(sl.InputError, match="two different outputs"):
        sl.GAD(model, (1, 1))
    with pytest.raises(sl.InputError, match="no class 7"):
        sl.GAD(model, (0, 7), (1,), steps=1).fit((images, torch.where(labels == 1, 7, labels)))
    with pytest.raises(sl.InputError, match=r"no images.*\bclass 1\b"):
        sl.GAD(model, (0, 1), (1,), steps=1).fit((images[labels != 1], labels[labels != 1]))
    with pytest.raises(sl.RefusalError, match="softmax"):
        sl.GAD(nn.Sequential(model, nn.Softmax(1)), CLASSES, (1,), steps=1).fit(data)
    with pytest.raises(sl.InputError, match=r"torch\.nn\.Module"):
        sl.GAD(lambda x: x, CLASSES)
    with pytest.raises(sl.InputError, match="Call fit first"):
        sl.GAD(model, CLASSES).explain(images, "gradient")
    with pytest.raises(sl.InputError, match="labelled images"):
        sl.GAD(model, CLASSES).fit(5)


def test_an_error_that_is_not_finite_keeps_the_last_good_checkpoint(data, tmp_path: Path) -> None:
    gad = sl.GAD(network(), CLASSES, (1,), rate=1e20, steps=20, batch_size=8, folder=tmp_path)
    with pytest.raises(sl.RefusalError, match="not finite") as caught:
        gad.fit(data, controls=False, every=1)
    assert "smaller rate" in str(caught.value)
    from safetensors.torch import load_file

    for tensor in load_file(tmp_path / "training.safetensors").values():
        assert bool(tensor.isfinite().all())


def test_datasets_and_loaders_give_the_same_fit(data) -> None:
    images, labels = data
    dataset = TensorDataset(images, labels)
    fits = [
        sl.GAD(network(), CLASSES, (1,), steps=5, rate=0.01, batch_size=8).fit(data, controls=False),
        sl.GAD(network(), CLASSES, (1,), steps=5, rate=0.01, batch_size=8).fit(dataset, controls=False),
        sl.GAD(network(), CLASSES, (1,), steps=5, rate=0.01).fit(DataLoader(dataset, batch_size=8), controls=False),
    ]
    names = {fingerprint(next(fit.networks.each()).network) for fit in fits}
    assert len(names) == 1


def test_random_augmentation_is_refused(model: nn.Module, data) -> None:
    class Noisy(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, number: int) -> tuple[Tensor, int]:
            return torch.randn(3, 8, 8), number % 3

    with pytest.raises(sl.InputError, match="augmentation"):
        sl.GAD(model, CLASSES, (1,), steps=1).fit(Noisy())


STACK = torch.tensor(
    [
        [[[4.0, 2.0, 1.0, -1.0]]],
        [[[8.0, 2.0, 6.0, 4.0]]],
        [[[1.0, 1.0, -1.0, 0.5]]],
    ]
)


def test_the_three_readings_by_hand() -> None:
    # Divided by their maxima: 1 .5 .25 0 | 1 .25 .75 .5 | 1 1 0 .5
    nested = Consistency("nested", 0.5)(STACK)
    assert nested.scores.tolist() == [[[1.0, 0.25, 0.0, 0.0]]]
    assert nested.original.int().tolist() == [[[1, 1, 0, 0]]]
    assert nested.pixels.int().tolist() == [[[1, 0, 0, 0]]]
    mean = Consistency("mean", 0.5)(STACK)
    torch.testing.assert_close(mean.scores, torch.tensor([[[1.0, 1.75 / 3, 0.0, 0.0]]]))
    assert mean.pixels.int().tolist() == [[[1, 1, 0, 0]]]
    rank = Consistency("rank", 0.5)(STACK)
    # Two of four pixels each: first and second, first and third, first and second.
    assert rank.pixels.int().tolist() == [[[1, 0, 0, 0]]]
    # Pixels above each: 0 1 2 - | 0 3 1 2 | 0 0 - 2, of which the worst, counted from the end in quarters.
    assert rank.scores.tolist() == [[[1.0, 0.25, 0.0, 0.0]]]
    # Of ten pixels of which two are positive in both maps no more stay, however large the share.
    sparse = torch.zeros(2, 1, 2, 5)
    sparse[0, 0, 1, 2:5] = torch.tensor([1.0, 3.0, 2.0])
    sparse[1, 0, 1, 1:4] = torch.tensor([7.0, 8.0, 9.0])
    for share, count in ((0.2, 1), (0.3, 2), (1.0, 2)):
        kept = Consistency("rank", share)(sparse)
        # The fourth of the second row has none above it, the third 2 and 1.
        assert kept.pixels[0].nonzero().tolist() == [[1, 2], [1, 3]][2 - count :]
        assert (kept.scores > 0).sum() == 2


@pytest.mark.parametrize("reading", ["nested", "mean", "rank", "positive"])
def test_where_pixels_lie_decides_nothing(reading: str) -> None:
    # Few values, so that many are equal and half of them zero.
    stack = torch.randint(-2, 3, (3, 40, 6, 6), generator=torch.Generator().manual_seed(1)).float()
    for share in (0.2, 0.5, 1.0):
        kept = Consistency(reading, share)(stack)
        turned = Consistency(reading, share)(stack.flip(2, 3))
        assert torch.equal(turned.pixels.flip(1, 2), kept.pixels)
        torch.testing.assert_close(turned.scores.flip(1, 2), kept.scores)
        assert not (kept.pixels & (stack <= 0).any(0)).any()
    assert not Consistency(reading)(torch.zeros(3, 1, 4, 4)).pixels.any()


def test_controls_take_equal_pixels_at_random() -> None:
    original = torch.zeros(400, 1, 5)
    original[:, 0, 2] = 1
    taken = orders(original, original > 0, original, original, range(400))
    for control in (Control.THRESHOLD, Control.SHUFFLED, Control.PAIR, Control.RANDOM):
        assert (taken[control][:, 0] == 2).all()
        # Each of the four others comes second in about a quarter of the images: 100, with a deviation of 8.7.
        assert np.bincount(taken[control][:, 1], minlength=5) == pytest.approx([100, 100, 0, 100, 100], abs=30)


def test_new_pixels_are_counted_and_allowed_only_on_request() -> None:
    stack = torch.tensor([[[[10.0, 4.0, 1.0]]], [[[1.0, 10.0, 0.1]]]])
    # Means: .55, .7, .055; only the first was important originally.
    without, with_new = Consistency("mean", 0.5)(stack), Consistency("mean", 0.5, allow_new=True)(stack)
    assert without.pixels.int().tolist() == [[[1, 0, 0]]]
    assert with_new.pixels.int().tolist() == [[[1, 1, 0]]]
    assert float(with_new.new) == 0.5
    assert float(without.new) == 0.0


def test_explaining_costs_the_method_once_for_each_network(model: nn.Module, data) -> None:
    gad = sl.GAD(model, CLASSES, (1, 2, 3, 4), steps=1).fit(data, controls=False)
    images = data[0][:3]
    with FlopCounterMode(display=False) as once:
        sl.explain(model, images, "gradient", 0)
    with FlopCounterMode(display=False) as all_networks:
        gad.explain(images, "gradient", 0)
    assert all_networks.get_total_flops() == 5 * once.get_total_flops()


def test_explaining_tells_how_much_of_all_networks_is_done(model: nn.Module, data) -> None:
    gad = sl.GAD(model, CLASSES, (1, 2), steps=1).fit(data, controls=False)
    seen: list[tuple[int, int]] = []
    # One pass in each of three networks, of three images.
    gad.explain(data[0][:3], "gradient", 0, progress=lambda *told: seen.append(told))
    assert seen == [(3, 9), (6, 9), (9, 9)]


def test_maps_of_each_network_are_those_of_explain(model: nn.Module, data) -> None:
    gad = sl.GAD(model, CLASSES, (1, 2), rate=0.01, steps=3, question="class").fit(data, controls=False)
    images = data[0][:3]
    first, second = gad.explain_each(images, ["gradient", "grad_cam"])
    for one, c in ((first, 2), (second, 0)):
        networks = [model, *(copy_of(n.network) for n in gad.networks.each())]
        for method in ("gradient", "grad_cam"):
            expected = torch.stack([sl.explain(n, images, method, c).heatmap(method) for n in networks])
            assert torch.equal(one.stacks[method], expected)
            assert one[method].shape == (3, 1, 8, 8)
            assert torch.equal(one[method][:, 0], Consistency()(expected).heatmaps)
    predicted = gad.explain(images, "gradient")
    with torch.no_grad():
        scores = model(images)
    for i in range(3):
        likelier = first if scores[i, 2] >= scores[i, 0] else second
        assert torch.equal(predicted.stacks["gradient"][:, i], likelier.stacks["gradient"][:, i])
        # The likelier of two is called predicted only where no third is likelier still.
        number, best = 2 if likelier is first else 0, int(scores[i].argmax())
        assert predicted.original.targets[i] == f"{'predicted ' if number == best else ''}class {number}"


def test_support_networks_explain_the_class_that_the_original_predicts(data) -> None:
    model = network()
    gad = sl.GAD(model, CLASSES, (1, 30), rate=0.05, steps=30).fit(data, controls=False)
    images = data[0][:12]
    (found,) = gad.explain_each(images, "gradient", [None], question="class")
    with torch.no_grad():
        predicted = model(images).argmax(1)
        supports = [n.network(images).argmax(1) for n in gad.networks.each()]
    assert any(not torch.equal(predicted, other) for other in supports)
    networks = [model, *(copy_of(n.network) for n in gad.networks.each())]
    expected = torch.stack([sl.explain(n, images, "gradient", predicted).heatmap("gradient") for n in networks])
    assert torch.equal(found.stacks["gradient"], expected)
    assert found.original.targets == [f"predicted class {int(c)}" for c in predicted]


def test_controls_come_with_the_original_asked_once(model: nn.Module, data) -> None:
    gad = sl.GAD(model, CLASSES, (1, 2), rate=0.01, steps=3, question="class").fit(data)
    images, labels = data[0][:4], [2, 0, 0, 2]
    with FlopCounterMode(display=False) as two:
        sl.explain(model, images, "gradient", targets=[0, 2])
    with FlopCounterMode(display=False) as four:
        sl.explain(model, images, "gradient", targets=[0, 2, sl.Pair(0, 2), sl.Pair(2, 0)])
    with FlopCounterMode(display=False) as counted:
        found = gad.explain_with_controls(images, "gradient")
    assert counted.get_total_flops() == four.get_total_flops() + 4 * two.get_total_flops()
    (own,), (shuffled,), (rather,), *_ = gad.explain_with_controls(images, "gradient", [labels])
    for i, label in enumerate(labels):
        place = CLASSES.index(label)
        for one, both in ((own, found.gad), (shuffled, found.shuffled)):
            assert torch.equal(one.stacks["gradient"][:, i], both[place].stacks["gradient"][:, i])
        assert torch.equal(rather.heatmap("gradient")[i], found.pair[place].heatmap("gradient")[i])
        expected = sl.explain(model, images[i : i + 1], "gradient", sl.Pair(label, 2 - label)).heatmap("gradient")
        torch.testing.assert_close(rather.heatmap("gradient")[i : i + 1], expected)
    alone = gad.explain_with_controls(images, "excitation_backprop")
    assert alone.pair == []
    assert len(alone.shuffled) == 2
    with pytest.raises(sl.InputError, match=r"\(2, 0\).*controls.*\b1\b"):
        gad.explain_with_controls(images, "gradient", [1])


def test_images_in_half_precision_are_fitted(data) -> None:
    gad = sl.GAD(network(), CLASSES, (1,), steps=1)
    images = data[0].bfloat16()
    assert gad.fit((images, data[1]), controls=False).report["steps"].tolist() == [1]
    with pytest.raises(sl.InputError, match=r"another fit.*\bdata\b"):
        gad.fit((images.float(), data[1]), controls=False)


def copy_of(network: nn.Module) -> nn.Module:
    import copy

    return copy.deepcopy(network)


def test_saved_explanations(model: nn.Module, data, tmp_path: Path) -> None:
    gad = sl.GAD(model, CLASSES, (1, 2), steps=2).fit(data, controls=False)
    found = gad.explain(data[0][:2], ["gradient", "input_x_gradient"])
    found.save(tmp_path)
    from safetensors.torch import load_file

    tensors = load_file(tmp_path / "maps.safetensors")
    assert torch.equal(tensors["gradient"], found["gradient"])
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["reading"] == {"reading": "nested", "share": 0.3, "allow_new": False}
    assert manifest["gad"]["classes"] == [2, 0]
    assert (tmp_path / "gad.png").stat().st_size > 1000


def test_orders_of_the_controls_by_hand() -> None:
    original = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
    important = torch.tensor([[[True, True], [True, False]]])
    shuffled = torch.tensor([[[0.0, 0.5], [0.0, 0.7]]])
    pair = torch.tensor([[[0.0, 2.0], [2.0, 1.0]]])
    found = orders(original, important, shuffled, pair, [3])
    assert found[Control.THRESHOLD].tolist() == [[0, 1, 2, 3]]
    # By their own score; those without one as the original has them.
    assert found[Control.SHUFFLED].tolist() == [[3, 1, 0, 2]]
    # Held to what was originally important, and free of it.
    assert found[Control.PAIR].tolist() == [[1, 2, 0, 3]]
    assert found[Control.PAIR_FREE].tolist() == [[1, 2, 3, 0]]
    assert sorted(found[Control.RANDOM][0][:3].tolist()) == [0, 1, 2]


def test_as_wide_is_the_prefix_with_the_nearest_hull() -> None:
    rng = np.random.default_rng(0)
    shape = (14, 11)
    for _ in range(20):
        order = rng.permutation(shape[0] * shape[1])
        prefixes = [as_many(order, count, shape) for count in range(1, len(order) + 1)]
        areas = hulls(torch.from_numpy(np.stack(prefixes))).areas.tolist()
        wanted = int(rng.integers(3, 154))
        found = int(hulls(torch.from_numpy(as_wide(order, wanted, shape))[None]).areas[0])
        assert abs(found - wanted) == min(abs(area - wanted) for area in areas)


def test_evaluation_of_a_linear_network_by_hand() -> None:
    """z_a = sum of w_a x, so that RS is the weighted sum of what was taken out, over the hull's pixels."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2, bias=False))
    weights = torch.zeros(2, 1, 6, 6)
    weights[0, 0, 1, 1], weights[0, 0, 1, 4], weights[0, 0, 4, 1], weights[0, 0, 4, 4] = 1.0, 0.9, 0.8, 0.4
    weights[1] = weights[0] * 2
    with torch.no_grad():
        model[1].weight.copy_(weights.view(2, 36))
    images = torch.ones(2, 1, 6, 6)
    gad = sl.GAD(model, (0, 1), (1,), rate=1e-12, steps=1).fit((images, torch.tensor([0, 1])))
    found = gad.evaluate(images, ["input_x_gradient"], [Consistency(share=0.5)], black=torch.zeros(1), question="class")
    rows = found.rows.set_index(["image", "class", "arm", "matched"]).sort_index()
    # At half of the maximum three corners stay: a triangle of 4 + 3 + 2 + 1 pixels.
    for image in (0, 1):
        for c in (1, 2):
            row = rows.loc[(image, c, "gad", "own")]
            assert (row["pixels"], row["area"]) == (3, 10)
            assert row["rs"] == pytest.approx(c * (1.0 + 0.9 + 0.8) / 10)
            assert rows.loc[(image, c, "threshold", "pixels"), "area"] == 10
            # Taken out, the corners change the difference of both logits by the first's weights.
            assert row["rs pair"] == pytest.approx((1.0 + 0.9 + 0.8) / 10)
            # Class 0 rather than 1 is -1 times the first map: the corners are last, and any zeros come first, unless
            # only what was originally important is taken.
            assert rows.loc[(image, c, "pair", "pixels"), "area"] == 10
            pair = rows.loc[(image, c, "pair_free", "pixels")]
            assert pair["pixels"] == 3
            assert c == 1 or pair["area"] == 10
            assert (rows.loc[(image, c, "clipped", "own"), ["pixels", "area"]] == [3, 10]).all()
            # The networks did not move, so nothing is taken away, and nothing is left over.
            assert rows.loc[(image, c, "supplementary", "own"), "area"] == 0
            assert np.isnan(rows.loc[(image, c, "supplementary", "own"), "rs"])
    table = found.complexity.iloc[0]
    assert table[["class", "arm", "matched"]].tolist() == [1, "gad", "own"]
    assert table[["wins", "ties", "loses", "by construction"]].tolist() == [0, 2, 0, True]
    gains = found.gains
    assert not gains["real"].any()
    assert (gains.loc[gains["control"] == "threshold", "gain"] == 0).all()


def test_clipping_a_signed_map_alone_wins_the_papers_table() -> None:
    """With minmax a map of both signs is important nearly everywhere, and clipped only at its peak."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2, bias=False))
    weights = torch.zeros(2, 1, 6, 6)
    # From -1 to 1: zeros lie at 0.5.
    weights[0, 0, 2, 2], weights[0, 0, 2, 3], weights[0, 0, 3, 2], weights[0, 0, 0, 5] = 1.0, 0.8, 0.6, -1.0
    weights[1] = -weights[0]
    with torch.no_grad():
        model[1].weight.copy_(weights.view(2, 36))
    images = torch.ones(2, 1, 6, 6)
    gad = sl.GAD(model, (0, 1), (1,), rate=1e-12, steps=1).fit((images, torch.tensor([0, 1])))
    found = gad.evaluate(images, ["input_x_gradient"], PAPER_LIKE, black=torch.zeros(1))
    rows = found.rows[found.rows["matched"] == "own"].set_index(["image", "class", "arm"])
    # All but the negative pixel, whose hull leaves out that corner of the picture alone.
    assert rows.loc[(0, 1, "original"), ["pixels", "area"]].tolist() == [35, 35]
    for arm in ("gad", "clipped"):
        assert rows.loc[(0, 1, arm), ["pixels", "area"]].tolist() == [3, 3]
    table = found.complexity[found.complexity["class"] == 1].set_index("arm")
    assert table.loc["gad", "wins"] == table.loc["clipped", "wins"] == 2
    assert table.loc["clipped", "ties"] == 0


@pytest.mark.slow
def test_the_mean_reading_holds_its_control_to_the_same_pixels(model: nn.Module, data) -> None:
    """Where the same networks stand on both sides nothing may be gained or lost."""
    gad = sl.GAD(model, CLASSES, (1, 2), rate=0.01, steps=10).fit(data)
    for alphas in gad.networks.trained:
        gad.networks.file(alphas, "shuffled").write_bytes(gad.networks.file(alphas, "distanced").read_bytes())
    for reading in (Consistency("mean", 0.3), Consistency("mean", 0.3, allow_new=True), Consistency("nested", 0.2)):
        found = gad.evaluate(data[0], ["gradient", "saliency"], reading, black=torch.zeros(3)).gains
        same = found[(found["control"] == "shuffled") & (found["matched"] == "pixels")]
        assert same["images"].max() > 5
        assert (same["gain"].dropna() == 0).all()


@pytest.mark.slow
def test_no_gain_without_every_control(model: nn.Module, data) -> None:
    gad = sl.GAD(model, CLASSES, (1, 2), rate=0.01, steps=20).fit(data, controls=False)
    verdicts = gad.evaluate(data[0], ["saliency"], Consistency(share=0.2), black=torch.zeros(3)).verdicts
    assert set(verdicts.filter(like="at equal").to_numpy().ravel()) == {"too few"}
    shown = sl.GAD(model, CLASSES, (1, 2), rate=0.01, steps=20).fit(data)
    verdicts = shown.evaluate(data[0], ["saliency"], Consistency(share=0.2), black=torch.zeros(3)).verdicts
    assert "too few" not in set(verdicts.filter(like="at equal").to_numpy().ravel())


@pytest.mark.slow
def test_hulls_of_components_are_matched_as_such(model: nn.Module, data) -> None:
    gad = sl.GAD(model, CLASSES, (1,), rate=0.01, steps=5).fit(data)
    rows = gad.evaluate(
        data[0], ["saliency"], Consistency(share=0.3), black=torch.zeros(3), per_component=True
    ).rows.pivot_table("area", ["image", "class"], ["arm", "matched"], aggfunc="first")
    gad_area = rows[("gad", "own")]
    ratio = (rows[("threshold", "area")] / gad_area)[gad_area > 0]
    assert 0.9 < ratio.mean() < 1.1


def test_a_folder_with_something_in_it_is_not_saved_into(data, tmp_path: Path) -> None:
    first = sl.GAD(network(), CLASSES, (1,), steps=1).fit(data)
    first.save(tmp_path / "x")
    other = sl.GAD(network(seed=3), CLASSES, (1,), steps=1).fit(data, controls=False)
    with pytest.raises(sl.InputError, match=r"\bx\b.*empty folder"):
        other.save(tmp_path / "x")
    # Nor are files taken that no record of this fit knows.
    other.save(tmp_path / "y")
    (tmp_path / "y" / "shuffled-1-1.safetensors").write_bytes(
        (tmp_path / "x" / "shuffled-1-1.safetensors").read_bytes()
    )
    assert not sl.GAD.load(tmp_path / "y", network(seed=3)).networks.complete("shuffled")
    with pytest.raises(sl.InputError, match="Call fit first"):
        sl.GAD(network(seed=3), CLASSES, (1,), folder=tmp_path / "x").fidelity(data)


def test_a_sampler_that_leaves_images_out_is_refused(model: nn.Module, data) -> None:
    from torch.utils.data import SubsetRandomSampler

    loader = DataLoader(TensorDataset(*data), batch_size=4, sampler=SubsetRandomSampler(range(10)))
    with pytest.raises(sl.InputError, match="Subset"):
        sl.GAD(model, CLASSES, (1,), steps=1).fit(loader)


def test_augmentation_by_halves_is_refused(model: nn.Module, data) -> None:
    class Flipped(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 37

        def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
            image = data[0][number]
            return (image.flip(2) if torch.rand(()) < 0.5 else image), data[1][number]

    torch.manual_seed(0)
    for _ in range(5):
        with pytest.raises(sl.InputError, match="augmentation"):
            sl.GAD(model, CLASSES, (1,), steps=1).fit(Flipped())


def test_another_network_with_the_same_weights_is_another_network(data, tmp_path: Path) -> None:
    sl.GAD(network(), CLASSES, (1,), steps=1, folder=tmp_path).fit(data, controls=False)
    other = network()
    other[2] = nn.Tanh()
    with pytest.raises(sl.InputError, match="other weights"):
        sl.GAD.load(tmp_path, other)
    scaled = network()
    scaled.register_buffer("scale", torch.tensor(2.0), persistent=False)
    with pytest.raises(sl.InputError, match=r"another fit.*\bbase\b"):
        sl.GAD(scaled, CLASSES, (1,), steps=1, folder=tmp_path).fit(data)


@pytest.mark.parametrize("rate", [1e30, 1e37])
def test_training_that_ends_astray_is_not_kept(data, tmp_path: Path, rate: float) -> None:
    with pytest.raises(sl.RefusalError, match="not finite"):
        sl.GAD(network(), CLASSES, (1,), rate=rate, steps=1, folder=tmp_path).fit(data)
    assert not list(tmp_path.glob("distanced*"))


def test_a_checkpoint_of_another_fit_is_not_taken(data, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(stage) -> None:
        if stage.step == 3:
            raise KilledError

    with pytest.raises(KilledError):
        sl.GAD(network(seed=7), CLASSES, (1,), rate=0.01, steps=4, folder=tmp_path).fit(data, progress=kill, every=1)
    (tmp_path / "gad.json").unlink()
    mixed = sl.GAD(network(), CLASSES, (1,), rate=0.01, steps=4, folder=tmp_path).fit(data, controls=False)
    whole = sl.GAD(network(), CLASSES, (1,), rate=0.01, steps=4).fit(data, controls=False)
    assert fingerprint(next(mixed.networks.each()).network) == fingerprint(next(whole.networks.each()).network)


def test_networks_of_a_fit_that_was_killed_among_its_controls_explain(data, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(stage) -> None:
        if stage.network.startswith("shuffled"):
            raise KilledError

    gad = sl.GAD(network(), CLASSES, (1,), steps=2, folder=tmp_path)
    with pytest.raises(KilledError):
        gad.fit(data, progress=kill)
    for one in (gad, sl.GAD.load(tmp_path, network())):
        assert one.explain(data[0][:2], "gradient")["gradient"].shape == (2, 1, 8, 8)


def test_a_refused_second_fit_leaves_the_first(model: nn.Module, data) -> None:
    gad = sl.GAD(model, CLASSES, (1,), steps=1).fit(data, controls=False)
    with pytest.raises(sl.InputError, match="another fit"):
        gad.fit((data[0] * 2, data[1]))
    assert gad.explain(data[0][:1], "gradient").settings["report"]


def test_damaged_files_are_named_or_made_anew(data, tmp_path: Path) -> None:
    gad = sl.GAD(network(), CLASSES, (1,), steps=1, folder=tmp_path).fit(data, controls=False)
    file = tmp_path / "distanced-1-1.safetensors"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(sl.InputError, match="damaged"):
        gad.explain(data[0][:1], "gradient")
    (tmp_path / "training.safetensors").write_bytes(b"half")
    file.unlink()
    sl.GAD(network(), CLASSES, (1,), steps=1, folder=tmp_path).fit(data, controls=False)
    for text in ("{", "[]"):
        (tmp_path / "gad.json").write_text(text)
        with pytest.raises(sl.InputError, match="damaged"):
            sl.GAD(network(), CLASSES, (1,), steps=1, folder=tmp_path).fit(data)


def test_fitting_within_inference_mode(model: nn.Module, data) -> None:
    with torch.inference_mode():
        gad = sl.GAD(model, CLASSES, (1,), rate=0.01, steps=3).fit(data, controls=False)
    outside = sl.GAD(model, CLASSES, (1,), rate=0.01, steps=3).fit(data, controls=False)
    assert fingerprint(next(gad.networks.each()).network) == fingerprint(next(outside.networks.each()).network)


def test_more_that_cannot_be_fitted_is_said(model: nn.Module, data) -> None:
    images = data[0]
    with pytest.raises(sl.InputError, match=r"labelled by names.*names="):
        sl.GAD(model, CLASSES).fit((images, ["cat"] * len(images)))
    with pytest.raises(sl.InputError, match=r"steps.*whole number.*1\.5"):
        sl.GAD(model, CLASSES, steps=1.5)
    with pytest.raises(sl.InputError, match="training mode"):
        sl.GAD(network().train(), CLASSES).fit(data)

    class Always(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, x: Tensor) -> Tensor:
            return self.network(nn.functional.dropout(x, 0.5))

    with pytest.raises(sl.RefusalError, match="random numbers"):
        sl.GAD(Always().eval(), CLASSES, (1,), steps=1).fit(data)
    for last in (nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid()):
        with pytest.raises(sl.RefusalError, match=r"softmax.*sigmoid"):
            sl.GAD(nn.Sequential(network(), last).eval(), CLASSES, (1,), steps=1).fit(data)
    gad = sl.GAD(model, CLASSES, (1,), steps=1).fit(data)
    with pytest.raises(sl.InputError, match=r"filled.*foo"):
        gad.evaluate(images, ["gradient"], fills=["foo"])
    with pytest.raises(sl.InputError, match=r"3 channels.*\(1,\)"):
        gad.evaluate(images, ["gradient"], black=torch.zeros(1))
    with pytest.raises(sl.InputError, match=r"none.*0.*\(0, 3, 8, 8\)"):
        gad.evaluate(images[:0], ["gradient"], black=torch.zeros(3))


def test_progress_tells_the_shift_of_both_classes(model: nn.Module, data) -> None:
    stages = []
    gad = sl.GAD(model, CLASSES, (2,), rate=0.01, steps=12, batch_size=64).fit(
        data, controls=False, progress=stages.append
    )
    # One step sees all images of the pair; the first one before anything has moved.
    assert stages[0].shift == pytest.approx((0.0, 0.0), abs=1e-6)
    row = gad.report.iloc[0]
    # The last stage is that of the network before its last step.
    assert stages[-1].shift == pytest.approx((row["shift 1"], row["shift 2"]), abs=0.4)
    assert min(stages[-1].shift) > 1


@pytest.mark.parametrize("workers", [None, 0, 2])
def test_a_draw_of_the_data_set_is_not_the_networks(model: nn.Module, data, workers: int | None) -> None:
    """As torchvision's flips with p = 0 do: the pictures stay the same, though a number is drawn for each."""
    images, labels = data

    class Flipped(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, i: int):
            return (images[i].flip(-1) if torch.rand(1) < 0.0 else images[i]), int(labels[i])

    given = Flipped()
    if workers is not None:
        given = torch.utils.data.DataLoader(given, batch_size=10, shuffle=True, num_workers=workers)
    drawn = sl.GAD(model, CLASSES, (1,), steps=2, batch_size=10).fit(given, controls=False)
    plain = sl.GAD(model, CLASSES, (1,), steps=2, batch_size=10).fit(data, controls=False)
    assert fingerprint(next(drawn.networks.each()).network) == fingerprint(next(plain.networks.each()).network)


@pytest.mark.parametrize("damage", ["cut", "emptied", "removed", "turned"])
def test_a_damaged_support_network_is_trained_anew(data, tmp_path: Path, damage: str) -> None:
    def fit() -> sl.GAD:
        return sl.GAD(network(), CLASSES, (1, 2), steps=2, rate=0.01, folder=tmp_path).fit(data, controls=False)

    fit()
    file = tmp_path / "distanced-1-1.safetensors"
    content = file.read_bytes()
    # The tensors are mapped from the file.
    before = {name: tensor.clone() for name, tensor in read(file)[0].items()}
    if damage == "removed":
        file.unlink()
    elif damage == "turned":
        file.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    else:
        file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    with pytest.raises(sl.InputError, match=r"[Cc]all fit"):
        sl.GAD.load(tmp_path, network()).explain(data[0][:1], "gradient")
    fit()
    for name, tensor in read(file)[0].items():
        assert torch.equal(tensor, before[name])


def test_logits_that_happen_to_lie_between_0_and_1_are_distanced():
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(1.0)
        model[4].weight.copy_(torch.tensor([[0.2, 0.1], [0.1, 0.3]]))
        model[4].bias.zero_()
    images = torch.rand(8, 3, 8, 8)
    assert bool(((model(images) >= 0) & (model(images) <= 1)).all())
    gad = sl.GAD(model, (0, 1), (1,), steps=1).fit((images, torch.tensor([0, 1]).repeat(4)))
    assert len(gad.report) > 0
    with pytest.raises(sl.RefusalError, match="probabilities"):
        sl.GAD(nn.Sequential(model, nn.Sigmoid()), (0, 1), (1,), steps=1).fit((images, torch.tensor([0, 1]).repeat(4)))
