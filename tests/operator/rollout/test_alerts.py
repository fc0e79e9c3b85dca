"""Alertmanager's webhook, and what is known of an alert at any time."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_api.v1alpha1.deployment import AlertStatus
from policy_operator.monitoring.alerts import parse
from policy_operator.monitoring.types import Monitoring, Signal
from policy_operator.rollout.alerts import merge

PAYLOADS = Path(__file__).parent / "payloads"
NOW = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
NAMES = ["HighErrorRate", "Slow"]


def test_alerts_are_sorted_by_deployment_and_others_are_left_out():
    found = parse((PAYLOADS / "resolved-and-foreign.json").read_bytes())
    assert set(found) == {("ml", "review-forge"), ("shop", "other")}
    slow, complaints = found["ml", "review-forge"]
    assert slow == Signal(
        name="Slow",
        firing=False,
        since=datetime(2026, 1, 1, 0, 0, 1, 372000, tzinfo=UTC),
        version=2,
        labelled=True,
        message="Slow: review-forge in ml",
    )
    assert complaints.since == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert (complaints.version, complaints.labelled) == (None, False)
    (other,) = found["shop", "other"]
    assert (other.version, other.message, other.firing) == (11, "all of it", True)


def payload(**update: Any) -> bytes:
    return json.dumps({**json.loads((PAYLOADS / "firing.json").read_text()), **update}).encode()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "Invalid JSON"),
        (b"[]", "body: "),
        (b"{}", "version: Field required"),
        (payload(alerts=[{"status": "firing"}]), "alerts.0.labels: Field required"),
        (payload(alerts="x"), "alerts: "),
        (payload(version="3"), "version '3', wanted '4'"),
        (b"\xff\xfe", "Invalid JSON"),
    ],
)
def test_a_body_that_is_no_webhook_says_what_is_wrong(body: bytes, sentence: str):
    with pytest.raises(ValueError, match="Alertmanager webhook") as caught:
        parse(body)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("label", ["0", "-1", "1.5", "x", "²", "latest"])
def test_a_label_that_is_no_number_names_no_version(label: str):
    body = json.loads(payload())
    body["alerts"][0]["labels"]["version"] = label
    ((signal,),) = parse(json.dumps(body).encode()).values()
    assert (signal.version, signal.labelled) == (None, True)


def status(state: Literal["Firing", "Resolved"], ago: int = 30) -> AlertStatus:
    since = NOW - timedelta(seconds=ago)
    return AlertStatus(name="HighErrorRate", state=state, version=2, since=since)


def signal(*, firing: bool = True, ago: float = 30) -> Signal:
    return Signal("HighErrorRate", firing, NOW - timedelta(seconds=ago), 2, labelled=True)


def asked(*signals: Signal, ago: float = 5) -> Monitoring:
    at = NOW - timedelta(seconds=ago)
    return Monitoring(True, "Reachable", asked_at=at, signals=signals)


UNASKED = Monitoring(False, "PrometheusUnreachable")


@pytest.mark.parametrize(
    ("known", "monitoring", "delivered", "state"),
    [
        ((), UNASKED, (), None),
        ((), UNASKED, (signal(),), "Firing"),
        ((), asked(signal()), (), "Firing"),
        ((), UNASKED, (signal(firing=False),), None),
        ((status("Firing"),), UNASKED, (), "Firing"),
        ((status("Firing"),), UNASKED, (signal(firing=False),), "Resolved"),
        ((status("Firing"),), asked(), (), "Resolved"),
        ((status("Firing", ago=3),), asked(), (), "Firing"),
        ((status("Firing"),), asked(signal()), (), "Firing"),
        ((status("Firing", ago=3),), UNASKED, (signal(firing=False, ago=20),), "Firing"),
        ((status("Resolved"),), UNASKED, (signal(ago=1),), "Firing"),
        ((status("Resolved"),), asked(signal(ago=7)), (), "Firing"),
    ],
    ids=[
        "silence",
        "the webhook tells",
        "only the poll tells",
        "an end without a beginning",
        "nothing new",
        "the webhook tells the end",
        "the poll knows of none",
        "the poll is older than the alert",
        "still firing",
        "the end of an older episode",
        "a new episode",
        "a new episode by the poll",
    ],
)
def test_what_is_known_of_an_alert(
    known: tuple[AlertStatus, ...],
    monitoring: Monitoring,
    delivered: tuple[Signal, ...],
    state: str | None,
):
    found = merge(known, NAMES, monitoring, delivered)
    assert [a.state for a in found] == ([state] if state else [])


def test_an_alert_that_left_the_spec_is_forgotten():
    assert merge((status("Firing"),), ["Slow"], UNASKED, (signal(),)) == ()


SIGNALS = st.builds(
    Signal,
    name=st.sampled_from([*NAMES, "Other"]),
    firing=st.booleans(),
    since=st.integers(-100, 0).map(lambda s: NOW + timedelta(seconds=s)),
    version=st.sampled_from([None, 1, 2]),
    labelled=st.just(False),
)


@given(st.lists(SIGNALS, max_size=6), st.lists(SIGNALS, max_size=6))
def test_delivered_again_nothing_changes(delivered: list[Signal], polled: list[Signal]):
    monitoring = asked(*(s for s in polled if s.firing))
    once = merge((), NAMES, monitoring, delivered)
    assert {a.name for a in once} <= set(NAMES)
    assert len({(a.name, a.version) for a in once}) == len(once)
    if all(s.firing for s in delivered):
        # at least once: also after the first word of it was written down
        again = merge(once, NAMES, Monitoring(True, "x"), delivered)
        assert {(a.name, a.version, a.state) for a in again} == {
            (a.name, a.version, a.state) for a in once
        }
