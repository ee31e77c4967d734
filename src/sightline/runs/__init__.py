"""Whole data sets: runs that stream, survive a crash, and go on where they ended.

- `recipe`: what is asked, in one TOML file.
- `source`: images, read one at a time.
- `place`: files anywhere that fsspec reaches; `store`: maps in Zarr, scores in Parquet, a manifest.
- `work`: a chunk of images in, maps and scores out; `local` and `on_ray`: who does it.
- `running`: `run`; `identity`: what must be the same for maps to belong together; `estimate`: what it will cost.
- `audited`, `distanced`: the audit and the support networks that a recipe asks for.
- `opened`: `open_run`, results that are read when they are asked for.
"""

from sightline.runs._estimate import Estimate, estimate
from sightline.runs._opened import Run, open_run
from sightline.runs._place import Place
from sightline.runs._recipe import Recipe, read_recipe
from sightline.runs._running import run

__all__ = ["Estimate", "Place", "Recipe", "Run", "estimate", "open_run", "read_recipe", "run"]
