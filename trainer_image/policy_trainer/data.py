"""Read the named inputs: JSON Lines, checked row by row before anything is trained."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from policy_api.artifact import ManifestData
from policy_api.run import RunInput

from policy_trainer import storage
from policy_trainer.errors import DataInvalidError

Row = dict[str, str]


@dataclass(frozen=True)
class Data:
    """One input, read."""

    rows: list[Row]
    used: ManifestData


def load(source: RunInput, fields: Sequence[str]) -> Data:
    """Read an input and check its checksum and every row.

    Args:
        source: Which file, and the checksum and the number of rows wanted of it.
        fields: What each row must have, as text that is not empty; other fields are left out.

    Raises:
        DataInvalidError: names the file, and the row and field at fault.
    """
    where = f"data[{source.name}]"
    try:
        content = storage.read_file(source.path)
    except OSError as error:
        raise DataInvalidError(f"cannot read {source.uri}: {error}", field=where) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if source.sha256 is not None and sha256 != source.sha256:
        raise DataInvalidError(
            f"{source.uri} has sha256 {sha256}, wanted {source.sha256}", field=f"{where}.sha256"
        )
    rows: list[Row] = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if len(rows) == source.max_rows:
            break
        if line.strip():
            rows.append(_row(source, number, line, fields))
    if not rows:
        raise DataInvalidError(f"{source.uri} has no rows", field=where)
    used = ManifestData(name=source.name, uri=source.uri, sha256=sha256, rows=len(rows))
    return Data(rows, used)


def _row(source: RunInput, number: int, line: bytes, fields: Sequence[str]) -> Row:
    where = f"data[{source.name}] row {number}"
    try:
        row: Any = json.loads(line)
    except ValueError as error:  # bad JSON or bad UTF-8
        raise DataInvalidError(f"{source.uri}:{number} is no JSON: {error}", where) from error
    if not isinstance(row, dict):
        kind = type(row).__name__
        raise DataInvalidError(f"{source.uri}:{number} is a {kind}, wanted an object", where)
    for field in fields:
        value = row.get(field)
        if not isinstance(value, str) or not value.strip():
            found = "is missing" if field not in row else f"is {json.dumps(value)[:60]}"
            raise DataInvalidError(
                f"{source.uri}:{number}: field {field!r} {found}, wanted a text that is not empty",
                f"{where} field {field}",
            )
    return {field: row[field] for field in fields}
