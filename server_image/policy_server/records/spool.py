"""Entries on the pod's own disk while the database is away: lines of JSON in numbered files.

A line that a crash tore is passed over: nobody was told that it is kept.
"""

import json
import logging
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

from policy_records.entries import DecisionEntry, Entry, FeedbackEntry, Label, OutcomeEntry
from policy_records.storable import storable

log = logging.getLogger(__name__)

SEGMENT_BYTES = 1 << 20
_KINDS = {"decision": DecisionEntry, "outcome": OutcomeEntry, "feedback": FeedbackEntry}
_NAMES = {kind: name for name, kind in _KINDS.items()}


class SpoolFullError(Exception):
    """There is no room for what must not be lost."""


class Spool:
    """A folder of segments, read in the order in which they were written.

    One process has it, and one thread of that.
    """

    def __init__(self, folder: Path, limit_bytes: int, *, drops_oldest: bool) -> None:
        """Take what an earlier process left.

        Args:
            folder: Made if it is not there.
            limit_bytes: How much it may hold.
            drops_oldest: What happens when it is full: the oldest go, or the new are refused.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._limit, self._drops_oldest = folder, limit_bytes, drops_oldest
        segments = sorted(folder.glob("*.jsonl"))
        self._sizes = {segment: segment.stat().st_size for segment in segments}
        # Never written on: its last line may be torn.
        self._next = 1 + max((int(segment.stem) for segment in segments), default=0)
        self._open: Path | None = None

    def __bool__(self) -> bool:
        return bool(self._sizes)

    @property
    def bytes(self) -> int:
        """How much it holds."""
        return sum(self._sizes.values())

    def append(self, entries: Sequence[Entry], *, durable: bool) -> int:
        """Write entries; return how many older ones had to go.

        Args:
            entries: What to keep.
            durable: They are on the disk when this returns.

        Raises:
            SpoolFullError: It is full and does not drop.
            OSError: The disk does not take them; none is kept.
        """
        data = "".join(f"{_line(entry)}\n" for entry in entries).encode()
        dropped = self._make_room(len(data))
        segment = self._segment()
        with segment.open("ab") as file:
            try:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            except OSError:
                os.truncate(segment, self._sizes[segment])
                raise
        if durable and self._sizes[segment] == 0:
            _sync_folder(self._folder)  # the file's name is to be found, too
        self._sizes[segment] += len(data)
        return dropped

    def oldest(self) -> tuple[Path, list[Entry]] | None:
        """Return the oldest segment with its entries, or None; `remove` it once they are kept."""
        if not self._sizes:
            return None
        segment = min(self._sizes)
        if segment == self._open:
            self._open = None  # what comes meanwhile goes into another
        return segment, list(_entries(segment))

    def remove(self, segment: Path) -> None:
        """Forget a segment."""
        segment.unlink(missing_ok=True)
        self._sizes.pop(segment, None)
        if segment == self._open:
            self._open = None

    def _segment(self) -> Path:
        if self._open is None or self._sizes[self._open] >= SEGMENT_BYTES:
            self._open = self._folder / f"{self._next:012d}.jsonl"
            self._next += 1
            self._open.touch(mode=0o600)
            self._sizes[self._open] = 0
        return self._open

    def _make_room(self, size: int) -> int:
        dropped = 0
        while self.bytes + size > self._limit:
            if not self._drops_oldest or not self._sizes:
                raise SpoolFullError
            segment = min(self._sizes)
            with segment.open("rb") as file:
                dropped += sum(1 for _ in file)
            self.remove(segment)
        return dropped


def _line(entry: Entry) -> str:
    values = {
        item.name: storable(value)
        for item in fields(entry)
        if (value := getattr(entry, item.name)) is not None
    }
    return json.dumps({"kind": _NAMES[type(entry)], **values}, default=_plain)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _entries(segment: Path) -> Iterator[Entry]:
    with segment.open("rb") as file:
        for line in file:
            try:
                yield _entry(json.loads(line))
            except (ValueError, KeyError, TypeError):
                log.warning("passed over a line of %s that can't be read", segment.name)


def _entry(found: dict[str, Any]) -> Entry:
    kind: Any = _KINDS[found.pop("kind")]
    known = {item.name for item in fields(kind)}
    values = {name: value for name, value in found.items() if name in known}
    for name in {"id", "decision_id"} & values.keys():
        values[name] = uuid.UUID(values[name])
    values["at"] = datetime.fromisoformat(values["at"])
    if "tags" in values:
        values["tags"] = tuple(values["tags"])
    if "label" in values:
        values["label"] = Label(values["label"])
    made: Entry = kind(**values)
    return made


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
