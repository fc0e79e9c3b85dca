"""Read the named inputs: JSON Lines or CSV, checked row by row before anything is trained."""

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from policy_api.artifact import ManifestData
from policy_api.run import RunConfig, RunFile, RunInput
from policy_api.v1alpha1.inputs import Split

from policy_trainer import storage
from policy_trainer.errors import DataInvalidError

Row = dict[str, Any]
PARTS = ("train", "validation", "test")
DELIMITERS = ",;\t"  # of CSV files, told by their first line


@dataclass(frozen=True)
class Place:
    """Where a row stands, for the sentence about what is wrong with it."""

    source: RunInput
    number: int

    def error(self, message: str, field: str | None = None) -> DataInvalidError:
        """Return an error that names file, line and field."""
        where = f"data[{self.source.name}] row {self.number}"
        return DataInvalidError(
            f"{self.source.uri}:{self.number}: {message}",
            f"{where} field {field}" if field else where,
        )


# Takes a row as it was read, returns what training needs of it, or raises place.error(…).
Check = Callable[[Row, Place], Row]


@dataclass(frozen=True)
class Data:
    """One input, read; or the part of one."""

    rows: list[Row]
    used: ManifestData


def texts(*fields: str) -> Check:
    """Return a check for rows of texts that are not empty; other fields are left out."""

    def check(row: Row, place: Place) -> Row:
        return {field: text(row, field, place) for field in fields}

    return check


def text(row: Row, field: str, place: Place) -> str:
    """Return a field that must be a text that is not empty."""
    value = row.get(field)
    if isinstance(value, str) and value.strip():
        return value
    found = "is missing" if field not in row else f"is {json.dumps(value)[:60]}"
    raise place.error(f"field {field!r} {found}, wanted a text that is not empty", field)


def number(row: Row, field: str, place: Place) -> float:
    """Return a field that must be a finite number; CSV has it as text."""
    value = row.get(field)
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            found = float(value)
        except ValueError:
            found = float("nan")
        if found - found == 0:  # neither NaN nor infinite
            return found
    found_text = "is missing" if field not in row else f"is {json.dumps(value)[:60]}"
    raise place.error(f"field {field!r} {found_text}, wanted a number", field)


def read(source: RunInput | RunFile, field: str) -> tuple[bytes, str]:
    """Return a file's content and its sha256.

    Raises:
        DataInvalidError: it cannot be read, or is another file than was wanted.
    """
    try:
        content = storage.read_file(source.path)
    except OSError as error:
        raise DataInvalidError(f"cannot read {source.uri}: {error}", field=field) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if source.sha256 is not None and sha256 != source.sha256:
        raise DataInvalidError(
            f"{source.uri} has sha256 {sha256}, wanted {source.sha256}", field=f"{field}.sha256"
        )
    return content, sha256


def load(source: RunInput, check: Check) -> Data:
    """Read an input and check its checksum and every row.

    Args:
        source: Which file, and the checksum and the number of rows wanted of it.
        check: What each row must be.

    Raises:
        DataInvalidError: names the file, and the row and field at fault.
    """
    where = f"data[{source.name}]"
    content, sha256 = read(source, where)
    rows = [check(row, place) for place, row in islice(_rows(source, content), source.max_rows)]
    if not rows:
        raise DataInvalidError(f"{source.uri} has no rows", field=where)
    used = ManifestData(name=source.name, uri=source.uri, sha256=sha256, rows=len(rows))
    return Data(rows, used)


def load_all(run: RunConfig, check: Check, names: Sequence[str] = PARTS) -> dict[str, Data]:
    """Read the inputs of these names; one with a `split` gives several of them.

    Raises:
        DataInvalidError: see load; or a part came from two inputs.
    """
    loaded: dict[str, Data] = {}
    for source in run.data:
        if source.name not in names:
            continue
        whole = load(source, check)
        for name, part in _parts(source, whole, run.seed).items():
            if name in loaded:
                raise DataInvalidError(
                    f"data[{source.name}].split makes {name!r}, which is an input as well: "
                    "leave one of them out",
                    field=f"data[{source.name}].split",
                )
            if part.rows:
                loaded[name] = part
    return loaded


def _parts(source: RunInput, whole: Data, seed: int) -> dict[str, Data]:
    if source.split is None:
        return {source.name: whole}
    rows: dict[str, list[Row]] = {name: [] for name in PARTS}
    for row in whole.rows:
        rows[_part(row, source.split, seed)].append(row)
    wanted = {n: rows[n] for n in PARTS if getattr(source.split, n)}
    return {
        source.name if name == "train" else name: Data(
            kept, whole.used.model_copy(update={"name": name, "rows": len(kept)})
        )
        for name, kept in wanted.items()
    }


def _part(row: Row, split: Split, seed: int) -> str:
    """Return a row's part: by its content, so that equal rows are never in two parts."""
    content = json.dumps(row, sort_keys=True).encode()
    share = int.from_bytes(hashlib.sha256(b"%d " % seed + content).digest()[:8], "big") % 100
    if share < split.train:
        return "train"
    return "validation" if share < split.train + split.validation else "test"


def _rows(source: RunInput, content: bytes) -> Iterator[tuple[Place, Row]]:
    if source.path.endswith((".csv", ".csv.gz")):
        yield from _csv_rows(source, content)
        return
    for number_, line in enumerate(_unpacked(source, content).split(b"\n"), start=1):
        if line.strip():
            place = Place(source, number_)
            yield place, _json_row(place, line)


def _unpacked(source: RunInput, content: bytes) -> bytes:
    if not source.path.endswith(".gz"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise DataInvalidError(
            f"{source.uri} is not a whole gzip file: {error}", field=f"data[{source.name}]"
        ) from error


def _json_row(place: Place, line: bytes) -> Row:
    where = f"data[{place.source.name}] row {place.number}"
    name = f"{place.source.uri}:{place.number}"
    try:
        row: Any = json.loads(line)
    except ValueError as error:  # bad JSON or bad UTF-8
        raise DataInvalidError(f"{name} is no JSON: {error}", where) from error
    if not isinstance(row, dict):
        raise DataInvalidError(f"{name} is a {type(row).__name__}, wanted an object", where)
    return row


def _csv_rows(source: RunInput, content: bytes) -> Iterator[tuple[Place, Row]]:
    try:
        table = _unpacked(source, content).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataInvalidError(
            f"{source.uri} is not UTF-8: {error}", field=f"data[{source.name}]"
        ) from error
    head = table.split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=head.count)
    reader = csv.DictReader(io.StringIO(table, newline=""), delimiter=delimiter)
    columns = len(reader.fieldnames or ())
    for row in reader:
        place = Place(source, reader.line_num)
        if None in row or None in row.values():
            raise place.error(f"the row has not the {columns} columns of the first line")
        yield place, row
