"""A user's question, which may fail: it then loses its own verdicts, with a sentence, and nobody else's."""

from collections.abc import Callable, Collection, Iterable, Iterator
from numbers import Real
from typing import TypeVar

from sightline.auditing.questions._block import Block, Score
from sightline.auditing.questions._identity import is_own
from sightline.auditing.questions._question import Question, Setup
from sightline.errors import InputError, SightlineError

T = TypeVar("T")


def prepared(question: Question, setup: Setup) -> Question:
    """A question prepared for an audit.

    Raises:
        InputError: a user's question fails at this, or says something wrong of itself.
    """
    if is_own(question):
        return question.prepare(setup)
    try:
        found = question.prepare(setup)
        _ = found.parts, found.networks, found.tests, found.map_sets(setup.logits.shape[1])
    except SightlineError:
        raise
    except Exception as error:
        raise InputError(f"The test {question.name} cannot be prepared: {_named(error)}.") from error
    if found.name != question.name:
        raise InputError(f"The test {question.name} is called {found.name} once it is prepared; keep its name.")
    return found


def answers(
    question: Question, block: Block, on_progress: Callable[[str], None], wanted: Collection[int]
) -> Iterator[tuple[int, Iterable[Score], str]]:
    """The scores of some parts: the part's number, its scores, and why there are none where a user's question failed.

    Args:
        question: the question.
        block: the images.
        on_progress: called with what is done; what it raises is not the question's failure.
        wanted: the parts.
    """
    if is_own(question):
        for number, scores in question.by_part(block, on_progress, wanted):
            yield number, scores, ""
        return
    interrupted: list[Exception] = []

    def tell(words: str) -> None:
        try:
            on_progress(words)
        except Exception as error:
            interrupted.append(error)
            raise

    left, reason = set(wanted), ""
    try:
        for number, scores in question.by_part(block, tell, wanted):
            if number not in left:
                raise InputError(f"it answered part {number!r}, which was not asked or is answered already")  # noqa: TRY301
            checked = _checked(question, block, scores)
            left.remove(number)
            yield number, checked, ""
        reason = "it did not answer all of its parts"
    except Exception as error:
        if error in interrupted:
            raise
        reason = str(error) if isinstance(error, SightlineError) else _named(error)
    if left:
        images = f"images {block.numbers.start} to {block.numbers.stop - 1}"
        sentence = f"the test {question.name} failed on {images}: {reason.rstrip('.')}"
        yield from ((number, [], sentence) for number in sorted(left))


def worded(question: Question, say: Callable[[], T], instead: Callable[[str], T]) -> T:
    """What a question says of the audit's result, or, where a user's question fails at that, something instead.

    Args:
        question: the question.
        say: calls one of its methods.
        instead: is given why that failed.
    """
    try:
        return say()
    except Exception as error:
        if is_own(question):
            raise
        return instead(f"the test {question.name} fails to say more ({_named(error)})")


def _checked(question: Question, block: Block, scores: object) -> list[Score]:
    """The scores, where each is one of this question, these methods and these images.

    Raises:
        InputError: they are not.
    """
    if not isinstance(scores, Iterable) or isinstance(scores, str):
        raise InputError(f"it returned {type(scores).__name__} where scores are expected, as Block.each makes them")
    tests, methods = {question.name, *question.tests}, set(block.subjects.names)
    found: dict[tuple[object, ...], Score] = {}
    for one in scores:
        if not isinstance(one, Score):
            raise InputError(f"it gave {type(one).__name__} where a Score is expected, as Block.each makes it")
        for what, own, known in (
            ("test", one.test, tests), ("method", one.method, methods), ("image", one.image, block.numbers),
        ):  # fmt: skip
            if own not in known:
                names = f"{known.start} to {known.stop - 1}" if isinstance(known, range) else ", ".join(sorted(known))
                raise InputError(f"it gave a score of the {what} {own!r}; expected {names}")
        value: object = one.value
        if not isinstance(value, Real):
            raise InputError(f"it gave {type(value).__name__} as a value; expected a number, as of tensor.item()")
        if (key := one._replace(value=0.0)) in found:
            raise InputError(f"it gave two scores for {one.method}, {one.case}, {one.measure}, image {one.image}")
        found[key] = one._replace(value=float(value))
    return list(found.values())


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
