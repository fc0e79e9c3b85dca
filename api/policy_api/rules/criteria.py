"""Judge exit criteria against reported metrics: the same function in operator and trainer."""

import math
import re
from collections.abc import Mapping, Sequence

from policy_api.base import Metric
from policy_api.contract import bounds
from policy_api.contract.report import finite
from policy_api.v1alpha1.criteria import CriterionVerdict, ExitCriterion

CONFIDENCE = 0.95  # of an interval that does not say otherwise
BEST_BASELINE = "best-baseline"


def metric_name(criterion: ExitCriterion) -> str:
    """Return the name under which the trainer reports what the criterion judges.

    A difference to something has a name of its own: `nrr` against `best-baseline` is
    `nrr_vs_best_baseline`, against `version:3` it is `nrr_vs_version_3`.
    """
    return versus(criterion.metric, criterion.against) if criterion.against else criterion.metric


def versus(metric: str, against: str) -> str:
    """Return the name of the difference of a metric to a baseline or a version."""
    return f"{metric}_vs_{re.sub(r'[^a-z0-9]+', '_', against.lower())}"


def confidences(criteria: Sequence[ExitCriterion]) -> dict[str, float]:
    """Return the confidence that each judged metric's interval shall have, by its name."""
    return {metric_name(c): c.confidence for c in criteria}


def wanted(criterion: ExitCriterion) -> str:
    """Say in words what is asked for: `>= 0.15`, `0.1 … 0.9` or `>= 0.08, 95 % interval > 0`."""
    parts = []
    if criterion.min is not None and criterion.max is not None:
        parts.append(f"{criterion.min:g} … {criterion.max:g}")
    elif criterion.min is not None:
        parts.append(f">= {criterion.min:g}")
    elif criterion.max is not None:
        parts.append(f"<= {criterion.max:g}")
    ends = [
        f"{sign} {bound:g}"
        for sign, bound in ((">", criterion.lower_bound), ("<", criterion.upper_bound))
        if bound is not None
    ]
    if ends:
        parts.append(f"{100 * criterion.confidence:g} % interval {' and '.join(ends)}")
    return ", ".join(parts)


def _out_of_interval(criterion: ExitCriterion, metric: Metric) -> str | None:
    """Say why the metric's interval does not meet the criterion; None when it does."""
    if criterion.lower_bound is None and criterion.upper_bound is None:
        return None
    if metric.low is None or metric.high is None:
        return "the trainer reported no interval"
    found = metric.confidence if metric.confidence is not None else CONFIDENCE
    if not math.isclose(found, criterion.confidence):
        return f"the trainer reported a {100 * found:g} % interval"
    above = criterion.lower_bound is None or metric.low > criterion.lower_bound
    below = criterion.upper_bound is None or metric.high < criterion.upper_bound
    return None if above and below else f"the interval is {metric.low:.4g} … {metric.high:.4g}"


def judge(criterion: ExitCriterion, metrics: Mapping[str, Metric]) -> CriterionVerdict:
    """Judge one criterion; a metric that is missing or not a number is not met, and says so."""
    name = metric_name(criterion)
    verdict = CriterionVerdict(metric=name, met=False, wanted=wanted(criterion))
    metric = metrics.get(name)
    if metric is None:
        message = f"the trainer reported no metric {name!r}"
        return verdict.model_copy(update={"message": message})
    if not math.isfinite(metric.value):
        return verdict.model_copy(update={"message": f"the trainer reported {metric.value}"})
    inside = (criterion.min is None or metric.value >= criterion.min) and (
        criterion.max is None or metric.value <= criterion.max
    )
    why = _out_of_interval(criterion, metric)
    return verdict.model_copy(
        update={"met": inside and why is None, "observed": metric.value, "message": why or ""}
    )


def evaluate(
    criteria: Sequence[ExitCriterion], metrics: Sequence[Metric]
) -> tuple[CriterionVerdict, ...]:
    """Judge every criterion, in their order; with no criteria the verdict is empty (accepted)."""
    by_name = {m.name: m for m in metrics}
    return tuple(judge(c, by_name) for c in criteria)


def kept_metrics(
    criteria: Sequence[ExitCriterion], metrics: Sequence[Metric]
) -> tuple[Metric, ...]:
    """Return the metrics that the API keeps: finite ones, of too many those that are judged."""
    kept = finite(metrics)
    if len(kept) <= bounds.METRICS:
        return kept
    judged = {metric_name(c) for c in criteria}
    first = sorted(kept, key=lambda m: m.name not in judged)
    return tuple(first[: bounds.METRICS])


def listed(verdicts: Sequence[CriterionVerdict]) -> list[CriterionVerdict]:
    """Return the verdicts that a status lists: of two on one number, the one that is unmet.

    `loss_vs_version_1`, and `loss` against `version:1`, are the same number.
    """
    found: dict[str, CriterionVerdict] = {}
    for verdict in verdicts:
        other = found.get(verdict.metric)
        found[verdict.metric] = verdict if other is None or other.met else other
    return list(found.values())


def summary(verdicts: Sequence[CriterionVerdict]) -> str:
    """One sentence with every unmet criterion's number, or that all are met."""
    unmet = [v for v in verdicts if not v.met]
    if not unmet:
        return f"all {len(verdicts)} exit criteria met" if verdicts else "no exit criteria set"
    return "; ".join(map(_unmet, unmet))


def _unmet(verdict: CriterionVerdict) -> str:
    if verdict.observed is None:
        return f"{verdict.metric}: {verdict.message}, wanted {verdict.wanted}"
    why = f" ({verdict.message})" if verdict.message else ""
    return f"{verdict.metric} is {verdict.observed:.4g}{why}, wanted {verdict.wanted}"
