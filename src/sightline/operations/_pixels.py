"""What was done to the pixels of the image, for rules that need the range that each input of a layer can have."""

from collections.abc import Callable

from torch import Tensor

from sightline._common.torch_private import root_of
from sightline.errors import InputError
from sightline.operations._notes import Note
from sightline.operations._reading import Native
from sightline.operations._vocabulary import Intercepted

_FROM_IMAGE = Note[Native]("from_image", through_hooks=True)
_VIEWED = Note[bool]("viewed", on_memory=True)


class Pixels:
    """Follows pixels while they are only moved, padded or rescaled.

    Args:
        followed: whether any rule of the pass may ask for them.
    """

    def __init__(self, *, followed: bool) -> None:
        self._followed = followed
        self._lost = False

    def begin(self, image: Tensor) -> None:
        """Note the image that a pass begins with."""
        if not self._followed:
            return
        shape = image.shape

        def whole(values: Tensor) -> Tensor:
            if values.numel() not in {1, shape[1]}:
                raise InputError(
                    f"The range of a pixel is a number or one for each of the {shape[1]} channels; got "
                    f"{values.numel()} numbers."
                )
            return values.reshape(1, -1, 1, 1).expand(shape)

        _FROM_IMAGE.put(image, whole)

    def of(self, x: Tensor) -> Native | None:
        """What was done to the image up to x; None where x is more than the image moved, padded or rescaled."""
        return None if self._lost else _FROM_IMAGE.of(x)

    def may_follow(self, call: Intercepted) -> bool:
        """Whether a call leaves pixels what they are."""
        return self._followed and call.kind.moves_pixels(call.tensors)

    def watch(self, call: Intercepted) -> None:
        """Lose track where pixels are written over of which there are other views, whose notes would be wrong."""
        first = call.tensors[0]
        root = root_of(first)
        if not self._followed or not (_FROM_IMAGE.on(first) or _FROM_IMAGE.on(root)):
            return
        if call.writes:
            self._lost = self._lost or root is not first or _VIEWED.on(root)
        elif call.kind.views:
            _VIEWED.put(root, True)

    def after(self, call: Intercepted, bound: tuple[list[Tensor], Native] | None) -> Callable[[object], None] | None:
        """What is to be done with the result of a call that is about to run; `bound` are its tensors and itself."""
        if not self._followed:
            return None
        followed = None if bound is None else self._followed_by(call, *bound)

        def noted(result: object) -> None:
            if not isinstance(result, Tensor):
                return
            if followed is not None:
                _FROM_IMAGE.put(result, followed)
            else:  # perhaps written over in place
                _FROM_IMAGE.drop(result)

        return noted

    def _followed_by(self, call: Intercepted, tensors: list[Tensor], native: Native) -> Native | None:
        if len(tensors) != 1 or not self.may_follow(call):
            return None
        before = _FROM_IMAGE.of(tensors[0])
        if before is None:
            return None
        in_place = call.in_place
        return lambda values: native(before(values).clone() if in_place else before(values))
