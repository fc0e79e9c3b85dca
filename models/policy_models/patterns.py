"""Regular expressions that users declare: Python's, searched for no longer than a budget allows.

Python's own engine holds every thread of the process while it searches, and some patterns take it
years. The engine of `regex` lets the others go on and stops when it is told to. It is of the same
family, and finds what Python's finds once the few letters are escaped that mean more to it.
"""

import re
import time

import regex

SECONDS = 1.0  # for all patterns of an answer: far more than an answer of a hundred pages takes

_QUANTIFIER = re.compile(r"\{(?:[0-9]+(?:,[0-9]*)?|,[0-9]*)\}")
_SCOPED_VERBOSE = re.compile(r"\(\?[aiLmsu]*x[aiLmsux]*(?:-[imsx]+)?:")


class TooSlowError(Exception):
    """Whether a text has the pattern was not known in time."""

    def __init__(self, pattern: str) -> None:
        super().__init__(
            f"the pattern {pattern!r} was not judged within {SECONDS:g} s: write it without "
            "repetitions of repetitions"
        )


class Budget:
    """The time that is left to search one text."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._until = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, never below a millisecond: what is quick is found all the same."""
        return max(0.001, self._until - time.monotonic())


class Pattern:
    """One pattern.

    Raises:
        re.error: It is no regular expression of Python's.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        own = re.compile(source)
        self.groups = own.groups
        if _SCOPED_VERBOSE.search(source):
            raise re.error("(?x:…) is not taken, write (?x) at the start", source)
        escaped = _escaped(source, verbose=bool(own.flags & re.VERBOSE))
        try:
            self._compiled = regex.compile(escaped, regex.VERSION0)
        except regex.error as error:
            raise re.error(str(error), source) from error

    def search(self, text: str, budget: Budget) -> "regex.Match[str] | None":
        """Return where it is first found.

        Raises:
            TooSlowError: The budget was used up.
        """
        try:
            return self._compiled.search(text, timeout=budget.left, concurrent=True)
        except TimeoutError:
            raise TooSlowError(self.source) from None


def _escaped(source: str, *, verbose: bool) -> str:
    """Escape what is a letter to Python and more to `regex`: braces ({e<=1}) and [ in a set."""
    said, at = "", 0
    while at < len(source):
        end = _end(source, at, verbose=verbose)
        part = source[at:end]
        if part[0] == "[" and len(part) > 1:
            said += "[" + re.sub(r"(\\.)|\[", lambda m: m[1] or r"\[", part[1:], flags=re.DOTALL)
        elif part == "{":
            said += r"\{"
        elif part == "{,}":
            said += "{0,}"
        else:
            said += part
        at = end
    return said


def _end(source: str, at: int, *, verbose: bool) -> int:
    """Return where the part of a valid pattern ends that begins here."""
    match source[at]:
        case "\\":
            return source.index("}", at) + 1 if source.startswith(r"\N{", at) else at + 2
        case "[":
            return _end_of_set(source, at)
        case "{" if found := _QUANTIFIER.match(source, at):
            return found.end()
        case "(" if source.startswith("(?#", at):
            return source.index(")", at) + 1
        case "#" if verbose:
            return at + len(source[at:].partition("\n")[0])
    return at + 1


def _end_of_set(source: str, at: int) -> int:
    at += 2 if source.startswith("[^", at) else 1
    if source[at] == "]":  # the first is a letter
        at += 1
    while source[at] != "]":
        at += 2 if source[at] == "\\" else 1
    return at + 1
