"""set_condition follows meta.SetStatusCondition: the transition time moves with the status only."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from policy_api.base import Condition
from policy_api.rules.conditions import Status, get_condition, is_true, set_condition

T0 = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

kinds = st.sampled_from(["Ready", "Running", "Succeeded"])
statuses: st.SearchStrategy[Status] = st.sampled_from(["True", "False", "Unknown"])
times = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
writes = st.tuples(kinds, statuses, st.sampled_from(["A", "B"]), times)


def test_a_new_condition_is_appended_with_whole_seconds() -> None:
    (condition,) = set_condition((), "Ready", "Unknown", "Pending", "soon", now=T0, generation=3)
    assert condition.to_wire() == {
        "type": "Ready",
        "status": "Unknown",
        "observedGeneration": 3,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
        "reason": "Pending",
        "message": "soon",
    }


def test_the_transition_time_moves_with_the_status_only() -> None:
    first = set_condition((), "Ready", "False", "Starting", now=T0)
    later = T0 + timedelta(hours=1)
    same = set_condition(first, "Ready", "False", "StillStarting", "…", now=later, generation=2)
    assert same[0].last_transition_time == T0.replace(microsecond=0)
    assert same[0].reason == "StillStarting"
    assert same[0].observed_generation == 2
    flipped = set_condition(same, "Ready", "True", "Started", now=later)
    assert flipped[0].last_transition_time == later.replace(microsecond=0)


def test_lookups() -> None:
    conditions = set_condition((), "Ready", "True", "Started", now=T0)
    assert is_true(conditions, "Ready")
    assert not is_true(conditions, "Absent")
    assert get_condition(conditions, "Absent") is None
    assert not is_true(set_condition(conditions, "Ready", "Unknown", "Lost", now=T0), "Ready")


@given(st.lists(writes, max_size=8), writes)
def test_writing_the_same_verdict_twice_changes_nothing(
    history: list[tuple[str, Status, str, datetime]], last: tuple[str, Status, str, datetime]
) -> None:
    conditions: tuple[Condition, ...] = ()
    for kind, status, reason, now in history:
        conditions = set_condition(conditions, kind, status, reason, now=now)
    kind, status, reason, now = last
    once = set_condition(conditions, kind, status, reason, now=now)
    again = set_condition(once, kind, status, reason, now=now + timedelta(days=1))
    assert once == again
    types = [c.type for c in once]
    assert len(types) == len(set(types))
    assert types[: len(conditions)] == [c.type for c in conditions]
    untouched = [c for c in conditions if c.type != kind]
    assert [c for c in once if c.type != kind] == untouched
