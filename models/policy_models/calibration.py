"""From a score to the probability that goes with it. Numpy alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

Numbers = Any  # numpy.ndarray


@dataclass(frozen=True)
class Calibrator:
    """Isotonic regression of an outcome on the score (Zadrozny and Elkan 2002); none is no change.

    Linear between the centres of its steps (centered isotonic regression, Oron and Flournoy 2017),
    so that rows which the scorer tells apart do not become equal, and the AUC stays. Its ends stay
    off 0 and 1 by one row's worth: nobody knows a probability better than that.
    """

    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def apply(self, scores: Numbers) -> Numbers:
        """Return the probability that goes with each score."""
        return np.interp(scores, self.x, self.y) if self.x else scores

    def to_json(self) -> dict[str, tuple[float, ...]]:
        """Return what an artifact keeps."""
        return {"x": self.x, "y": self.y}

    @classmethod
    def from_json(cls, curve: Mapping[str, Any]) -> Self:
        """Read what `to_json` made."""
        return cls(tuple(curve["x"]), tuple(curve["y"]))
