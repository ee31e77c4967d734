"""What algebra says of the rules, whatever the reference code says."""

import warnings

import pytest
import torch
from torch import Tensor, nn

import sightline as sl
from helpers import outcomes
from helpers import reference as ref
from sightline.aggregation import InputTimesSignal
from sightline.propagation import epsilon_gamma_box, lrp_0, lrp_alpha_beta, lrp_epsilon, lrp_gamma, rect_grad


def network(*, bias: bool = True, pool: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return (
        nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, bias=bias),
            nn.ReLU(),
            nn.MaxPool2d(2) if pool else nn.Identity(),
            nn.Conv2d(4, 5, 3, padding=1, bias=bias),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(5 * (9 if pool else 36), 3, bias=bias),
        )
        .double()
        .eval()
    )


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 2, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    assert expected.any()
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


def test_rect_grad_at_threshold_zero_is_guided_backprop_times_the_input(images: Tensor) -> None:
    """Half of each layer is dead, so that less than half of its products a G has either sign: q = 50 gives 0."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 40), nn.ReLU(), nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 3))
    model = model.double().eval()
    with torch.no_grad():
        model[1].bias[::2] = model[3].bias[::2] = -100.0
    method = sl.Method(propagation=rect_grad(50.0), aggregation=InputTimesSignal(), name="rect_grad")
    explanation = sl.explain(model, images, [method, "guided_backprop"], [0, 1, 2])
    close(explanation["rect_grad"], images * explanation["guided_backprop"])


@pytest.mark.parametrize("options", [{}, {"padding_trick": True, "proportional_pooling": True}])
def test_rect_grad_without_the_input_is_its_map_over_the_input(options: dict[str, bool], images: Tensor) -> None:
    rule = rect_grad(60.0, **options)
    whole = sl.Method(propagation=rule, aggregation=InputTimesSignal(), name="whole")
    explanation = sl.explain(network(), images, [whole, sl.Method(propagation=rule, name="bare")], 1)
    close(explanation["whole"], images * explanation["bare"])


def test_the_rows_of_rect_grad_differ_as_their_names_say(images: Tensor) -> None:
    explanation = sl.explain(network(), images, ["rect_grad", "rect_grad_no_input", "rect_grad_prr"], 1)
    close(explanation["rect_grad"], images * explanation["rect_grad_no_input"])
    both = rect_grad(98.0, padding_trick=True, proportional_pooling=True)
    prr = sl.Method(propagation=both, aggregation=InputTimesSignal(), name="prr")
    close(sl.explain(network(), images, prr, 1)["prr"], explanation["rect_grad_prr"])


def test_proportional_pooling_conserves_the_signal_of_each_window(images: Tensor) -> None:
    """A pool before the network: the signal that leaves a window is the one that arrived at its result."""
    torch.manual_seed(0)
    after = nn.Sequential(nn.Flatten(), nn.Linear(18, 8), nn.ReLU(), nn.Linear(8, 3)).double().eval()
    method = sl.Method(propagation=rect_grad(30.0, proportional_pooling=True), name="prr")
    pool = nn.MaxPool2d(2)
    sent = sl.explain(nn.Sequential(pool, after), images, method, 0)["prr"]
    arrived = sl.explain(after, pool(images), method, 0)["prr"]
    close(nn.functional.avg_pool2d(sent, 2) * 4, arrived, 1e-8)
    assert (sent != 0).sum() > 2 * (arrived != 0).sum()


@pytest.mark.parametrize("bias", [True, False])
def test_lrp_0_is_the_gradient_times_the_input(bias: bool, images: Tensor) -> None:
    explanation = sl.explain(network(bias=bias), images, ["lrp_0", "input_x_gradient"], [0, 1, 2])
    close(explanation["lrp_0"], explanation["input_x_gradient"])


def test_epsilon_at_zero_and_gamma_at_zero_are_lrp_0(images: Tensor) -> None:
    """Gamma keeps its stabiliser of a millionth, and gives nothing to units at exactly zero."""
    zero = sl.Method(propagation=lrp_epsilon(0.0), name="epsilon")
    none = sl.Method(propagation=lrp_gamma(0.0), name="gamma")
    small = sl.Method(propagation=lrp_epsilon(1e-6), name="small")
    explanation = sl.explain(network(), images, ["lrp_0", zero, none, small], 1)
    close(explanation["epsilon"], explanation["lrp_0"])
    close(explanation["gamma"], explanation["small"])


def test_the_first_layer_by_its_gradient_times_the_input_is_the_same_map(images: Tensor) -> None:
    """first="gradient" drops the input factor of x w / z alone; for LRP-0 the plain gradient is left."""
    bare = sl.Method(propagation=lrp_0(first="gradient"), name="bare")
    stable = sl.Method(propagation=lrp_epsilon(0.01, first="gradient"), name="stable")
    whole = sl.Method(propagation=lrp_epsilon(0.01), name="whole")
    explanation = sl.explain(network(), images, [bare, stable, whole, "gradient"], 1)
    close(explanation["bare"], explanation["gradient"])
    close(images * explanation["stable"], explanation["whole"])


def test_the_positive_rules_are_one_rule_without_biases_and_negative_inputs(images: Tensor) -> None:
    """alpha1-beta0 = z+ = the value times Excitation Backprop, which starts from one."""
    names = ["lrp_alpha1_beta0", "lrp_z_plus", "excitation_backprop"]
    explanation = sl.explain(network(bias=False), images, names)
    close(explanation["lrp_z_plus"], explanation["lrp_alpha1_beta0"])
    close(explanation["excitation_backprop"] * explanation.values.view(-1, 1, 1, 1), explanation["lrp_z_plus"])


def test_biases_part_the_positive_rules(images: Tensor) -> None:
    explanation = sl.explain(network(), images, ["lrp_alpha1_beta0", "lrp_z_plus"])
    assert not torch.allclose(explanation["lrp_alpha1_beta0"], explanation["lrp_z_plus"], rtol=1e-2)


@pytest.mark.parametrize("name", ["lrp_alpha1_beta0", "lrp_z_plus", "lrp_w_squared", "lrp_flat", "z_box"])
def test_relevance_is_conserved_without_biases(name: str, images: Tensor) -> None:
    """Up to the stabiliser, a millionth beside every sum of contributions."""
    model = network(bias=False)
    method = sl.Method(propagation=epsilon_gamma_box(-0.5, 1.5), name=name) if name == "z_box" else name
    explanation = sl.explain(model, images, method)
    assert (explanation.values > 0.01).all()
    torch.testing.assert_close(explanation[name].flatten(1).sum(1), explanation.values, rtol=2e-3, atol=0)


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 0.0), (0.5, 0.5), (1.0, 2.0), (1.0, 0.5), (0.0, -1.0)])
def test_alpha_minus_beta_must_be_one(alpha: float, beta: float) -> None:
    with pytest.raises(sl.InputError):
        lrp_alpha_beta(alpha, beta)


def test_alpha_1_beta_1_is_taken_with_a_warning(images: Tensor) -> None:
    """It is in print as equal to Excitation Backprop, which it is not."""
    with pytest.warns(UserWarning, match="not conserve"):
        rule = lrp_alpha_beta(1.0, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lrp_alpha_beta(1.0, 0.0), lrp_alpha_beta(2.0, 1.0)
    model, target = network(), 1
    found = sl.explain(model, images, sl.Method(propagation=rule, name="rule"), target)["rule"]
    expected = [_by_reference(model, image, target, ref.lrp(ref.alpha_beta(1, 1))) for image in images]
    close(found.flatten(1), torch.tensor(expected, dtype=torch.float64))


def test_alpha_beta_is_linear_in_alpha_and_beta(images: Tensor) -> None:
    """At one layer; deeper, the relevance that arrives depends on them too."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 3)).double().eval()
    methods = [sl.Method(propagation=lrp_alpha_beta(1.0 + b, b), name=str(b)) for b in (0.0, 1.0, 2.0)]
    explanation = sl.explain(model, images, methods, 1)
    close(explanation["0.0"] + explanation["2.0"], 2 * explanation["1.0"])


