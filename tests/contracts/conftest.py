import pytest

from helpers.contract import Contract


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test of a contract that takes a part runs once for each declared part."""
    if metafunc.cls is not None and issubclass(metafunc.cls, Contract) and "part" in metafunc.fixturenames:
        parts = metafunc.cls.parts.items()
        marks = {False: (), True: pytest.mark.slow}
        metafunc.parametrize("part", [pytest.param(part, id=name, marks=marks[part.slow]) for name, part in parts])


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """The networks are so small that sharing their work takes longer than doing it."""
