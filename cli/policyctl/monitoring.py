"""How a policy does in production, from its log: followed, successful, as expected. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Z95 = 1.959963984540054  # of the normal distribution, for 95 %
POLICY = "policy"
BASELINES = "success_rate_baseline_"


@dataclass(frozen=True)
class Share:
    """So many of those of which it is known."""

    yes: int
    known: int

    @property
    def value(self) -> float:
        """The share, from 0 to 1; not defined of none."""
        return self.yes / self.known

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval (Wilson 1927), which holds for few and for shares near 0 and 1."""
        n, p, z2 = self.known, self.value, Z95**2
        middle = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Span:
    """What happened in a span of time."""

    made: int
    """Decisions of the policy and of its baseline."""
    by_baseline: int
    followed: Share
    success: Share
    """Of the policy's own decisions."""
    success_of_baseline: Share


@dataclass(frozen=True)
class Expected:
    """What a version's training says of it."""

    success_rate: float | None
    baseline: str | None = None
    """The best of the baselines that it was compared with."""
    baseline_rate: float | None = None

    @classmethod
    def of(cls, metrics: Mapping[str, float]) -> "Expected":
        """Read a version's metrics."""
        baselines = {
            name.removeprefix(BASELINES): value
            for name, value in metrics.items()
            if name.startswith(BASELINES)
        }
        best = max(baselines, key=lambda name: baselines[name], default=None)
        rate = None if best is None else baselines[best]
        return cls(metrics.get("success_rate"), best, rate)


def degradation(found: Share, expected: float) -> float:
    """Return by which share of what was expected less succeeds; below 0: more does."""
    return (expected - found.value) / expected


def degraded(found: Share, expected: float | None, most: float) -> bool | None:
    """Say whether a policy has become worse than it may.

    Args:
        found: What succeeded.
        expected: What its training expects; None: nobody knows.
        most: The degradation that is let pass, a share of what was expected.

    Returns:
        None: It looks like it, but these are too few to say; or nothing is known.
    """
    if not expected or not found.known:
        return None
    if degradation(found, expected) <= most:
        return False
    return True if found.interval[1] < expected else None


def report(span: Span, expected: Expected, most: float) -> Iterator[str]:
    """Yield lines for people."""
    yield f"decisions made       {span.made:,}" + (
        f", of which the baseline made {span.by_baseline:,}" if span.by_baseline else ""
    )
    yield f"followed             {_share(span.followed)}"
    yield f"success rate         {_share(span.success)}"
    if span.success.known:
        yield from _beside(span, expected)
    yield from _verdict(span.success, expected.success_rate, most)


def _beside(span: Span, expected: Expected) -> Iterator[str]:
    own = span.success.value
    if span.success_of_baseline.known:
        share = span.success_of_baseline
        yield f"baseline, here       {_share(share)}: {_points(own - share.value)}"
    if expected.baseline is not None and expected.baseline_rate is not None:
        rate = expected.baseline_rate
        yield f"{expected.baseline:<20} {rate:.2f} in training: {_points(own - rate)}"


def _verdict(found: Share, expected: float | None, most: float) -> Iterator[str]:
    if expected is None or not found.known:
        return
    change, verdict = degradation(found, expected), degraded(found, expected, most)
    if verdict is False:
        yield f"expected             {expected:.2f}: as it should be"
        return
    yield f"expected             {expected:.2f}: {change:.0%} worse"
    if verdict is None:
        yield f"That may be chance: of {found.known:,} the interval reaches what was expected."
        return
    yield from ACTIONS


ACTIONS: Sequence[str] = (
    "The policy has become worse. What to do:",
    "1. look at what failed: policyctl log show, policyctl log export",
    "2. look whether requests have changed: categories that training has not seen are in",
    "   `unseen` of the log and in policyops_unseen_categories_total",
    "3. train again with the log: policyctl log export --for CQL; until then, mode Advisor or a",
    "   roll-back to the version before",
)


def _share(share: Share) -> str:
    if not share.known:
        return "not known: no outcome says it"
    low, high = share.interval
    return f"{share.value:.2f} [{low:.2f}, {high:.2f}], {share.yes:,} of {share.known:,}"


def _points(difference: float) -> str:
    return f"{100 * difference:+.0f} points"