@pytest.mark.parametrize("name", ["rect_grad", "input_x_gradient", "lrp_0", "lrp_epsilon", "lrp_alpha1_beta0"])
def test_what_multiplies_by_the_input_is_nothing_where_the_input_is_nothing(name: str, images: Tensor) -> None:
    """Input bias: an object in the encoding's null colour cannot be seen, whatever the network makes of it."""
    images[:, :, 2:5, 2:5] = 0.0
    method: str | sl.Method = name
    if name == "rect_grad":
        method = sl.Method(propagation=rect_grad(50.0), aggregation=InputTimesSignal(), name=name)
    bare = sl.Method(propagation=rect_grad(50.0), name="bare")
    explanation = sl.explain(network(), images, [method, bare], 1)
    assert explanation[name].any()
    assert not explanation[name][:, :, 2:5, 2:5].any()
    assert explanation["bare"][:, :, 2:5, 2:5].any()


def _by_reference(model: nn.Sequential, image: Tensor, label: int, method: ref.Method) -> list[float]:
    """The reference's map on `network()`."""
    conv1, _, _, conv2, _, _, head = model
    start = ref.image(image)
    x = ref.max_pool(ref.relu(ref.layer(start, conv1)), lambda t: nn.functional.max_pool2d(t, 2))
    x = ref.flatten(ref.relu(ref.layer(x, conv2)))
    return ref.explain(ref.pick(ref.layer(x, head), label), start, method).tolist()


def test_a_batch_norm_in_one_layer_with_its_convolution_leaves_the_rules_as_they_are(images: Tensor) -> None:
    """Folded by hand into the convolution's weights, the network has the same scores and the same map by every rule."""
    torch.manual_seed(0)
    conv, norm, head = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(64, 3)
    nn.init.uniform_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.uniform_(norm.weight, -1, 1)
    nn.init.uniform_(norm.bias, -1, 1)
    apart = nn.Sequential(conv, norm, nn.ReLU(), nn.Flatten(), head).double().eval()
    folded = nn.utils.fuse_conv_bn_eval(conv, norm)
    together = nn.Sequential(folded, nn.ReLU(), nn.Flatten(), head).double().eval()
    methods: list[sl.Method] = list(outcomes.methods().values())
    one, other = (sl.explain(model, images, methods, [0, 1, 2]) for model in (apart, together))
    torch.testing.assert_close(one.values, other.values, rtol=1e-12, atol=0)
    for method in methods:
        close(one[method.name], other[method.name])
