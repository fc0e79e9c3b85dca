"""A row of the log as JSON, with the HTTP interface's names: look-ups and exports. Pure."""

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_OURS = {"namespace", "deployment", "counted"}  # whose log it is, and how it is kept
_NAMES = {"id": "decisionId"}


def shown(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a decision with its outcome and feedback, as reading.find has it; no nulls."""
    found = _fields(row, _NAMES)
    if "latencyMs" in found:
        found["latencySeconds"] = round(found.pop("latencyMs") / 1000, 6)
    if row.get("outcome") is not None:
        found["outcome"] = _fields(row["outcome"], {})
        found["outcome"].pop("decisionId", None)
    if "feedback" in row:
        found["feedback"] = [shown_feedback(said) for said in row["feedback"]]
    return found


def shown_feedback(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what a person said, with the decision's columns as `decision_…` left out."""
    own = {name: value for name, value in row.items() if not name.startswith("decision_")}
    if row.get("decision_id") is not None:
        own["decision_id"] = row["decision_id"]
    return _fields(own, {"id": "feedbackId"})


def _fields(row: Mapping[Any, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {
        names.get(name, _camel(name)): _plain(value)
        for name, value in row.items()
        if value is not None and name not in _OURS and name not in {"outcome", "feedback"}
    }


def _camel(name: str) -> str:
    return re.sub("_(.)", lambda match: match[1].upper(), name)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value) if isinstance(value, uuid.UUID) else value
