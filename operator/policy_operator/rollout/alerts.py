"""What is known of each alert: from the status, from Prometheus, from the webhook. Pure."""

from collections.abc import Iterable, Sequence

from policy_api.v1alpha1.deployment import AlertStatus

from policy_operator.monitoring.types import Monitoring, Signal


def _key(alert: AlertStatus) -> tuple[str, int]:
    return alert.name, alert.version or 0


def merge(
    known: Sequence[AlertStatus],
    names: Iterable[str],
    monitoring: Monitoring,
    delivered: Sequence[Signal],
) -> tuple[AlertStatus, ...]:
    """Return the alerts as last heard of, in the order of name and version.

    Args:
        known: From the status.
        names: Alerts that the spec has; others are forgotten.
        monitoring: What Prometheus last said: it knows all that fire, so a known one that is
            older than its answer and not in it has ended (the webhook's word got lost).
        delivered: What the webhook brings now; it wins.
    """
    wanted = set(names)
    found = {_key(a): a for a in known}
    polled = {(s.name, s.version or 0) for s in monitoring.signals if s.firing}
    for key, alert in list(found.items()):
        asked = monitoring.asked_at
        heard = alert.state != "Firing" or asked is None or alert.since >= asked
        if not heard and key not in polled:
            found[key] = alert.model_copy(update={"state": "Resolved"})
    for signal in (*monitoring.signals, *delivered):
        if signal.labelled and signal.version is None:
            continue  # about a version that is no number: none of ours
        old = found.get((signal.name, signal.version or 0))
        if not signal.firing and (old is None or old.since > signal.since):
            continue  # the end of an episode that is not the latest
        if signal.firing and old is not None and old.state == "Firing":
            continue  # known; the first start that was heard of stays, so nothing is written
        found[signal.name, signal.version or 0] = AlertStatus(
            name=signal.name,
            state="Firing" if signal.firing else "Resolved",
            version=signal.version,
            since=signal.since.replace(microsecond=0),
        )
    return tuple(found[key] for key in sorted(found) if key[0] in wanted)
