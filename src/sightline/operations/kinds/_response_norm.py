"""Local response normalisation."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from sightline.operations._calls import Call
from sightline.operations._kept import wide
from sightline.operations._vocabulary import KINDS, BiasTerm, Intercepted
from sightline.operations.kinds._rulable import Rulable
from sightline.operations.layout._elementwise import same
from sightline.operations.layout._seen import by_name


@dataclass(frozen=True)
class ResponseNorm:
    """A local response normalisation, y_k = x_k / d_k^beta, d_k = k0 + (alpha / size) sum of x_i^2 over k's window.

    Attributes:
        size: how many channels a window has.
        alpha: the weight of their mean square.
        beta: the exponent.
        k: the constant k0.
    """

    size: int
    alpha: float
    beta: float
    k: float

    def sums(self, values: Tensor, *, onto: bool = False) -> Tensor:
        """The sum over each channel's window; `onto`: over the channels whose windows hold it."""
        sides = self.size // 2, (self.size - 1) // 2
        flat = values.flatten(2).transpose(1, 2).flatten(0, 1).unsqueeze(1)
        padded = functional.pad(flat, sides[::-1] if onto else sides)
        summed = functional.avg_pool1d(padded, self.size, 1) * self.size
        positions = values.flatten(2).shape[2]
        return summed.view(len(values), positions, -1).transpose(1, 2).reshape(values.shape)

    def denominators(self, x: Tensor) -> Tensor:
        """d, before it is raised to beta."""
        return self.k + self.alpha / self.size * self.sums(x.square())


def _settings(call: Intercepted) -> ResponseNorm:
    return ResponseNorm(
        size=call.argument(1, "size"),
        alpha=call.argument(2, "alpha", default=1e-4),
        beta=call.argument(3, "beta", default=0.75),
        k=call.argument(4, "k", default=1.0),
    )


class NormedByNeighbours(Call):
    """What a rule sees of a local response normalisation.

    Attributes:
        response: its settings.
    """

    response: ResponseNorm

    def read(self, call: Intercepted, tensors: list[Tensor]) -> None:
        del tensors
        self.response = _settings(call)


class _ResponseNorm(Rulable):
    """A rule is given a `NormedByNeighbours`."""

    name = "local response normalisation"
    spellings = "local_response_norm"
    layouts = by_name({same: spellings})
    features = single = True
    given = NormedByNeighbours

    def bias_term(self, call: Intercepted) -> BiasTerm:
        """2 beta y (d - k0) / d, for y = x / d^beta: what is left of y when its derivative along x is taken off."""
        norm, x = _settings(call), wide(call.argument(0, "input").detach())
        d = norm.denominators(x)
        return 2 * norm.beta * x * d.pow(-norm.beta - 1) * (d - norm.k), None


RESPONSE_NORM = KINDS.register(_ResponseNorm())
