"""Methods of the gradient at the input, at one image or reduced over several."""

from sightline.aggregation import InputSignal, InputTimesSignal, Sign
from sightline.methods._method import Method
from sightline.sampling import Expected, Noise, Path, Reduction

ROWS = (
    Method(
        name="gradient",
        formula="dz/dx",
        source="Simonyan et al. 2014, arXiv 1312.6034, section 3",
        cost=2,
    ),
    Method(
        name="saliency",
        aggregation=InputSignal(Sign.ABSOLUTE),
        formula="|dz/dx|",
        source="Simonyan et al. 2014, arXiv 1312.6034, section 3.1",
        cost=2,
        reduction="max",
        coincides=(("gradient", "its absolute value"),),
    ),
    Method(
        name="input_x_gradient",
        aggregation=InputTimesSignal(),
        formula="x * dz/dx",
        source="Shrikumar et al. 2016, arXiv 1605.01713",
        cost=2,
        coincides=(("lrp_0", "in networks of weighted layers, batch norms, ReLU, max-pooling and adds"),),
    ),
    Method(
        name="smooth_grad",
        sampling=Noise(samples=25, sd=0.15),
        formula="mean_n dz/dx(x + e_n), e ~ N(0, (0.15 (max x - min x))^2), n = 1..25",
        source="Smilkov et al. 2017, arXiv 1706.03825",
        cost=51,
        coincides=(("gradient", "where sd = 0"),),
    ),
    Method(
        name="smooth_grad_squared",
        sampling=Noise(samples=25, sd=0.15, reduction=Reduction.MEAN_SQUARE),
        formula="mean_n (dz/dx(x + e_n))^2, e_n as in smooth_grad",
        source="Hooker et al. 2019, arXiv 1806.10758, section 4.1",
        cost=51,
        coincides=(("var_grad", "plus the square of smooth_grad, for the same noise"),),
    ),
    Method(
        name="var_grad",
        sampling=Noise(samples=25, sd=0.15, reduction=Reduction.VARIANCE),
        formula="mean_n (dz/dx(x + e_n))^2 - (mean_n dz/dx(x + e_n))^2, e_n as in smooth_grad",
        source="Adebayo et al. 2018, arXiv 1810.03307, appendix",
        cost=51,
    ),
    Method(
        name="integrated_gradients",
        sampling=Path(steps=50),
        aggregation=InputTimesSignal(),
        formula="(x - x0) * integral_0^1 dz/dx(x0 + a (x - x0)) da, x0 = 0, 50 Gauss-Legendre points",
        source="Sundararajan et al. 2017, arXiv 1703.01365, equation 1",
        cost=102,
        coincides=(
            (
                "input_x_gradient",
                "where the baseline is zero and all is homogeneous: weighted layers without biases, ReLU, pooling",
            ),
        ),
    ),
    Method(
        name="expected_gradients",
        sampling=Expected(samples=50),
        aggregation=InputTimesSignal(),
        formula="mean_n (x - x0_n) * dz/dx(x0_n + a_n (x - x0_n)), x0_n of references, a_n ~ U(0, 1), n = 1..50",
        source="Erion et al. 2021, arXiv 1906.10670, equation 3",
        cost=101,
        coincides=(("integrated_gradients", "in expectation, where the only reference is its baseline"),),
    ),
)
