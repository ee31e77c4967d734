"""The questions of an audit, put to one block of images at a time; their rules were stated before the figures.

Each is one file that registers it (`QUESTIONS`) and says all that is known of it; `Question` is what they have in
common, and what a user subclasses. `Block`: the images, with their maps and helpers for scores; `Subjects`: methods,
functions of the user's own, controls; `Rule`: what decides a test. `References` are asked in every audit: how alike are
maps of different images, and of the same under slight noise?
"""

from sightline.auditing.questions._block import (
    CEILING,
    FLOOR,
    REFERENCE,
    SAME_CLASS,
    Block,
    Partners,
    Score,
    ordered_outputs,
)
from sightline.auditing.questions._patches import blind_to
from sightline.auditing.questions._question import Question, Setup
from sightline.auditing.questions._references import References
from sightline.auditing.questions._registry import QUESTIONS, default_tests, questions_of
from sightline.auditing.questions._rule import Finding, Rule, Said
from sightline.auditing.questions._subjects import CONTROLS, Custom, Subjects, from_callable

__all__ = [
    "CEILING",
    "CONTROLS",
    "FLOOR",
    "QUESTIONS",
    "REFERENCE",
    "SAME_CLASS",
    "Block",
    "Custom",
    "Finding",
    "Partners",
    "Question",
    "References",
    "Rule",
    "Said",
    "Score",
    "Setup",
    "Subjects",
    "blind_to",
    "default_tests",
    "from_callable",
    "ordered_outputs",
    "questions_of",
]
