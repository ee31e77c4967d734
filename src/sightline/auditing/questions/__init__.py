"""The questions of an audit, put to one block of images at a time; their rules were stated before the figures.

- `question`: what they have in common.
- `references`: how alike are maps of different images, and of the same under slight noise?
- `image_sensitivity`: is the map of another image, for the same class, another map?
- `class_sensitivity`: is the map of another class another map?
- `parameter_randomization`: is the map of a network that has learned nothing another map?
- `input_bias`: does the map stay where only the encoding of the pictures changes, and what colour is invisible to it?
- `convergence`: at which layer has the propagation lost the class?
- `completeness`: does the map add up to what it explains?
- `stability`: does the same question get the same answer?
- `faithfulness`: what becomes of the score as pixels are put out in the map's order?
- `localisation`: does the map lie where a person says that the object is?
"""

from sightline.auditing.questions._class_sensitivity import ClassSensitivity
from sightline.auditing.questions._completeness import Completeness
from sightline.auditing.questions._convergence import Convergence
from sightline.auditing.questions._faithfulness import Faithfulness
from sightline.auditing.questions._image_sensitivity import ImageSensitivity
from sightline.auditing.questions._input_bias import InputBias
from sightline.auditing.questions._localisation import Localisation
from sightline.auditing.questions._parameter_randomization import ParameterRandomization
from sightline.auditing.questions._question import Question
from sightline.auditing.questions._references import References
from sightline.auditing.questions._stability import Stability

__all__ = [
    "ClassSensitivity",
    "Completeness",
    "Convergence",
    "Faithfulness",
    "ImageSensitivity",
    "InputBias",
    "Localisation",
    "ParameterRandomization",
    "Question",
    "References",
    "Stability",
]
