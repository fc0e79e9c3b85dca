"""The thread that writes the log: to the database, or to the pod's disk while that is away.

What is told (outcomes, feedback) is acknowledged only once it is committed or on the disk.
Decisions are kept as well as can be: nobody waits for them, so the oldest go when neither takes
them.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from policy_records import retention
from policy_records.database import connect
from policy_records.entries import DecisionEntry, News, Owner, Told
from policy_records.schema import Schema, migrate
from policy_records.writing import SWEEP, count_late

from policy_server.records.delivery import Delivery
from policy_server.records.errors import LogFullError
from policy_server.records.faults import AwayError, sentence
from policy_server.records.intake import Batch, Intake, Pending
from policy_server.records.metrics import LogMetrics
from policy_server.records.spool import Spool, SpoolFullError

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 10.0
SWEEP_SECONDS = 10.0
RETENTION_SECONDS = 600.0


@dataclass(frozen=True)
class LogSettings:
    """Where the log is kept, and how."""

    read_url: Callable[[], sa.URL]
    """Asked again while the database is away: a password may have been changed.

    It may raise OSError or DatabaseURLInvalidError.
    """
    owner: Owner
    spool_folder: Path
    spool_bytes: int = 256 << 20
    """On the pod's disk, for decisions; outcomes and feedback may have a quarter of it more."""
    retention_days: int | None = None


