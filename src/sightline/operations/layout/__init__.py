"""What each axis of a result is, followed operation by operation: images, channels, places of the input, tokens."""

from sightline.operations.layout._axes import Layout, Role, Span, of_input
from sightline.operations.layout._grid import Grid, Unreadable, channel_axis, grid_of
from sightline.operations.layout._tracker import Layouts

__all__ = ["Grid", "Layout", "Layouts", "Role", "Span", "Unreadable", "channel_axis", "grid_of", "of_input"]
