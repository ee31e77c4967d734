"""`audit`: a model, images and methods in; figures, intervals and verdicts out."""

from collections.abc import Callable
from typing import Any, Literal, ParamSpec, Protocol, cast, overload

from sightline._common.options import takes
from sightline.auditing._forecast import Forecast
from sightline.auditing._found import Audit
from sightline.auditing._options import AuditOptions
from sightline.auditing._plan import Plan
from sightline.evaluation import Asked

P = ParamSpec("P")


class AuditCall(Protocol[P]):
    """The type of `audit`: the options are those of `AuditOptions`, and a dry run gives a `Forecast`."""

    @overload
    def __call__(self, model: Callable[..., Any], images: Asked, /, *options: P.args, **more: P.kwargs) -> Audit: ...
    @overload
    def __call__(self, *options: Any, dry_run: Literal[True], **more: Any) -> Forecast: ...


def _typed(options: Callable[P, AuditOptions]) -> Callable[[Callable[..., Audit | Forecast]], AuditCall[P]]:
    return cast("Callable[[Callable[..., Audit | Forecast]], AuditCall[P]]", takes(cast("type", options)))


@_typed(AuditOptions)
def audit(  # noqa: D417 - {options} are documented by `AuditOptions`
    model: Callable[..., Any], images: Asked, *options: Any, dry_run: bool = False, **more: Any
) -> Audit | Forecast:
    """Ask of some methods whether their maps explain this model.

    Every figure stands between a floor (the map of another image, of another predicted class) and a ceiling (the map of
    the same image under slight noise) that are measured in the same run, with an interval over images, or groups of
    them, and random networks. Verdicts are corrected for their number. Four controls are audited beside the methods:
    noise, the input itself, an edge detector, and the gradient.

    Args:
        model: a network in evaluation mode (or any callable from a batch of images to its output).
        images: see `sightline.explain`; a verdict needs at least twenty.
        {options}
        dry_run: whether only to say how many images and random networks a verdict will need, and how long the audit
            will take: a `Forecast`.

    Raises:
        InputError: images, methods or tests cannot be used, or the folder holds another audit.
        RefusalError: the network gives no class scores, or every method is refused on it.
    """
    asked = AuditOptions(*options, **more)
    plan = Plan(model, images, asked)
    if dry_run:
        return plan.forecast()
    for number in range(plan.blocks):
        plan.keep(number, progress=asked.progress)
    if asked.progress is not None:
        asked.progress("done", plan.blocks, plan.blocks)
    return plan.found()
