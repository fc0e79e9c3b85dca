"""Alertmanager's webhook payload, version 4."""

from datetime import datetime

from policy_api.keys import (
    ALERT_LABEL_ALERT,
    ALERT_LABEL_DEPLOYMENT,
    ALERT_LABEL_NAMESPACE,
    ALERT_LABEL_VERSION,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from policy_operator.monitoring.types import Signal

PAYLOAD_VERSION = "4"


class _Lenient(BaseModel):
    """Alertmanager's shapes belong to others: fields that we do not know are ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )


class WebhookAlert(_Lenient):
    """One alert of a notification."""

    status: str = Field(pattern="^(firing|resolved)$")
    labels: dict[str, str]
    annotations: dict[str, str] = Field(default_factory=dict)
    starts_at: datetime


class Webhook(_Lenient):
    """The body that Alertmanager posts."""

    version: str
    alerts: tuple[WebhookAlert, ...]


def to_signal(
    labels: dict[str, str], annotations: dict[str, str], *, firing: bool, since: datetime
) -> Signal:
    """Return the alert as decisions see it."""
    number = labels.get(ALERT_LABEL_VERSION)
    parts = (annotations.get("description"), annotations.get("summary"))
    return Signal(
        name=labels[ALERT_LABEL_ALERT],
        firing=firing,
        since=since,
        version=int(number) if number is not None and number.isdecimal() and int(number) else None,
        labelled=bool(number),
        message=next((p for p in parts if p), ""),
    )


def owner(labels: dict[str, str]) -> tuple[str, str] | None:
    """Return (namespace, name) of the deployment whose alert this is; None: not one of ours."""
    wanted = (ALERT_LABEL_NAMESPACE, ALERT_LABEL_DEPLOYMENT, ALERT_LABEL_ALERT)
    namespace, name, alert = (labels.get(key) for key in wanted)
    return (namespace, name) if namespace and name and alert else None


def parse(body: bytes) -> dict[tuple[str, str], tuple[Signal, ...]]:
    """Return the alerts of a webhook's body by (namespace, name) of their deployment.

    Alerts that carry none of our labels are left out: a receiver may be shared.

    Raises:
        ValueError: the body is no Alertmanager webhook; the sentence says what is wrong.
    """
    try:
        payload = Webhook.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"]) or "body"
        raise ValueError(f"not an Alertmanager webhook: {where}: {first['msg']}") from error
    if payload.version != PAYLOAD_VERSION:
        raise ValueError(f"Alertmanager webhook version {payload.version!r}, wanted '4'")
    found: dict[tuple[str, str], list[Signal]] = {}
    for alert in payload.alerts:
        key = owner(alert.labels)
        if key is not None:
            signal = to_signal(
                alert.labels,
                alert.annotations,
                firing=alert.status == "firing",
                since=alert.starts_at,
            )
            found.setdefault(key, []).append(signal)
    return {key: tuple(signals) for key, signals in found.items()}
