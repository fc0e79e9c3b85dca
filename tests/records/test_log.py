"""The decision log on both databases: each thing once, counted once, found and deleted."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from policy_records import reading, retention, tables
from policy_records.database import DatabaseURLInvalidError, connect, parse
from policy_records.entries import DecisionEntry, FeedbackEntry, Label, OutcomeEntry, Owner
from policy_records.ids import uuid7
from policy_records.redaction import PointerInvalidError, Redactor
from policy_records.schema import Schema, migrate
from policy_records.writing import count_late, write

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ME, OTHER = Owner("ml", "agents"), Owner("ml", "other")


def decision(**known):
    values = {"at": NOW, "policy": "agents", "version": 3, "role": "stable", "mode": "Primary"}
    values |= {"source": "policy", "valid": True, "latency_ms": 1.5, "id": uuid7()}
    return DecisionEntry(**(values | known))


def rows(engine, table):
    with engine.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def test_the_migrations_make_the_tables_that_are_written(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, tables.metadata) == []


def test_many_that_start_at_once_migrate_once(url):
    engines = [connect(parse(url)) for _ in range(4)]
    found = []
    threads = [
        threading.Thread(target=lambda one=one: found.append(migrate(one))) for one in engines
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [Schema.CURRENT] * 3 + [Schema.MIGRATED]
    for one in engines:
        one.dispose()


def test_a_newer_schema_is_left_as_it_is_and_written_to(engine):
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        connection.exec_driver_sql("ALTER TABLE decisions ADD COLUMN later TEXT")
    assert migrate(engine) is Schema.NEWER
    write(engine, ME, [decision()])
    assert rows(engine, tables.decisions) == 1


def test_a_decision_is_kept_once_with_all_that_it_says(engine):
    said = decision(
        state={"a": "x\0y", "b": [1, 2.5, float("nan")], "c": "\ud800"},
        ranking=[{"action": "x", "score": 0.25}],
        action="x",
        run_id="r1",
        propensity=0.75,
        auto_approved=False,
    )
    write(engine, ME, [said])
    write(engine, ME, [said, decision()])
    found = reading.find(engine, ME, said.id)
    assert found["at"] == NOW
    assert found["state"] == {"a": "x\N{REPLACEMENT CHARACTER}y", "b": [1, 2.5, "nan"], "c": "?"}
    assert found["ranking"] == [{"action": "x", "score": 0.25}]
    assert (found["propensity"], found["auto_approved"]) == (0.75, False)
    assert rows(engine, tables.decisions) == 2
    assert reading.find(engine, OTHER, said.id) is None


def test_an_outcome_comes_in_parts_and_each_is_news_once(engine):
    made = decision(action="x")
    write(engine, ME, [made])
    parts = [
        OutcomeEntry(made.id, NOW, reward=1.0),
        OutcomeEntry(made.id, NOW, reward=1.0),
        OutcomeEntry(made.id, NOW, reward=2.0, success=True),
    ]
    news = [write(engine, ME, [part]).news[0] for part in parts]
    assert [(one.reward, one.success) for one in news] == [(1.0, None), (None, None), (None, True)]
    assert {one.version for one in news} == {3}
    outcome = reading.find(engine, ME, made.id)["outcome"]
    assert (outcome["reward"], outcome["success"]) == (2.0, True)


def test_what_comes_before_its_decision_is_counted_when_that_is_there_and_once(engine):
    made = decision(action="x")
    early = [
        OutcomeEntry(made.id, NOW, followed=False),
        FeedbackEntry(uuid7(), NOW, made.id, label=Label.NEGATIVE, corrected_action="y"),
    ]
    assert write(engine, ME, early).news == []
    assert count_late(engine, ME).news == []
    write(engine, ME, [made])
    followed, label = count_late(engine, ME).news
    assert (followed.followed, label.label, label.overridden) == (False, Label.NEGATIVE, True)
    assert count_late(engine, ME).news == []


def test_another_policys_decision_takes_no_word(engine):
    made = decision()
    write(engine, ME, [made])
    told = [OutcomeEntry(made.id, NOW, reward=1.0), FeedbackEntry(uuid7(), NOW, made.id)]
    written = write(engine, OTHER, told)
    assert (written.foreign, written.news) == ({made.id}, [])
    assert rows(engine, tables.outcomes) == rows(engine, tables.feedback) == 0


def test_a_word_said_a_hundred_times_is_one_and_one_on_a_run_is_about_its_last_decision(engine):
    first, last = decision(run_id="r"), decision(run_id="r", version=4, at=NOW + timedelta(1))
    write(engine, ME, [first, last])
    said = FeedbackEntry(uuid7(), NOW, run_id="r", text="good", label=Label.POSITIVE)
    news = [one for _ in range(100) for one in write(engine, ME, [said]).news]
    assert [(one.version, one.label) for one in news] == [(4, Label.POSITIVE)]
    assert rows(engine, tables.feedback) == 1
    assert [row["decision_version"] for row in reading.words(engine, ME)] == [3, 4]


def test_two_writers_at_once_bring_each_part_once(url, engine):
    made = decision()
    write(engine, ME, [made])
    news = []

    def tell():
        mine = connect(parse(url))
        news.extend(write(mine, ME, [OutcomeEntry(made.id, NOW, reward=1.0)]).news)
        mine.dispose()

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.reward for one in news].count(1.0) == 1


def test_all_are_read_in_order_counted_by_version_and_deleted_by_age(engine):
    made = [decision(at=NOW + timedelta(hours=hour), version=1 + hour % 2) for hour in range(10)]
    write(engine, ME, list(reversed(made)))
    write(engine, OTHER, [decision()])
    write(engine, ME, [OutcomeEntry(made[0].id, NOW, reward=1.0)])
    every = list(reading.every(engine, ME))
    assert [row["id"] for row in every] == [one.id for one in made]
    assert [row["reward"] for row in every] == [1.0] + [None] * 9
    assert reading.counts(engine, ME, NOW, NOW + timedelta(hours=5)) == {1: 3, 2: 2}
    assert retention.delete_before(engine, ME, NOW + timedelta(hours=4)) == 5
    assert retention.delete_before(engine, ME, NOW + timedelta(hours=4)) == 0
    assert (rows(engine, tables.decisions), rows(engine, tables.outcomes)) == (7, 0)
    assert reading.latest(engine, ME, 1)[0]["id"] == made[-1].id


@pytest.mark.parametrize("url", ["mysql://user:secret@host/x", "://secret"])
def test_another_database_is_refused_without_quoting_a_password(url):
    with pytest.raises(DatabaseURLInvalidError) as raised:
        parse(url)
    assert "secret" not in str(raised.value)


def test_what_must_not_be_kept_is_a_keyed_hash():
    redactor = Redactor(["/state/name", "/context/*/mail"], b"key")
    state = redactor.apply("state", {"name": "Ada", "age": 36})
    assert state["age"] == 36
    assert state["name"].startswith("redacted:")
    assert redactor.apply("state", {"name": "Ada"})["name"] == state["name"]
    assert Redactor(["/state/name"], b"other").apply("state", {"name": "Ada"}) != state
    assert "@" not in str(redactor.apply("context", [{"mail": "a@b"}, {"mail": "c@d"}]))
    assert redactor.apply("state", {"name": None}) == {"name": None}
    with pytest.raises(PointerInvalidError, match="/state"):
        Redactor(["name"], b"")
