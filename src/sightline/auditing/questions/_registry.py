"""The questions by name: Sightline's own, those of other packages by their entry points, and a user's by their file."""

from collections.abc import Iterable, Sequence

from sightline._common.registry import Registry
from sightline.auditing.questions._block import REFERENCE
from sightline.auditing.questions._identity import identity
from sightline.auditing.questions._question import Question
from sightline.errors import InputError

_MODULES = (
    "class_sensitivity", "image_sensitivity", "parameter_randomization", "input_bias", "completeness", "stability",
    "convergence", "faithfulness", "localisation",
)  # fmt: skip


def as_question(given: object) -> Question:
    """A question from an instance, a class whose settings all have defaults, or a name.

    Raises:
        InputError: it is none, or it has no name that can stand in a table.
    """
    if isinstance(given, str):
        return QUESTIONS[given]
    if isinstance(given, type) and issubclass(given, Question):
        kind = given
        try:
            given = kind()
        except TypeError as error:
            raise InputError(
                f"The test {kind.__name__} cannot be made without settings ({error}). Give an instance of it, or give "
                "each of its settings a default."
            ) from error
    if not isinstance(given, Question):
        raise InputError(
            "A test is a name, FILE.py:NAME, or an instance of a subclass of sightline.Question; got "
            f"{type(given).__name__}."
        )
    name = getattr(given, "name", None)
    if not isinstance(name, str) or not name.isidentifier() or name == REFERENCE:
        raise InputError(
            f"The test {type(given).__name__} needs a name of letters, digits and underscores, other than "
            f'"{REFERENCE}", as in name = "my_test"; got {name!r}.'
        )
    return given


QUESTIONS = Registry[Question](
    "test",
    "sightline.questions",
    tuple(f"sightline.auditing.questions._{name}" for name in _MODULES),
    as_question,
)


def default_tests() -> tuple[str, ...]:
    """The names of what is asked unless told otherwise."""
    return tuple(name for name, question in QUESTIONS.own.items() if question.default)


def questions_of(tests: object, *, masked: bool) -> list[Question]:
    """The questions of an audit in order, each once.

    Args:
        tests: what the user asks for: a name, a question, or several.
        masked: whether there are masks, so that what needs them is asked too.

    Raises:
        InputError: there is no such question, none is asked for, or two have one name.
    """
    given: Iterable[object]
    if isinstance(tests, str | Question | type):
        given = [tests]
    elif isinstance(tests, Sequence):
        given = tests
    else:
        raise InputError(f"tests= takes names and questions, in a list; got {type(tests).__name__}.")
    asked = [as_question(one) for one in given]
    if not asked:
        raise InputError(f"An audit asks at least one test, such as {', '.join(QUESTIONS)}; got none.")
    if masked:
        names = {one.name for one in asked}
        asked += [one for one in QUESTIONS.own.values() if one.needs_masks and one.name not in names]
    known: dict[str, Question] = {}
    for one in asked:
        first = known.setdefault(one.name, one)
        if first is not one and identity(first) != identity(one):
            raise InputError(
                f"Two different tests are called {one.name}: {type(first).__name__} and {type(one).__name__}. Give "
                "each a name of its own."
            )
    return list(known.values())
