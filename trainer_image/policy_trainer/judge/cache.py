"""Replies that are known: in memory and, with a file, on disk, one appended line each."""

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ValidationError

from policy_trainer.errors import ConfigInvalidError
from policy_trainer.judge.asker import Spent
from policy_trainer.judge.prompts import Choice, Ratings, Reply


class Known(BaseModel):
    """A line: a question's key, its reply, and what that took."""

    key: str
    reply: Ratings | Choice
    spent: Spent


def key(*parts: str) -> str:
    """Return the name of a question: of the judge, and every word that it is asked."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Cache:
    """What a judge has said before.

    Args:
        file: Where it is kept; None: in memory alone. A line that a crash has torn is left out.

    Raises:
        ConfigInvalidError: the file cannot be read and written.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._replies: dict[str, Reply] = {}
        self._file = file
        self.spent = Spent()
        """On all replies that it has."""
        if file is not None:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
                content = file.read_bytes()
                if content and not content.endswith(b"\n"):
                    file.write_bytes(content + b"\n")
            except OSError as error:
                raise ConfigInvalidError(f"cannot keep replies in {file}: {error}") from error
            for line in content.splitlines():
                self._learn(line)

    def _learn(self, line: bytes) -> None:
        try:
            known = Known.model_validate_json(line)
        except ValidationError:
            return
        self._replies[known.key] = known.reply
        self.spent += known.spent

    def get(self, name: str) -> Reply | None:
        """Return the reply to a question, if it is known."""
        return self._replies.get(name)

    def put(self, name: str, reply: Reply, spent: Spent) -> None:
        """Keep a reply."""
        self._replies[name] = reply
        self.spent += spent
        if self._file is not None:
            line = Known(key=name, reply=reply, spent=spent).model_dump_json()
            with self._file.open("a") as file:
                file.write(line + "\n")
