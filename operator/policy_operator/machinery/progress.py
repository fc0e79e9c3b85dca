"""The newest progress that each training reported, until its reconcile writes it into the status.

Memory only: a report that is lost (a restart, a new leader) is followed by the next one.
"""

import math
from dataclasses import dataclass
from datetime import datetime

from policy_api.base import Metric
from policy_api.contract import bounds
from policy_api.contract.progress import ProgressReport

# Names under which trainers report their step; the first are those of transformers' callback.
_STEP = ("current_step", "global_step", "step")
_MAX_STEPS = ("total_steps", "max_steps")


@dataclass(frozen=True)
class ReportedProgress:
    """One progress report, in our words."""

    at: datetime
    percent: int | None = None
    step: int | None = None
    max_steps: int | None = None
    remaining_seconds: int | None = None
    metrics: tuple[Metric, ...] = ()


def _count(values: dict[str, float], names: tuple[str, ...]) -> int | None:
    return next((c for n in names if (c := bounds.count(values.get(n))) is not None), None)


def read(report: ProgressReport, now: datetime) -> ReportedProgress:
    """Translate a KEP-2779 report; what the API has no room for (NaN, a 65th) is left out."""
    status = report.trainer_status
    values = {
        m.name: m.value for m in status.metrics if bounds.is_name(m.name) and math.isfinite(m.value)
    }
    step = _count(values, _STEP)
    metrics = tuple(
        Metric(name=name, value=value, step=step)
        for name, value in values.items()
        if name not in (*_STEP, *_MAX_STEPS)
    )
    return ReportedProgress(
        at=now,
        percent=status.progress_percentage,
        step=step,
        max_steps=_count(values, _MAX_STEPS),
        remaining_seconds=status.estimated_remaining_seconds,
        metrics=metrics[: bounds.METRICS],
    )


class ProgressStore:
    """The newest report of each training, which its uid tells from an older one of its name."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], tuple[str, ReportedProgress]] = {}

    def put(self, namespace: str, name: str, uid: str, progress: ReportedProgress) -> None:
        """Keep a report instead of the one before."""
        self._newest[namespace, name] = (uid, progress)

    def get(self, namespace: str, name: str, uid: str) -> ReportedProgress | None:
        """Return the newest report of this very training, or None."""
        kept = self._newest.get((namespace, name))
        return kept[1] if kept is not None and kept[0] == uid else None

    def forget(self, namespace: str, name: str) -> None:
        """Drop what is kept of a training that has ended or is gone."""
        self._newest.pop((namespace, name), None)
