"""The claims of the literature on saliency methods, tested on one network.

- `study`: `claims`, which runs the parts and writes them; `options`: its options; `part`: what a part finds;
  `rule`: how verdicts answer a claim.
- `sensitivity`: positive aggregation and propagation, from one audit; `survey`: settings; `encodings`: input bias.
"""

from sightline.options import PARTS
from sightline.study._options import StudyOptions
from sightline.study._study import Study, claims

__all__ = ["PARTS", "Study", "StudyOptions", "claims"]
