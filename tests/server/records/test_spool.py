"""Entries on the disk while the database is away: in order, whole, bounded, durable."""

import os
from datetime import UTC, datetime

import pytest
from policy_records.entries import DecisionEntry, FeedbackEntry, Label, OutcomeEntry
from policy_records.ids import uuid7
from policy_server.records import spool as module
from policy_server.records.spool import Spool, SpoolFullError

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def decision(**known):
    values = {"at": NOW, "policy": "agents", "version": 3, "role": "stable", "mode": "Primary"}
    values |= {"source": "policy", "valid": True, "latency_ms": 1.5, "id": uuid7()}
    return DecisionEntry(**(values | known))


def drain(spool):
    found = []
    while (oldest := spool.oldest()) is not None:
        found += oldest[1]
        spool.remove(oldest[0])
    return found


def test_what_goes_in_comes_out_in_order_also_in_another_process(tmp_path):
    entries = [
        decision(state={"a": [1, None, "é"]}, unseen=["x"], propensity=0.5),
        OutcomeEntry(uuid7(), NOW, reward=-1.0, success=False, next_state={"b": 2}, done=True),
        FeedbackEntry(uuid7(), NOW, run_id="r", text="no", tags=("neg", "x"), label=Label.NEGATIVE),
    ]
    Spool(tmp_path, 1 << 20, drops_oldest=True).append(entries[:2], durable=True)
    again = Spool(tmp_path, 1 << 20, drops_oldest=True)
    again.append(entries[2:], durable=False)
    assert again
    assert drain(again) == entries
    assert not again
    assert again.bytes == 0
    assert list(tmp_path.iterdir()) == []


def test_a_torn_line_costs_itself_alone(tmp_path):
    first, second = decision(), decision()
    spool = Spool(tmp_path, 1 << 20, drops_oldest=True)
    spool.append([first], durable=True)
    (segment,) = tmp_path.iterdir()
    with segment.open("ab") as file:
        file.write(b'{"kind": "decision", "id": "0')
    again = Spool(tmp_path, 1 << 20, drops_oldest=True)
    again.append([second], durable=True)  # not behind the torn line
    assert drain(again) == [first, second]


def test_of_decisions_the_oldest_go_and_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SEGMENT_BYTES", 400)  # two decisions
    spool = Spool(tmp_path, 1500, drops_oldest=True)
    entries = [decision() for _ in range(12)]
    dropped = sum(spool.append([entry], durable=False) for entry in entries)
    assert spool.bytes <= 1500
    assert 0 < dropped < 12
    assert drain(spool) == entries[dropped:]


def test_of_what_must_not_be_lost_the_new_is_refused(tmp_path):
    spool = Spool(tmp_path, 400, drops_oldest=False)
    first = OutcomeEntry(uuid7(), NOW, reward=1.0)
    spool.append([first], durable=True)
    with pytest.raises(SpoolFullError):
        spool.append([OutcomeEntry(uuid7(), NOW, next_state={"a": "b" * 400})], durable=True)
    assert drain(spool) == [first]


def test_what_the_disk_does_not_take_leaves_no_half_of_it(tmp_path, monkeypatch):
    spool = Spool(tmp_path, 1 << 20, drops_oldest=False)
    first, second, third = (OutcomeEntry(uuid7(), NOW, reward=r) for r in (1.0, 2.0, 3.0))
    spool.append([first], durable=True)
    real = os.fsync

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        spool.append([second], durable=True)
    monkeypatch.setattr(os, "fsync", real)
    spool.append([third], durable=True)
    assert drain(spool) == [first, third]


def test_what_is_written_is_for_the_server_alone(tmp_path):
    Spool(tmp_path, 1 << 20, drops_oldest=True).append([decision(prompt="secret")], durable=True)
    (segment,) = tmp_path.iterdir()
    assert segment.stat().st_mode & 0o077 == 0
