"""The ordinary gradient: no rule anywhere, so torch's own backward does all the work."""

from sightline.operations import Propagation, by_settings


@by_settings
def _gradient() -> Propagation:
    return Propagation("gradient", scope="The gradient is defined for every differentiable model.")


GRADIENT = _gradient()
