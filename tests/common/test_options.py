"""Options described once: a function takes the signature and the documentation of a dataclass."""

import inspect
from dataclasses import KW_ONLY, dataclass

import pytest

from sightline._common.options import described, option, takes

SEEN: list[tuple[int, object, bool]] = []


@dataclass
class Options:
    name: str = option("a", "What it is called.")
    _: KW_ONLY
    size: int = option(3, "How large it is.")


@takes(Options)
def call(first: int, *options, dry: bool = False, **more) -> bool:
    """Do it.

    Args:
        first: the first.
        {options}
        dry: whether to do nothing.
    """
    SEEN.append((first, Options(*options, **more), dry))
    return dry


def test_the_signature_is_the_function_s_with_the_options_in_it() -> None:
    assert str(inspect.signature(call)) == (
        "(first: int, name: str = 'a', *, size: int = 3, dry: bool = False) -> bool"
    )
    assert call(1, "b", dry=True, size=4)
    assert [(1, Options("b", size=4), True)] == SEEN


def test_each_option_is_documented_in_its_place() -> None:
    assert described(Options) == {"name": "What it is called.", "size": "How large it is."}
    lines = inspect.getdoc(call).splitlines()
    assert lines[lines.index("Args:") + 1 :] == [
        "    first: the first.",
        "    name: What it is called.",
        "    size: How large it is.",
        "    dry: whether to do nothing.",
    ]


def test_a_misspelt_option_is_answered_by_the_name_of_the_call() -> None:
    with pytest.raises(TypeError, match=r"call\(\) got an unexpected keyword argument 'sizes'\..*size"):
        call(1, sizes=2)
