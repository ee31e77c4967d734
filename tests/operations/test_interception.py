"""The interception: invisible when it has nothing to do, exact about what it sees, and cheap in matrix work."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import sightline as sl
from sightline.operations import INPUT, LAST_SPATIAL, Kind, Tape, kinds
from sightline.propagation import GRADIENT

NAMES = ["resnet18", "vgg11_bn", "squeezenet1_1", "mobilenet_v2", "densenet121", "convnext_tiny", "vit_b_32", "swin_t"]
# Seconds each.
LARGE = {"vgg11_bn", "densenet121", "convnext_tiny", "vit_b_32", "swin_t"}


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torchvision = pytest.importorskip("torchvision")

    torch.manual_seed(0)
    return torchvision.models.resnet18().eval()


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in NAMES])
@pytest.mark.parametrize("ruled", [(), (kinds.RECTIFIER,)], ids=["native", "ruled"])
def test_logits_and_gradient_are_bit_equal_to_the_plain_ones(name: str, ruled: tuple[Kind, ...]) -> None:
    torchvision = pytest.importorskip("torchvision")

    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    size = 224 if name.startswith("vit") else 64
    images = torch.randn(2, 3, size, size)
    plain = images.clone().requires_grad_()
    logits = model(plain)
    (gradient,) = torch.autograd.grad(logits[:, 7].sum(), plain)
    tape = Tape(model, ruled)
    output = tape.record(images.clone().requires_grad_())
    values = tape.select(lambda scores: scores[:, 7], output)
    if ruled:
        assert tape.walk(values).unseen == ()
    signals, _ = tape.pull_back(values, GRADIENT, [INPUT], keep_graph=False)
    assert torch.equal(output, logits)
    assert torch.equal(signals[INPUT], gradient)


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("resnet18", "layer4.1.relu", (512, 2, 2)),
        ("squeezenet1_1", "features.12", (512, 3, 3)),
        ("vgg11_bn", "features.28", (512, 2, 2)),
        ("mobilenet_v2", "features.18.2", (1280, 2, 2)),
        ("densenet121", "relu in the model's own forward", (1024, 2, 2)),
        ("convnext_tiny", "features.7.2", (768, 2, 2)),
        ("swin_t", "permute", (768, 2, 2)),
        ("googlenet", "inception5b", (1024, 2, 2)),
    ],
)
@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet:FutureWarning")
def test_the_last_spatial_feature_map_is_found(name: str, layer: str, shape: tuple[int, ...]) -> None:
    """The layers that papers and hand-written lists use; SqueezeNet's class map is not among them."""
    torchvision = pytest.importorskip("torchvision")

    model = torchvision.models.get_model(name, weights=None).eval()
    tape = Tape(model, (), [LAST_SPATIAL])
    scores = tape.record(torch.randn(1, 3, 64, 64, requires_grad=True))
    found = tape.seen_from(tape.select(lambda z: z[:, 0], scores))[LAST_SPATIAL]
    assert found.where == layer
    assert tuple(found.channels_first().shape[1:]) == shape


def test_a_network_of_tokens_has_no_last_spatial_feature_map() -> None:
    torchvision = pytest.importorskip("torchvision")

    model = torchvision.models.vit_b_32(weights=None).eval()
    with pytest.raises(sl.RefusalError, match=r"tokens.*grad_cam@LAYER"):
        sl.explain(model, torch.randn(1, 3, 224, 224), "grad_cam")


def test_operations_are_counted_by_treatment(resnet: nn.Module) -> None:
    """ResNet-18 by hand: 17 ReLUs; 20 convolutions, 20 batch norms, 8 adds, 2 poolings, flatten and the dense layer;
    the copy of the input, and the unsqueezed target's gather and squeeze."""
    explanation = sl.explain(resnet, torch.randn(1, 3, 64, 64), ["gradient", "guided_backprop"], 0)
    table = explanation.checks.table
    others = 20 + 20 + 8 + 2 + 2 + 1 + 2
    assert table.loc["guided_backprop", "ruled"] == 17
    assert table.loc["guided_backprop", "passed"] == others
    assert table.loc["gradient", "ruled"] == 0
    assert table.loc["gradient", "passed"] == 17 + others
    assert (table["not covered"] == 0).all()


@pytest.mark.parametrize(
    ("methods", "images", "units"),
    [
        (["gradient"], 1, 2.0),
        (["gradient", "saliency", "input_x_gradient", "grad_cam"], 1, 2.0),
        (["gradient", "guided_backprop", "deconvnet"], 2, 4.0),
        (["smooth_grad"], 1, 51.0),
        (["integrated_gradients"], 1, 102.0),
    ],
)
def test_matrix_work_is_counted(resnet: nn.Module, methods: list[str], images: int, units: float) -> None:
    """Forward 1, each propagation 1, whatever reads from it; sampled methods one pass on the image more, and IG one on
    the baseline."""
    batch = torch.randn(images, 3, 64, 64)
    with FlopCounterMode(display=False) as forward:
        resnet(batch)
    with FlopCounterMode(display=False) as job:
        sl.explain(resnet, batch, methods)
    assert job.get_total_flops() == units * forward.get_total_flops()


