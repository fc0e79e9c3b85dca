"""What must be remembered of millions of rows: on disk, in SQLite, so that memory stays small."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

CACHE = 48 * 1024  # KiB of pages in memory
SIGNED = 2**63  # SQLite's integers are signed; taking this away keeps their order


def _open(file: Path, table: str) -> sqlite3.Connection:
    """Open a new database that need not survive a crash."""
    made = sqlite3.connect(file, isolation_level=None)
    for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE}"):
        made.execute(f"PRAGMA {setting}")
    made.execute(table)
    made.execute("BEGIN")
    return made


class Seen:
    """Numbers that were seen: 10 million of them are 155 MB on disk.

    Two different rows share a number of 64 bits with a chance of 3 in a million among 10 million.
    """

    def __init__(self, file: Path) -> None:
        self._rows = _open(file, "CREATE TABLE seen (drawn INTEGER PRIMARY KEY)")

    def add(self, drawn: int) -> bool:
        """Note a number; say whether it is new."""
        added = self._rows.execute("INSERT OR IGNORE INTO seen VALUES (?)", (drawn - SIGNED,))
        return added.rowcount == 1


class Sizes:
    """How many rows have which number."""

    def __init__(self, file: Path) -> None:
        self._rows = _open(file, "CREATE TABLE sizes (drawn INTEGER PRIMARY KEY, rows INTEGER)")

    def add(self, drawn: int) -> None:
        """Count a row."""
        self._rows.execute(
            "INSERT INTO sizes VALUES (?, 1) ON CONFLICT DO UPDATE SET rows = rows + 1",
            (drawn - SIGNED,),
        )

    def below(self, most: int) -> int:
        """Return the number below which there are at most so many rows, and no more would do."""
        total = 0
        for drawn, rows in self._rows.execute("SELECT drawn, rows FROM sizes ORDER BY drawn"):
            total += rows
            if total > most:
                return int(drawn) + SIGNED
        return 2 * SIGNED


class Prompts:
    """Which prompts have good and bad answers."""

    def __init__(self, file: Path) -> None:
        self._rows = _open(
            file, "CREATE TABLE prompts (key BLOB PRIMARY KEY, good INT, bad INT) WITHOUT ROWID"
        )

    def add(self, prompt: str, label: str) -> tuple[int, int]:
        """Count an answer that was called good or bad; return how many the prompt has of both."""
        good, bad = self._rows.execute(
            "INSERT INTO prompts VALUES (?1, ?2, 1 - ?2) ON CONFLICT DO UPDATE SET "
            "good = good + ?2, bad = bad + 1 - ?2 RETURNING good, bad",
            (_key(prompt), int(label == "good")),
        ).fetchone()
        return int(good), int(bad)

    def good(self, prompt: str) -> int:
        """Return how many good answers a prompt has that was counted."""
        found = self._rows.execute("SELECT good FROM prompts WHERE key = ?", (_key(prompt),))
        return int(found.fetchone()[0])

    def totals(self) -> tuple[int, int]:
        """Return how many prompts there are, and how many of them have answers of both kinds."""
        whole, both = self._rows.execute(
            "SELECT count(*), coalesce(sum(good > 0 AND bad > 0), 0) FROM prompts"
        ).fetchone()
        return int(whole), int(both)


class Answers:
    """The good answers to prompts, and the bad ones in their order.

    Texts are kept as JSON: SQLite takes no half of a surrogate pair, which JSON may have.
    """

    def __init__(self, folder: Path) -> None:
        self.prompts = Prompts(folder / "prompts.db")
        self._rows = _open(
            folder / "answers.db",
            "CREATE TABLE good (prompt BLOB, number INTEGER, answer TEXT, "
            "PRIMARY KEY (prompt, number)) WITHOUT ROWID",
        )
        self._rows.execute("CREATE TABLE bad (row TEXT)")

    def add(self, prompt: str, answer: str, label: str) -> None:
        """Note an answer that was called good or bad."""
        count, _ = self.prompts.add(prompt, label)
        if label == "good":
            row = (_key(prompt), count - 1, json.dumps(answer))
            self._rows.execute("INSERT INTO good VALUES (?, ?, ?)", row)
        else:
            self._rows.execute("INSERT INTO bad VALUES (?)", (json.dumps([prompt, answer]),))

    def bad(self) -> Iterator[tuple[str, str]]:
        """Yield prompts and bad answers, in the order in which they were added."""
        for (row,) in self._rows.execute("SELECT row FROM bad ORDER BY rowid"):
            prompt, answer = json.loads(row)
            yield prompt, answer

    def good(self, prompt: str, number: int) -> str:
        """Return a good answer to a prompt, numbered from 0."""
        found = self._rows.execute(
            "SELECT answer FROM good WHERE prompt = ? AND number = ?", (_key(prompt), number)
        )
        return str(json.loads(found.fetchone()[0]))


def _key(prompt: str) -> bytes:
    return hashlib.sha256(prompt.encode(errors="surrogatepass")).digest()[:16]
