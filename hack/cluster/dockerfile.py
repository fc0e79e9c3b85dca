"""What a Dockerfile reads: the files of its context and the images it is built from.

An image is built again only when one of them changed, so this has to see all of them. It knows the
instructions that can read: FROM, ARG, COPY, ADD, and RUN with `--mount=type=bind`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+))")


@dataclass(frozen=True)
class Reads:
    """Patterns relative to the context, and image names, both with arguments filled in."""

    files: tuple[str, ...]
    images: tuple[str, ...]


def reads(text: str, arguments: Mapping[str, str]) -> Reads:
    """Find what a Dockerfile reads when it is built with these arguments."""
    values: dict[str, str] = {}
    stages: set[str] = set()
    files: list[str] = []
    images: list[str] = []
    for instruction, rest in _instructions(text):
        match instruction:
            case "ARG":
                name, _, default = rest.partition("=")
                values[name] = arguments.get(name, _fill(default.strip("\"'"), values))
            case "FROM":
                words = [word for word in _fill(rest, values).split() if not word.startswith("--")]
                if words[0] not in stages and words[0] != "scratch":
                    images.append(words[0])
                stages.update(words[2:3])
            case "COPY" | "ADD":
                files += _copied(_fill(rest, values))
            case "RUN":
                files += _bound(_fill(rest, values))
            case _:
                continue
    return Reads(tuple(dict.fromkeys(files)), tuple(dict.fromkeys(images)))


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    kept = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\s*\n", " ", "\n".join(kept)).splitlines():
        words = line.strip().split(maxsplit=1)
        if len(words) > 1:
            yield words[0].upper(), words[1].strip()


def _fill(text: str, values: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        name = found[1] or found[3]
        return values.get(name) or found[2] or ""

    return _VARIABLE.sub(value, text)


def _copied(rest: str) -> list[str]:
    words = rest.split()
    while words and words[0].startswith("--"):
        if words.pop(0).startswith("--from="):
            return []
    remaining = " ".join(words)
    if remaining.startswith("["):
        words = [str(word) for word in json.loads(remaining)]
    return words[:-1]


def _bound(rest: str) -> list[str]:
    found = []
    for mount in re.findall(r"--mount=(\S+)", rest):
        options = dict(option.partition("=")[::2] for option in mount.split(","))
        if options.get("type") == "bind" and "from" not in options:
            found.append(options.get("source") or options.get("src") or ".")
    return found
