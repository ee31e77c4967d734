from importlib.metadata import EntryPoint

import pytest

from sightline import InputError
from sightline._common import registry as module
from sightline._common.registry import Registry


def number(given):
    if not isinstance(given, int):
        raise InputError(f"expected an int, got {type(given).__name__}")
    return given + 1


@pytest.fixture
def numbers(monkeypatch):
    points = [
        EntryPoint("two", "math:floor", "sightline.tests"),
        EntryPoint("broken", "no_such_module:two", "sightline.tests"),
        EntryPoint("max", "sys:maxunicode", "sightline.tests"),
    ]
    monkeypatch.setattr(module, "entry_points", lambda group: points if group == "sightline.tests" else [])
    found = Registry("number", "sightline.tests", accept=number)
    found.register("one", 1)
    return found


def test_own_parts_come_first_then_entry_points(numbers):
    assert list(numbers) == ["one", "broken", "max", "two"]
    assert numbers["one"] == 1
    assert numbers["max"] == 0x10FFFF + 1
    assert "max" in numbers
    assert "three" not in numbers


def test_a_broken_entry_point_says_so_and_leaves_the_others(numbers):
    with pytest.raises(InputError, match="no_such_module"):
        numbers["broken"]
    with pytest.raises(InputError, match="expected an int"):
        numbers["two"]
    assert numbers["one"] == 1


def test_a_name_is_given_once(numbers):
    with pytest.raises(InputError, match="registered already"):
        numbers.register("one", 2)
    assert numbers["one"] == 1


def test_an_unknown_name_is_answered_with_a_near_one(numbers):
    with pytest.raises(InputError, match="one"):
        numbers["onee"]


def test_objects_in_a_file(numbers, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("SEVEN = 7\nTEXT = 'seven'\n")
    assert numbers[f"{file}:SEVEN"] == 8
    with pytest.raises(InputError, match="expected an int, got str"):
        numbers[f"{file}:TEXT"]
    with pytest.raises(InputError, match="number EIGHT"):
        numbers[f"{file}:EIGHT"]
    with pytest.raises(InputError, match="not a file"):
        numbers[f"{tmp_path}/other.py:SEVEN"]


def test_objects_in_a_module(numbers):
    assert numbers["sys:maxunicode"] == 0x10FFFF + 1
    with pytest.raises(InputError, match="no module"):
        numbers["no_such_module:x"]
