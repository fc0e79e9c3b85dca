"""Metrics with intervals: a bootstrap over rows (Efron 1979), at the level that is asked for.

Differences are of pairs, so what makes one row harder than another does not widen them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Self

import numpy as np
from policy_api.base import Metric
from policy_api.contract.run import RunConfig
from policy_api.rules import criteria

from policy_trainer.errors import ConfigInvalidError

RESAMPLES = 2000
AT_ONCE = 4_000_000  # rows drawn at once

Numbers = Any  # numpy.ndarray of float64, one number a row


@dataclass(frozen=True)
class Intervals:
    """Makes metrics of numbers; the same seed makes the same intervals."""

    seed: int
    confidences: Mapping[str, float] = field(default_factory=dict)
    """By a metric's name; 0.95 for the others."""

    @classmethod
    def of(cls, run: RunConfig) -> Self:
        """Return those of a run: its seed, and the levels that its exit criteria ask for."""
        return cls(run.seed, criteria.confidences(run.exit_criteria))

    def mean(self, name: str, numbers: Numbers, weights: Numbers | None = None) -> Metric:
        """Return the mean of one number a row, with its interval.

        Args:
            name: Of the metric.
            numbers: One a row.
            weights: What each row counts (e.g. its tokens); None: all the same.

        Raises:
            ConfigInvalidError: a number is not finite, so the training has diverged.
        """
        numbers = np.asarray(numbers, dtype=float)
        weights = np.ones(len(numbers)) if weights is None else np.asarray(weights, dtype=float)
        weighted = numbers * weights
        means = np.concatenate(
            [
                weighted[rows].sum(axis=1) / weights[rows].sum(axis=1)
                for rows in self._resampled(len(numbers))
            ]
        )
        return self.metric(name, float(np.average(numbers, weights=weights)), means)

    def statistic(self, name: str, of: Callable[..., float], *columns: Numbers) -> Metric:
        """Return a statistic of whole columns (an AUC, a κ), with its interval.

        A resample in which it is undefined, e.g. an AUC with one class, is left out. The rows of a
        resample keep their order, so that what is sorted stays sorted, and sorts in no time.

        Args:
            name: Of the metric.
            of: Takes the columns, returns the statistic.
            columns: Arrays of the same length, resampled together.
        """
        found = np.array(
            [
                of(*(column[row] for column in columns))
                for rows in self._resampled(len(columns[0]))
                for row in np.sort(rows, axis=1)
            ]
        )
        return self.metric(name, float(of(*columns)), found[np.isfinite(found)])

    def share(self, name: str, found: float, count: int) -> Metric:
        """Return a share of some trials with its interval by Wilson (1927), good also near 0 and 1.

        Args:
            name: Of the metric.
            found: The share.
            count: Trials.
        """
        level = self.confidences.get(name, criteria.CONFIDENCE)
        z = NormalDist().inv_cdf((1 + level) / 2)
        centre = (found + z * z / (2 * count)) / (1 + z * z / count)
        reach = z * (found * (1 - found) / count + (z / (2 * count)) ** 2) ** 0.5
        reach /= 1 + z * z / count
        return Metric(
            name=name,
            value=short(found),
            low=short(max(0.0, round(centre - reach, 12))),  # 0 where nothing was found
            high=short(min(1.0, centre + reach)),
            confidence=None if level == criteria.CONFIDENCE else level,
        )

    def compare(
        self, name: str, after: Numbers, before: Numbers, weights: Numbers | None = None
    ) -> list[Metric]:
        """Return the metric, its value for the start, and the difference (after minus before)."""
        return [
            self.mean(name, after, weights),
            self.mean(f"{name}_base", before, weights),
            self.mean(f"{name}_delta", after - before, weights),
        ]

    def metric(self, name: str, value: float, resampled: Numbers) -> Metric:
        """Return the metric whose interval is the percentiles of resampled values."""
        if not np.isfinite(value):
            raise ConfigInvalidError(
                f"{name} is not a finite number: the training has diverged; lower learningRate"
            )
        level = self.confidences.get(name, criteria.CONFIDENCE)
        tail = 50 * (1 - level)
        low, high = np.percentile(resampled, (tail, 100 - tail)) if len(resampled) else (None, None)
        return Metric(
            name=name,
            value=short(value),
            low=None if low is None else short(low),
            high=None if high is None else short(high),
            confidence=None if level == criteria.CONFIDENCE else level,
        )

    def _resampled(self, count: int) -> Iterator[Numbers]:
        """Yield the rows of all resamples, so many at once as fit into memory well."""
        generator = np.random.default_rng(self.seed)
        at_once = max(1, min(RESAMPLES, AT_ONCE // count))
        for start in range(0, RESAMPLES, at_once):
            yield generator.integers(count, size=(min(at_once, RESAMPLES - start), count))


def short(number: float) -> float:
    """Round to six digits: a termination message has 4,096 bytes."""
    return float(f"{number:.6g}")
