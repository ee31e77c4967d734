"""The methods that have a name, one family a file; importing this registers them, in the order of the table."""

from sightline.methods._named import METHODS
from sightline.methods.rows import _cam, _full_grad, _gradients, _rectified, _relevance

for _family in (_gradients, _rectified, _relevance, _cam, _full_grad):
    for _row in _family.ROWS:
        METHODS.register(_row.name, _row)
