"""Judge exit criteria against reported metrics: the same function in operator and trainer."""

import math
from collections.abc import Mapping, Sequence

from policy_api.base import Metric
from policy_api.v1alpha1.training import CriterionVerdict, ExitCriterion


def wanted(criterion: ExitCriterion) -> str:
    """Say in words what the criterion asks for: `>= 0.15`, `<= 2.5` or `0.1 … 0.9`."""
    if criterion.min is not None and criterion.max is not None:
        return f"{criterion.min:g} … {criterion.max:g}"
    if criterion.min is not None:
        return f">= {criterion.min:g}"
    return f"<= {criterion.max:g}"


def judge(criterion: ExitCriterion, metrics: Mapping[str, Metric]) -> CriterionVerdict:
    """Judge one criterion; a metric that is missing or not a number is not met, and says so."""
    metric = metrics.get(criterion.metric)
    if metric is None:
        return CriterionVerdict(
            metric=criterion.metric,
            met=False,
            wanted=wanted(criterion),
            message=f"the trainer reported no metric {criterion.metric!r}",
        )
    if not math.isfinite(metric.value):
        return CriterionVerdict(
            metric=criterion.metric,
            met=False,
            wanted=wanted(criterion),
            message=f"the trainer reported {metric.value}",
        )
    met = (criterion.min is None or metric.value >= criterion.min) and (
        criterion.max is None or metric.value <= criterion.max
    )
    return CriterionVerdict(
        metric=criterion.metric, met=met, observed=metric.value, wanted=wanted(criterion)
    )


def evaluate(
    criteria: Sequence[ExitCriterion], metrics: Sequence[Metric]
) -> tuple[CriterionVerdict, ...]:
    """Judge every criterion, in their order; with no criteria the verdict is empty (accepted)."""
    by_name = {m.name: m for m in metrics}
    return tuple(judge(c, by_name) for c in criteria)


def summary(verdicts: Sequence[CriterionVerdict]) -> str:
    """One sentence with every unmet criterion's number, or that all are met."""
    unmet = [v for v in verdicts if not v.met]
    if not unmet:
        return f"all {len(verdicts)} exit criteria met" if verdicts else "no exit criteria set"
    parts = (
        f"{v.metric} is {v.observed:.4g}, wanted {v.wanted}"
        if v.observed is not None
        else f"{v.metric}: {v.message}, wanted {v.wanted}"
        for v in unmet
    )
    return "; ".join(parts)
