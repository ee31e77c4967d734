"""The two ways Sightline says no: the input is wrong, or the answer would be."""


class SightlineError(Exception):
    """Base of every error Sightline raises on purpose; its text is a sentence for the user."""


class InputError(SightlineError, ValueError):
    """What was given cannot be used: the text says what was expected, what came, and what to do."""


class RefusalError(SightlineError, RuntimeError):
    """The request is understood, but its answer would be wrong or undefined, so none is given."""
