"""What a person said of a plan, as a label: keywords, and what negates them. Pure."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

# A positive word right after one of these is a negative one.
NEGATIONS = r"(?:not|no|never|hardly|isn't|wasn't|aren't|don't|didn't|doesn't)"


@lru_cache
def _pattern(keywords: tuple[str, ...], before: str = "") -> re.Pattern[str]:
    # Longest first, so that "not good" is found before "good"; "+1" is not found in "+10".
    longest = sorted(keywords, key=len, reverse=True)
    words = "|".join(re.escape(word.lower()) for word in longest)
    return re.compile(rf"(?<![\w+\-]){before}(?:{words})(?!\w)")


def label(
    said: str, tags: Iterable[str], positive: Sequence[str], negative: Sequence[str]
) -> bool | None:
    """Say whether feedback is positive; None when it says neither, or both equally often.

    Args:
        said: The feedback's text.
        tags: Its tags; each counts as a text of its own.
        positive: Keywords, found as whole words whatever their case.
        negative: The same; they win over positive ones that they contain ("not good").
    """
    goods = bads = 0
    for words in (said.lower(), *(tag.lower() for tag in tags)):
        rest, found = _pattern(tuple(negative)).subn(" ", words)
        bads += found
        rest, found = _pattern(tuple(positive), rf"{NEGATIONS}\s+").subn(" ", rest)
        bads += found
        goods += len(_pattern(tuple(positive)).findall(rest))
    return None if goods == bads else goods > bads
