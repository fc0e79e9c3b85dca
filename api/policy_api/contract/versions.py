"""Versions of the formats between programs: run.json, policy.json, the termination message.

A reader ignores fields that it does not know, and refuses another `schemaVersion` than its own. So
a new field is optional, and absent when it is unset (`X | None = None`): readers that are older
then find nothing new. The number is raised for what a reader must not ignore, and only in the files
that use it (docs/adr/0022).
"""

from typing import Any

from pydantic_core import from_json


def load(content: bytes | str, known: int, file: str, remedy: str) -> dict[str, Any]:
    """Read the JSON of a file, and refuse another version of its format.

    Args:
        content: The file; without `schemaVersion` it is of version 1.
        known: The version that this program reads.
        file: What to call it.
        remedy: What to change.

    Raises:
        ValueError: it is no JSON object, or of another version.
    """
    try:
        wire = from_json(content)
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}") from error
    if not isinstance(wire, dict):
        raise ValueError(f"{file} is no JSON object")  # noqa: TRY004 - bad input, no bug
    found = wire.get("schemaVersion", 1)
    if found != known:
        raise ValueError(f"{file} has schemaVersion {found}, this reads {known}: {remedy}")
    return wire
