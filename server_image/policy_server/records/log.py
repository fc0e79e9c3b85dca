"""The decision log as the rest of the server sees it: keep, tell, find."""

import asyncio
import json
import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from policy_models.outcomes import FeedbackRequest, OutcomeRequest
from policy_records import reading
from policy_records.entries import FeedbackEntry, Label, OutcomeEntry
from policy_records.redaction import Redactor

from policy_server.decisions.results import Decision, Failure
from policy_server.records.errors import LogAwayError
from policy_server.records.faults import sentence
from policy_server.records.keeping import Decider, entry_of
from policy_server.records.keywords import Keywords
from policy_server.records.writer import LogWriter

log = logging.getLogger(__name__)

_SAME = uuid.UUID("6f1de0f5-1f5c-4a0c-9b0f-0d7e54f4a3a1")
"""Of ids that are made of what is said."""


class DecisionLog:
    """Keeps what one version decides and what is said of it, and finds it again."""

    def __init__(
        self, writer: LogWriter, redactor: Redactor, now: Callable[[], datetime] | None = None
    ) -> None:
        """Take what writes.

        Args:
            writer: It is started.
            redactor: Replaces what must not be kept.
            now: Tells the time in UTC.
        """
        self._writer = writer
        self._redactor = redactor
        self._now = now or (lambda: datetime.now(UTC))
        writer.start()

    def close(self, seconds: float) -> None:
        """Write what waits; see LogWriter.close."""
        self._writer.close(seconds)

    def keeper(self, decider: Decider) -> Callable[[Decision | Failure], None]:
        """Return what keeps each decision; it never waits and never raises."""

        def keep(result: Decision | Failure) -> None:
            try:
                self._writer.put(entry_of(result, decider, self._redactor, self._now()))
            except Exception:  # a fault of ours in the log must not cost an answer
                log.exception("a decision is not in the log")

        return keep

    async def outcome(
        self, decision_id: uuid.UUID, said: OutcomeRequest, caller: str | None
    ) -> None:
        """Keep what came of a decision; it can't be lost when this returns.

        Raises:
            ForeignDecisionError, RefusedEntryError, LogFullError: See LogWriter.tell.
        """
        entry = OutcomeEntry(
            decision_id,
            self._now(),
            reward=said.reward,
            success=said.success,
            followed=said.followed,
            next_state=self._redactor.apply("nextState", said.next_state),
            done=said.done,
            caller=caller,
        )
        await asyncio.wrap_future(self._writer.tell(entry))

    async def feedback(
        self, said: FeedbackRequest, keywords: Keywords, caller: str | None
    ) -> FeedbackEntry:
        """Keep what a person says, and return it; it can't be lost then.

        Raises:
            ForeignDecisionError, RefusedEntryError, LogFullError: See LogWriter.tell.
        """
        meaning = said.meaning(keywords.positive, keywords.negative)
        entry = FeedbackEntry(
            _id_of(said, caller),
            self._now(),
            decision_id=None if said.decision_id is None else uuid.UUID(said.decision_id),
            run_id=said.run_id,
            text=self._redactor.apply("text", said.text),
            tags=said.tag_list(),
            label=None if meaning is None else Label(meaning),
            corrected_action=self._redactor.apply("correctedAction", said.corrected_action),
            caller=caller,
        )
        await asyncio.wrap_future(self._writer.tell(entry))
        return entry

    async def find(self, decision_id: uuid.UUID) -> dict[str, Any] | None:
        """Return a decision of this policy with its outcome and feedback; see reading.find.

        Raises:
            LogAwayError: The database can't be asked.
        """
        try:
            return await asyncio.to_thread(
                reading.find, self._writer.engine, self._writer.owner, decision_id
            )
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise LogAwayError(sentence(error)) from error


def _id_of(said: FeedbackRequest, caller: str | None) -> uuid.UUID:
    """Return the id of feedback: the one it has, or one that the same words have again."""
    if said.id is not None:
        return uuid.UUID(said.id)
    return uuid.uuid5(_SAME, json.dumps([caller, said.to_wire()], sort_keys=True))
