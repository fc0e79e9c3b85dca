"""`stopEarly`: end a run whose own metrics say that going on is hopeless or needless. Pure."""

import math
from collections.abc import Mapping, Sequence

from policy_api.v1alpha1.criteria import StopRule


class EarlyStop:
    """Counts, for each rule, the reports in a row that were out of bounds."""

    def __init__(self, rules: Sequence[StopRule]) -> None:
        self._rules = rules
        self._counts = [0] * len(rules)
        self.reason: str | None = None
        """Why to stop, as a sentence; None: go on."""

    def see(self, metrics: Mapping[str, float]) -> None:
        """Take a report; metrics that it lacks leave their rules' counts as they are."""
        for index, rule in enumerate(self._rules):
            if rule.metric not in metrics:
                continue
            value = metrics[rule.metric]
            self._counts[index] = self._counts[index] + 1 if outside(rule, value) else 0
            if self._counts[index] >= rule.patience and self.reason is None:
                self.reason = _sentence(rule, value)


def outside(rule: StopRule, value: float) -> bool:
    """Say whether a value is out of a rule's bounds; what is no number is."""
    return (
        math.isnan(value)
        or (rule.min is not None and value < rule.min)
        or (rule.max is not None and value > rule.max)
    )


def _sentence(rule: StopRule, value: float) -> str:
    ends = [
        f"{word} {bound:g}"
        for word, bound in (("min", rule.min), ("max", rule.max))
        if bound is not None
    ]
    times = f" {rule.patience} times in a row" if rule.patience > 1 else ""
    bounds = f"out of bounds ({', '.join(ends)}){times}"
    return f"stopped early: {rule.metric} was {bounds}, now {value:.4g}"
