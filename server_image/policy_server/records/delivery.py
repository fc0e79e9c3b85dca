"""One batch into the database: each entry once, and one that is no good costs itself alone."""

import logging
from collections.abc import Callable, Sequence

import sqlalchemy as sa
from policy_records.entries import DecisionEntry, Entry, News, Owner, Written
from policy_records.writing import write

from policy_server.records.errors import ForeignDecisionError, RefusedEntryError
from policy_server.records.faults import AwayError, is_away, is_crossing, sentence
from policy_server.records.intake import Pending
from policy_server.records.metrics import LogMetrics

log = logging.getLogger(__name__)

_CROSSINGS = 3  # of two pods, after which the database counts as away


class Delivery:
    """Writes what one owner decides."""

    def __init__(self, owner: Owner, metrics: LogMetrics, heard: Callable[[News], None]) -> None:
        """Take whom to tell.

        Args:
            owner: Whose log it is.
            metrics: Count what is refused.
            heard: Counts what came of decisions, each once.
        """
        self._owner, self._metrics, self._heard = owner, metrics, heard

    def write(
        self, engine: sa.Engine, decisions: Sequence[DecisionEntry], told: Sequence[Pending]
    ) -> None:
        """Write a batch, and tell who waits; by halves where the database refuses one of it.

        Raises:
            AwayError: It can't be reached; what is not done is not written.
        """
        entries: list[Entry] = [*decisions, *(one.entry for one in told)]
        if not entries:
            return
        try:
            written = self._write_once(engine, entries)
        except AwayError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the others must be written
            if len(entries) == 1:
                self._refuse(told, error)
                return
            for half in _halves(decisions):
                self.write(engine, half, [])
            for waiting in _halves(told):
                self.write(engine, [], waiting)
            return
        self.count(written)
        for one in told:
            if one.entry.decision_id in written.foreign:
                one.kept.set_exception(ForeignDecisionError())
            else:
                one.kept.set_result(None)

    def count(self, written: Written) -> None:
        """Tell of what is new."""
        for news in written.news:
            self._heard(news)

    def _write_once(self, engine: sa.Engine, entries: Sequence[Entry]) -> Written:
        for crossings in range(_CROSSINGS):
            try:
                return write(engine, self._owner, entries)
            except sa.exc.DBAPIError as error:
                if is_crossing(error) and crossings + 1 < _CROSSINGS:
                    continue
                if is_away(error):
                    raise AwayError(sentence(error)) from error
                raise
            except (sa.exc.TimeoutError, OSError) as error:
                raise AwayError(sentence(error)) from error
        raise AssertionError("the last crossing is raised")

    def _refuse(self, told: Sequence[Pending], error: Exception) -> None:
        """Pass over one entry that the database will never take."""
        log.error("an entry of the decision log was refused: %s", sentence(error))
        if told:
            told[0].kept.set_exception(RefusedEntryError())
        else:
            self._metrics.dropped(1)


def _halves(entries: Sequence) -> tuple[Sequence, Sequence]:  # type: ignore[type-arg]
    middle = (len(entries) + 1) // 2
    return entries[:middle], entries[middle:]
