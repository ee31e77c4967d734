"""What a saliency method is, the methods that have a name, and what is known of each before it is used.

- `Method`: three choices, and what is known of them.
- `catalogue`: the methods by name, also other distributions'; `unusable`: why some of those cannot be used.
- `known_methods`: these and those of users' files that were used; what was saved is read back with them.
- `as_method`: a method of its name, or of FILE.py:NAME; `method_or_function`: what can be audited.
- `card`, `choices`, `settings`: what is known of a method, for people.
"""

from sightline.methods._cards import Card, card, choices, settings
from sightline.methods._method import Method
from sightline.methods._named import (
    METHODS_GROUP,
    MapFunction,
    as_method,
    catalogue,
    known_methods,
    method_or_function,
    unusable,
)

__all__ = [
    "METHODS_GROUP",
    "Card",
    "MapFunction",
    "Method",
    "as_method",
    "card",
    "catalogue",
    "choices",
    "known_methods",
    "method_or_function",
    "settings",
    "unusable",
]
