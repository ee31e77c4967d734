"""The methods of one sampling, which share their passes."""

from collections import defaultdict
from dataclasses import dataclass

from sightline.explaining._results import Results
from sightline.methods import Method
from sightline.propagation import Propagation
from sightline.sampling import Sampling


@dataclass(frozen=True)
class Group:
    """The methods of one sampling, and what is found of them.

    Attributes:
        sampling: what decides at which inputs the network is evaluated.
        methods: the methods.
        results: for each target; refusals are recorded by method.
    """

    sampling: Sampling
    methods: list[Method]
    results: list[Results]

    def live(self) -> dict[Propagation, list[Method]]:
        """By propagation, the methods that are not refused for every target."""
        live: dict[Propagation, list[Method]] = defaultdict(list)
        for method in self.methods:
            if any(method.name not in results.refused for results in self.results):
                live[method.propagation].append(method)
        return live

    @property
    def done(self) -> bool:
        """Whether nothing is left to do: the images themselves always go through, since they also predict."""
        return not self.sampling.at_images and not self.live()

    def refuse(self, method: Method, reason: str) -> None:
        """Refuse a method for every target, unless it is refused already."""
        for results in self.results:
            results.refused.setdefault(method.name, reason)
