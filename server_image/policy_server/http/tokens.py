"""The tokens that callers may send, in a file that is read again whenever it changes.

One token a line, with its name before it where it should have one:

    # of the web shop; the second is the next one
    shop 3b1f…
    shop 97c0…
    0ad4…

A rotation is two lines for a while. A file that is gone lets nobody in: a Secret that was deleted
is as good as its tokens taken back.
"""

import hmac
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

log = logging.getLogger(__name__)

LEAST_CHARACTERS = 16  # of a token: shorter ones are words that people choose
UNNAMED = "token"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750: what a header `Bearer …` can carry
_BIGGEST = 1 << 20  # bytes: a Secret is no longer


class NoTokensError(Exception):
    """No caller could be let in; the message says what to change."""


@dataclass(frozen=True)
class _Known:
    name: str
    digest: bytes


class Tokens:
    """The tokens of a file."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            NoTokensError: It is not there, or no token is in it.
        """
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._known: tuple[_Known, ...] = ()
        fault = self._read()
        if not self._known:
            raise NoTokensError(fault)

    def name_of(self, token: str) -> str | None:
        """Return the name of a token that is in the file now, or None.

        It takes as long for any token, so that nothing is learned of those that are right.
        """
        if self._stamp() != self._seen:
            fault = self._read()
            if fault:
                log.error("%s", fault)
            else:
                log.info("the tokens of callers were read anew")
        digest = sha256(token.encode("utf-8", "replace")).digest()
        found = None
        for known in self._known:
            if hmac.compare_digest(known.digest, digest):
                found = known.name
        return found

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            at = self._path.stat()
        except OSError:
            return None
        return at.st_ino, at.st_mtime_ns, at.st_size

    def _read(self) -> str:
        """Take what the file has; return what is wrong with it, or nothing."""
        self._seen = self._stamp()
        try:
            with self._path.open("rb") as file:
                text = file.read(_BIGGEST).decode("utf-8", "replace")
        except OSError as error:
            self._known = ()
            return f"nobody can call: no tokens can be read from {self._path} ({error.strerror})"
        self._known, faults = _parse(text)
        if faults:
            number, fault = faults[0]
            return f"line {number} of {self._path} is left out: {fault}"
        return "" if self._known else f"nobody can call: there is no token in {self._path}"


def _parse(text: str) -> tuple[tuple[_Known, ...], Sequence[tuple[int, str]]]:
    """Return the tokens, and what is wrong in other lines, by number; no word of them is quoted."""
    known, faults = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        *names, token = words
        name = names[0] if names else UNNAMED
        if len(names) > 1 or not _NAME.fullmatch(name):
            faults.append((number, "it must be a token, or a name and a token"))
        elif not _TOKEN.fullmatch(token):
            faults.append((number, "a header can carry letters, digits and ._~+/-= alone"))
        elif len(token) < LEAST_CHARACTERS:
            faults.append((number, f"a token must have at least {LEAST_CHARACTERS} characters"))
        else:
            known.append(_Known(name, sha256(token.encode()).digest()))
    return tuple(known), faults