class LogWriter:
    """Keeps a log; `put` and `tell` may be called from any thread."""

    def __init__(
        self, settings: LogSettings, metrics: LogMetrics, heard: Callable[[News], None]
    ) -> None:
        """Open the spool; nothing is connected before `start`.

        Args:
            settings: See there.
            metrics: Of the log itself.
            heard: Counts what came of decisions, each once; called in the log's thread.

        Raises:
            OSError: The spool's folder can't be used, or the URL can't be read.
            DatabaseURLInvalidError: It is none.
        """
        self._url = settings.read_url()
        self.engine = connect(self._url)
        self.owner = settings.owner
        self._settings, self._metrics = settings, metrics
        self._delivery = Delivery(settings.owner, metrics, heard)
        self._intake = Intake(metrics.dropped)
        folder, limit = settings.spool_folder, settings.spool_bytes
        self._decisions = Spool(folder / "decisions", limit, drops_oldest=True)
        self._told = Spool(folder / "told", limit // 4, drops_oldest=False)
        self._ready = False
        """Whether the tables are there."""
        self._away = False
        self._wait = FIRST_RETRY_SECONDS
        self._retry_at = 0.0
        self._sweep_at = self._clean_at = time.monotonic()
        self._end_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, entry: DecisionEntry) -> None:
        """Keep a decision; it never waits."""
        self._intake.put(entry)

    def tell(self, entry: Told) -> Future[None]:
        """Keep an outcome or feedback; the future is done when it can't be lost any more.

        Its exception is a ForeignDecisionError, RefusedEntryError or LogFullError.

        Raises:
            LogFullError: Too many wait.
        """
        return self._intake.tell(entry)

    def close(self, seconds: float) -> None:
        """Write what waits, for so many seconds at most; what is left then is on the disk."""
        self._end_at = time.monotonic() + seconds
        self._intake.close()
        self._thread.join(seconds + LAST_RETRY_SECONDS)
        self.engine.dispose()

    def _run(self) -> None:
        while not (self._intake.closed and not len(self._intake)):
            try:
                self._turn(self._intake.take(self._pause()))
            except Exception:  # a fault of ours: the thread must go on
                log.exception("the decision log failed at a batch")
            self._metrics.state(len(self._intake), self._decisions.bytes + self._told.bytes)
        self._finish()

    def _finish(self) -> None:
        """Bring what is on the disk to the database, as long as there is time."""
        while self._spooled and self._end_at is not None and time.monotonic() < self._end_at:
            self._retry_at = 0.0
            self._replay()
            if self._away:
                time.sleep(min(FIRST_RETRY_SECONDS, max(0.0, self._end_at - time.monotonic())))
        if self._spooled:
            size = self._decisions.bytes + self._told.bytes
            log.warning("%d bytes of the decision log stay on this pod's disk", size)

    def _pause(self) -> float:
        """Return how long there is nothing to do, unless something comes."""
        if not self._away and self._spooled:
            return 0.0
        due = self._retry_at if self._away else min(self._sweep_at, self._clean_at)
        return min(max(0.0, due - time.monotonic()), LAST_RETRY_SECONDS)

    @property
    def _spooled(self) -> bool:
        return bool(self._decisions or self._told)

    def _turn(self, batch: Batch) -> None:
        try:
            if batch:
                self._keep(batch)
            self._replay()
            self._maintain()
        finally:
            for pending in batch.told:  # nobody waits for ever
                if not pending.kept.done():
                    pending.kept.set_exception(LogFullError())

    def _keep(self, batch: Batch) -> None:
        told = list(batch.told)
        if self._told:  # after what came before: a later value of an outcome wins
            self._spool_told(told)
            told = []
        try:
            self._prepare()
            self._delivery.write(self.engine, batch.decisions, told)
        except AwayError as error:
            self._gone(error)
            self._spool_decisions(batch.decisions)
            self._spool_told([one for one in told if not one.kept.done()])

    def _prepare(self) -> None:
        """Make or upgrade the tables, once.

        Raises:
            AwayError: It is too early to try again, or the database can't be reached, or does not
                let us.
        """
        if time.monotonic() < self._retry_at:
            raise AwayError
        try:
            if self._away:
                self._connect()
            if self._ready:
                return
            found = migrate(self.engine)
        except Exception as error:
            raise AwayError(sentence(error)) from error
        if found is Schema.NEWER:
            log.warning("the decision log's tables are newer than this program, which writes on")
        elif found is Schema.MIGRATED:
            log.info("the decision log's tables were made or upgraded")
        self._ready = True

    def _connect(self) -> None:
        """Use the URL that holds now."""
        url = self._settings.read_url()
        if url != self._url:
            self.engine.dispose()
            self._url, self.engine = url, connect(url)

    def _gone(self, error: AwayError) -> None:
        if time.monotonic() < self._retry_at:
            return
        if not self._away:
            log.error("the decision log can't be written: %s; it waits on this pod's disk", error)
        self._away = True
        self._retry_at = time.monotonic() + self._wait * random.uniform(0.75, 1.25)  # noqa: S311
        self._wait = min(2 * self._wait, LAST_RETRY_SECONDS)

    def _back(self) -> None:
        if self._away:
            log.warning("the decision log is written again")
        self._away = False
        self._wait, self._retry_at = FIRST_RETRY_SECONDS, 0.0

    def _spool_decisions(self, decisions: Sequence[DecisionEntry]) -> None:
        if not decisions:
            return
        try:
            gone = self._decisions.append(decisions, durable=self._intake.closed)
        except (OSError, SpoolFullError) as error:
            log.error("%d decisions are lost: %s", len(decisions), sentence(error))  # noqa: TRY400
            gone = len(decisions)
        if gone:
            self._metrics.dropped(gone)

    def _spool_told(self, told: Sequence[Pending]) -> None:
        if not told:
            return
        try:
            self._told.append([one.entry for one in told], durable=True)
        except (OSError, SpoolFullError) as error:
            log.error("%d outcomes or words are refused: %s", len(told), sentence(error))  # noqa: TRY400
            for one in told:
                one.kept.set_exception(LogFullError())
            return
        for one in told:
            one.kept.set_result(None)

    def _replay(self) -> None:
        """Write the oldest of what is on the disk: some of it, so that what comes is not kept."""
        if not self._spooled and not self._away:
            return
        if time.monotonic() < self._retry_at:
            return
        try:
            self._prepare()
            for spool in (self._decisions, self._told):
                self._replay_one(spool)
            if not self._spooled:
                self._reach()
        except AwayError as error:
            self._gone(error)
        else:
            self._back()

    def _replay_one(self, spool: Spool) -> None:
        found = spool.oldest()
        if found is None:
            return
        segment, entries = found
        decisions = [entry for entry in entries if isinstance(entry, DecisionEntry)]
        told = [Pending(entry) for entry in entries if not isinstance(entry, DecisionEntry)]
        self._delivery.write(self.engine, decisions, told)
        spool.remove(segment)

    def _reach(self) -> None:
        try:
            with self.engine.connect() as connection:
                connection.execute(sa.select(1))
        except Exception as error:
            raise AwayError(sentence(error)) from error

    def _maintain(self) -> None:
        """Count what came before its decision, and delete what is too old."""
        now = time.monotonic()
        if self._away or self._intake.closed or now < min(self._sweep_at, self._clean_at):
            return
        try:
            self._prepare()
            if now >= self._sweep_at:
                self._sweep_at = now + SWEEP_SECONDS
                written = count_late(self.engine, self.owner)
                self._delivery.count(written)
                if len(written.news) >= SWEEP:
                    self._sweep_at = now
            if now >= self._clean_at:
                self._clean_at = now + (RETENTION_SECONDS if not self._clean() else 0)
        except AwayError as error:
            self._gone(error)
        except sa.exc.SQLAlchemyError as error:
            self._gone(AwayError(sentence(error)))

    def _clean(self) -> int:
        days = self._settings.retention_days
        if days is None:
            return 0
        before = datetime.now(UTC) - timedelta(days=days)
        return retention.delete_before(self.engine, self.owner, before)