def test_grad_cam_stops_at_its_layer(resnet: nn.Module) -> None:
    """Beyond the forward it costs the dense layer's backward: 512 x 1000 multiply-adds."""
    batch = torch.randn(1, 3, 64, 64)
    with FlopCounterMode(display=False) as forward:
        resnet(batch)
    with FlopCounterMode(display=False) as job:
        sl.explain(resnet, batch, "grad_cam")
    assert job.get_total_flops() - forward.get_total_flops() == 2 * 512 * 1000


def test_a_pass_on_the_input_alone_keeps_no_weight_gradients(resnet: nn.Module) -> None:
    sl.explain(resnet, torch.randn(1, 3, 64, 64), ["gradient", "grad_cam"])
    assert all(parameter.grad is None and parameter.requires_grad for parameter in resnet.parameters())


def test_named_layers(resnet: nn.Module) -> None:
    images = torch.randn(1, 3, 64, 64)
    auto = sl.explain(resnet, images, ["grad_cam", "grad_cam@layer4", "grad_cam@layer2"], 5)
    torch.testing.assert_close(auto["grad_cam"], auto["grad_cam@layer4"], rtol=0, atol=0)
    assert auto["grad_cam@layer2"].shape == (1, 1, 8, 8)
    with pytest.raises(sl.InputError, match=r"no layer 'layer5'.*layer4"):
        sl.explain(resnet, images, "grad_cam@layer5")
    with pytest.raises(sl.RefusalError, match=r"\b2 times.*relu#1\b.*layer1\.0\.relu#2\b"):
        sl.explain(resnet, images, "grad_cam@layer1.0.relu")
    assert sl.explain(resnet, images, "grad_cam@layer1.0.relu#2")["grad_cam@layer1.0.relu#2"].shape == (1, 1, 16, 16)
    with pytest.raises(sl.RefusalError, match=r"shape .*\(1, 1000\)"):
        sl.explain(resnet, images, "grad_cam@fc")


def test_a_named_layer_is_read_before_what_follows_changes_it_in_place() -> None:
    """conv -> in-place ReLU: the convolution's own result has negative values, its gradient is cut where they are."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3)
    model = nn.Sequential(conv, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    images = torch.randn(1, 3, 6, 6)
    explanation = sl.explain(model, images, sl.catalogue()["grad_cam"].at("0"), 1)
    with torch.no_grad():
        features = conv(images)
        signal = model[4].weight[1].view(1, 4, 1, 1) / 16 * (features > 0)
        expected = (signal.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True).clamp(min=0)
    torch.testing.assert_close(explanation["grad_cam@0"], expected)


SPELLINGS = {
    "relu": torch.relu,
    "relu_": lambda h: h.relu_(),
    "relu6": nn.functional.relu6,
    "relu6 in place": lambda h: nn.functional.relu6(h, inplace=True),
    "hardtanh": lambda h: nn.functional.hardtanh(h, 0.0, 3.0),
    "hardtanh_": lambda h: nn.functional.hardtanh_(h, 0.0, 3.0),
    "clamp": lambda h: h.clamp(0, 2),
    "clamp_": lambda h: h.clamp_(0, 2),
    "clamp_min": lambda h: torch.clamp_min(h, 0),
    "clip": lambda h: torch.clip(h, min=0),
    "maximum": lambda h: torch.maximum(h, torch.zeros(())),
    "max of two": lambda h: torch.max(h, torch.zeros_like(h)),
    "threshold": lambda h: nn.functional.threshold(h, 0, 0),
    "threshold_": lambda h: nn.functional.threshold_(h, 0, 0),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_rectifiers_keep_their_own_gradient_at_their_bounds(name: str) -> None:
    """Where h is exactly at a bound, spellings differ (ReLU 0, clamp 1, maximum 1/2); rules close there for all."""

    def model(x: Tensor) -> Tensor:
        return (SPELLINGS[name](x * 1.0) * torch.tensor([1.0, -2.0])).sum((1, 2)).flatten(1)

    images = torch.arange(-2.0, 8.0).view(1, 1, 10, 1).expand(1, 1, 10, 2).contiguous()
    plain = images.clone().requires_grad_()
    (native,) = torch.autograd.grad(model(plain).sum(), plain)
    explanation = sl.explain(model, images, ["gradient", "guided_backprop"], lambda z: z.sum(1))
    assert torch.equal(explanation["gradient"], native)
    upper = {"relu6": 6, "relu6 in place": 6, "hardtanh": 3, "hardtanh_": 3, "clamp": 2, "clamp_": 2}.get(name, 100)
    expected = ((images > 0) & (images < upper)) * torch.tensor([1.0, 0.0])
    torch.testing.assert_close(explanation["guided_backprop"], expected)
