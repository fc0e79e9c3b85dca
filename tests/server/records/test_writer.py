"""The thread that writes the log, and a database that is away, slow, full, or not as expected."""

import sqlite3
import threading
import time
import uuid
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from policy_records import tables
from policy_records.database import connect, parse
from policy_records.entries import DecisionEntry, FeedbackEntry, Label, OutcomeEntry, Owner
from policy_records.ids import uuid7
from policy_records.schema import migrate
from policy_server.records import delivery, intake, writer
from policy_server.records.errors import ForeignDecisionError, LogFullError, RefusedEntryError
from policy_server.records.intake import Intake
from policy_server.records.metrics import LogMetrics
from policy_server.records.writer import LogSettings, LogWriter
from prometheus_client import CollectorRegistry

ME, OTHER = Owner("ml", "agents"), Owner("ml", "other")
DECIDED = {"policy": "agents", "version": "3", "role": "stable"}
SECONDS = 20


def now():
    return datetime.now(UTC)


def decision(**known):
    values = {"at": now(), "policy": "agents", "version": 3, "role": "stable", "mode": "Primary"}
    values |= {"source": "policy", "valid": True, "latency_ms": 1.5, "id": uuid7()}
    return DecisionEntry(**(values | known))


def outcome(of, **known):
    return OutcomeEntry(of.id if isinstance(of, DecisionEntry) else of, now(), **known)


