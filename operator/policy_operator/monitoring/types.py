"""What is known of alerts and of Prometheus."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Signal:
    """An alert of this deployment, by webhook or poll."""

    name: str
    firing: bool
    since: datetime
    version: int | None = None
    """The version that its label names."""
    labelled: bool = False
    """Whether it has a label `version`: with one that is no number of ours it is about nothing."""
    message: str = ""
    """What the alert says of itself, with its numbers."""


@dataclass(frozen=True)
class Monitoring:
    """What Prometheus said when it was last asked."""

    available: bool
    reason: str
    message: str = ""
    rules: str | None = None
    """Checksum of our rule group as Prometheus has it loaded."""
    rules_error: str = ""
    """Why Prometheus can't evaluate a rule of it, if so."""
    asked_at: datetime | None = None
    """When it last answered about alerts."""
    signals: tuple[Signal, ...] = ()
