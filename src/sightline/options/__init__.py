"""What users can say: each option with its default, its help and its limits, stated once.

The dataclasses are the options of commands and the parts of recipes, and the Python calls take their defaults from
them. Nothing is imported for them, so that `sightline --help` costs nothing.

- `ModelOptions`, `ImageOptions`, `PixelOptions`, `PageOptions`, `SeedOptions`: what several commands share.
- `AuditTests`, `Fitting`: what a command and a recipe share.
- `listed`: words with commas.
- the options of each command; `AuditPart`, `GADPart`: parts of a recipe.
"""

from sightline.options._commands import (
    PARTS,
    AppOptions,
    AuditOptions,
    AuditPart,
    AuditTests,
    ClaimsOptions,
    DemoOptions,
    ExplainOptions,
    MethodsOptions,
    ReportOptions,
    RunOptions,
)
from sightline.options._distancing import (
    DistancedOptions,
    EvaluateOptions,
    FitOptions,
    Fitting,
    GADPart,
    ReproduceOptions,
    TablesOptions,
)
from sightline.options._reading import listed
from sightline.options._shared import ImageOptions, ModelOptions, PageOptions, PixelOptions, SeedOptions

__all__ = [
    "PARTS",
    "AppOptions",
    "AuditOptions",
    "AuditPart",
    "AuditTests",
    "ClaimsOptions",
    "DemoOptions",
    "DistancedOptions",
    "EvaluateOptions",
    "ExplainOptions",
    "FitOptions",
    "Fitting",
    "GADPart",
    "ImageOptions",
    "MethodsOptions",
    "ModelOptions",
    "PageOptions",
    "PixelOptions",
    "ReportOptions",
    "ReproduceOptions",
    "RunOptions",
    "SeedOptions",
    "TablesOptions",
    "listed",
]