def until(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


class Log:
    """A writer, what it counts, and what is in its database."""

    def __init__(self, url, folder: Path, owner=ME, **settings):
        self.registry = CollectorRegistry()
        metrics = LogMetrics(self.registry, "agents", 3)
        read = url if callable(url) else lambda: parse(url)
        told = LogSettings(read, owner, folder, **settings)
        self.writer = LogWriter(told, metrics, metrics.heard)
        self.writer.start()
        self.put, self.tell = self.writer.put, self.writer.tell

    def said(self, entry):
        return self.tell(entry).result(SECONDS)

    def sample(self, name, **labels):
        return self.registry.get_sample_value(name, DECIDED | labels)

    def own(self, name):
        return self.registry.get_sample_value(name, {"policy": "agents", "version": "3"})

    def rows(self, table=tables.decisions):
        with self.writer.engine.connect() as connection:
            return connection.execute(sa.select(table)).mappings().all()


@contextmanager
def log(url, folder, **settings):
    made = Log(url, folder, **settings)
    try:
        yield made
    finally:
        made.writer.close(5)


def test_decisions_arrive_and_what_came_of_them_counts_once(url, tmp_path):
    with log(url, tmp_path / "spool") as one:
        first = decision(state={"a": 1})
        one.put(first)
        for _ in range(3):
            one.said(outcome(first, reward=-2.0, success=True))
        one.said(outcome(first, reward=5.0, followed=False))  # a reward is counted once
        word = FeedbackEntry(
            uuid7(), now(), decision_id=first.id, label=Label.NEGATIVE, corrected_action="b"
        )
        one.said(word)
        one.said(word)
        (row,) = one.rows(tables.outcomes)
        assert (row["reward"], row["success"], row["followed"]) == (5.0, True, False)
        assert one.sample("policyops_rewards_total") == 1
        assert one.sample("policyops_reward_gained_total") == 0
        assert one.sample("policyops_reward_lost_total") == 2
        assert one.sample("policyops_reward_squares_total") == 4
        assert one.sample("policyops_outcomes_total", success="true") == 1
        assert one.sample("policyops_followed_total", followed="false") == 1
        assert one.sample("policyops_feedback_total", label="Negative") == 1
        assert one.sample("policyops_overrides_total") == 1
    assert [row["state"] for row in Log(url, tmp_path / "x").rows()] == [{"a": 1}]


def test_what_comes_before_its_decision_is_counted_when_that_is_there(url, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "SWEEP_SECONDS", 0.05)
    late = decision()
    with log(url, tmp_path / "spool") as one:
        one.said(outcome(late, reward=1.0))
        assert one.sample("policyops_rewards_total") == 0
        one.put(late)
        until(lambda: one.sample("policyops_rewards_total") == 1)


def test_another_policys_decision_is_refused(url, tmp_path):
    theirs = decision()
    with log(url, tmp_path / "theirs", owner=OTHER) as other:
        other.put(theirs)
        other.said(outcome(theirs, success=True))
    with log(url, tmp_path / "spool") as one, pytest.raises(ForeignDecisionError):
        one.said(outcome(theirs, reward=1.0))


def test_nothing_is_lost_while_the_database_is_away(pg, tmp_path):
    url = pg.database()
    with log(url, tmp_path / "spool") as one:
        before = decision()
        one.put(before)
        one.said(outcome(before, reward=1.0))
        pg.stop("immediate")
        try:
            while_away = [decision() for _ in range(50)]
            for entry in while_away:
                one.put(entry)
            one.said(outcome(while_away[0], reward=1.0, success=False))
            one.said(outcome(while_away[0], success=True))  # the later one wins
            until(lambda: one.own("policyops_decision_log_spool_bytes") > 0)
        finally:
            pg.start()
        until(lambda: len(one.rows()) == 51)
        until(lambda: one.sample("policyops_rewards_total") == 2)
        assert {row["id"] for row in one.rows()} == {e.id for e in (before, *while_away)}
        told = {row["decision_id"]: row for row in one.rows(tables.outcomes)}
        assert told[while_away[0].id]["success"] is True
        until(lambda: one.own("policyops_decision_log_spool_bytes") == 0)
        assert one.own("policyops_decision_log_dropped_total") == 0


def test_a_pod_that_starts_without_its_database_keeps_and_brings(pg, tmp_path):
    url = pg.database()
    pg.stop("immediate")
    try:
        with log(url, tmp_path / "spool") as one:
            first = decision()
            one.put(first)
            one.said(outcome(first, reward=1.0))
            one.writer.close(0.1)
        assert list((tmp_path / "spool").rglob("*.jsonl"))
    finally:
        pg.start()
    with log(url, tmp_path / "spool") as again:  # the container was restarted
        until(lambda: again.sample("policyops_rewards_total") == 1)
        assert [row["id"] for row in again.rows()] == [first.id]
        until(lambda: not list((tmp_path / "spool").rglob("*.jsonl")))


def test_at_the_end_what_waits_is_written(url, tmp_path):
    entries = [decision() for _ in range(2500)]
    with log(url, tmp_path / "spool") as one:
        for entry in entries:
            one.put(entry)
    with log(url, tmp_path / "spool") as again:
        assert len(again.rows()) == 2500
    with pytest.raises(LogFullError):
        one.tell(outcome(entries[0], reward=1.0))


def test_a_database_that_hangs_is_left_alone(pg, tmp_path, monkeypatch):
    monkeypatch.setattr("policy_records.database.STATEMENT_SECONDS", 1)
    url = pg.database()
    made = connect(parse(url))
    migrate(made)
    with log(url, tmp_path / "spool") as one, psycopg.connect(url) as blocker:
        blocker.execute("LOCK TABLE decisions IN ACCESS EXCLUSIVE MODE")
        first = decision()
        one.put(first)
        one.said(outcome(first, reward=1.0))  # acknowledged: it is on the disk
        blocker.rollback()
        until(lambda: one.sample("policyops_rewards_total") == 1)
    made.dispose()


def test_tables_that_are_gone_are_no_fault_of_the_entries(url, tmp_path):
    with log(url, tmp_path / "spool") as one:
        first = decision()
        one.put(first)
        one.said(outcome(first, reward=1.0))
        with one.writer.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE decisions RENAME TO hidden")
        second = decision()
        one.put(second)
        one.said(outcome(second, success=True))
        with one.writer.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE hidden RENAME TO decisions")
        until(lambda: one.sample("policyops_outcomes_total", success="true") == 1)
        assert {row["id"] for row in one.rows()} == {first.id, second.id}


def test_one_entry_that_is_no_good_costs_itself_alone(url, tmp_path, monkeypatch):
    real = delivery.write
    bad, good = decision(), [decision() for _ in range(20)]

    def picky(engine, owner, entries):
        if any(getattr(entry, "id", None) == bad.id for entry in entries):
            raise sa.exc.DataError("INSERT", {}, ValueError("no good"))
        return real(engine, owner, entries)

    monkeypatch.setattr(delivery, "write", picky)
    with log(url, tmp_path / "spool") as one:
        for entry in (*good[:7], bad, *good[7:]):
            one.put(entry)
        one.said(outcome(good[0], reward=1.0))
        until(lambda: len(one.rows()) == 20)
        assert one.own("policyops_decision_log_dropped_total") == 1
        with pytest.raises(RefusedEntryError):
            one.said(FeedbackEntry(bad.id, now(), decision_id=good[0].id, text="x"))


def test_a_password_that_was_changed_is_read_again(pg, tmp_path):
    good, bad = pg.database(), "postgresql://nobody@127.0.0.1:1/none"
    urls = [bad]
    with log(lambda: parse(urls[0]), tmp_path / "spool") as one:
        first = decision()
        one.put(first)
        one.said(outcome(first, reward=1.0))
        urls[0] = good
        until(lambda: one.sample("policyops_rewards_total") == 1)


def test_two_pods_write_one_file(tmp_path):
    """SQLite: more than one process is not meant to, and nothing is lost when they do."""
    url = str(tmp_path / "log.sqlite3")
    with log(url, tmp_path / "a") as one, log(url, tmp_path / "b") as two:
        entries = [decision() for _ in range(400)]
        waiting = []
        for index, entry in enumerate(entries):
            pod = (one, two)[index % 2]
            pod.put(entry)
            if index % 10 == 0:
                waiting.append(pod.tell(outcome(entry, reward=1.0)))
        for future in waiting:
            future.result(SECONDS)
        until(lambda: len(one.rows()) == 400)
        until(lambda: sum(pod.sample("policyops_rewards_total") for pod in (one, two)) == 40)


def test_a_file_that_another_process_holds_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("policy_records.database.BUSY_SECONDS", 0.2)
    path = tmp_path / "log.sqlite3"
    with log(str(path), tmp_path / "spool") as one:
        first = decision()
        one.put(first)
        one.said(outcome(first, reward=1.0))
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        second = decision()
        one.put(second)
        one.said(outcome(second, success=True))
        holder.execute("ROLLBACK")
        holder.close()
        until(lambda: one.sample("policyops_outcomes_total", success="true") == 1)


def test_a_full_disk_refuses_what_would_be_lost_and_tells_of_decisions(tmp_path, monkeypatch):
    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    with log("postgresql://nobody@127.0.0.1:1/none", tmp_path / "spool") as one:
        monkeypatch.setattr("policy_server.records.spool.Spool.append", full)
        first = decision()
        one.put(first)
        with pytest.raises(LogFullError):
            one.said(outcome(first, reward=1.0))
        until(lambda: one.own("policyops_decision_log_dropped_total") == 1)


def test_a_fault_of_ours_ends_neither_the_thread_nor_a_wait(tmp_path, monkeypatch):
    url = str(tmp_path / "log.sqlite3")
    with log(url, tmp_path / "spool") as one:
        broken = pytest.MonkeyPatch()
        broken.setattr(one.writer, "_keep", lambda _: 1 / 0)
        with pytest.raises(LogFullError):
            one.said(outcome(decision(), reward=1.0))
        broken.undo()
        one.said(outcome(decision(), reward=1.0))


def test_old_decisions_are_deleted(url, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "RETENTION_SECONDS", 0.05)
    monkeypatch.setattr(writer, "SWEEP_SECONDS", 0.05)
    with log(url, tmp_path / "spool", retention_days=30) as one:
        old, young = decision(at=now() - timedelta(days=31)), decision()
        one.put(old)
        one.put(young)
        one.said(outcome(young, reward=1.0))
        until(lambda: [row["id"] for row in one.rows()] == [young.id])


def test_of_too_many_decisions_the_oldest_go(monkeypatch):
    monkeypatch.setattr(intake, "DECISIONS", 5)
    lost = []
    queue = Intake(lost.append)
    entries = [decision() for _ in range(8)]
    for entry in entries:
        queue.put(entry)
    assert sum(lost) == 3
    assert queue.take(0).decisions == entries[3:]


def test_of_too_many_outcomes_the_new_are_refused(monkeypatch):
    monkeypatch.setattr(intake, "TOLD", 2)
    queue = Intake(lambda _: None)
    assert isinstance(queue.tell(outcome(uuid.uuid4(), reward=1.0)), Future)
    queue.tell(outcome(uuid.uuid4(), reward=1.0))
    with pytest.raises(LogFullError):
        queue.tell(outcome(uuid.uuid4(), reward=1.0))


def test_what_somebody_waits_for_does_not_wait_for_company(monkeypatch):
    monkeypatch.setattr(intake, "BATCH_SECONDS", 600)
    queue = Intake(lambda _: None)
    found = []
    taking = threading.Thread(target=lambda: found.append(queue.take(600)))
    taking.start()
    queue.put(decision())
    queue.tell(outcome(uuid.uuid4(), reward=1.0))
    taking.join(SECONDS)
    assert not taking.is_alive()
    assert sum(len(batch.decisions) for batch in found) <= 1
