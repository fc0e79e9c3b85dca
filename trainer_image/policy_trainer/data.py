"""Read the named inputs: JSON Lines or CSV, checked row by row before anything is trained."""

import codecs
import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, BinaryIO

from policy_api.contract.artifact import ManifestData
from policy_api.contract.run import RunConfig, RunFile, RunInput

from policy_trainer import parts, storage
from policy_trainer.errors import DataInvalidError

Row = dict[str, Any]
PARTS = ("train", "validation", "test")
DELIMITERS = ",;\t"  # of CSV files, told by their first line
LONGEST_LINE = 2**26  # bytes; a file without line ends must not fill the memory


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
        except (ValueError, OverflowError):
            found = float("nan")
        if found - found == 0:  # neither NaN nor infinite
            return found
    found_text = "is missing" if field not in row else f"is {json.dumps(value)[:60]}"
    raise place.error(f"field {field!r} {found_text}, wanted a number", field)


def content_of(source: RunFile, field: str) -> tuple[bytes, str]:
    """Return a file's content and its sha256.

    Raises:
        DataInvalidError: it cannot be read, or is another file than was wanted.
    """
    try:
        content = storage.read_file(source.path)
    except OSError as error:
        raise unreadable(source, error, field) from error
    sha256 = hashlib.sha256(content).hexdigest()
    check_sum(source, sha256, field)
    return content, sha256


def load(source: RunInput, check: Check) -> Data:
    """Read an input and check its checksum and every row.

    Args:
        source: Which file, and the checksum and the number of rows wanted of it.
        check: What each row must be.

    Raises:
        DataInvalidError: names the file, and the row and field at fault.
    """
    content, sha256 = content_of(source, f"data[{source.name}]")
    found = islice(read(source, io.BytesIO(content)), source.max_rows)
    rows = [check(readable(row), place) for place, row in found]
    if not rows:
        raise empty(source)
    used = ManifestData(name=source.name, uri=source.uri, sha256=sha256, rows=len(rows))
    return Data(rows, used)


def unreadable(source: RunFile, error: OSError, field: str) -> DataInvalidError:
    """Return the error of a file that cannot be read."""
    return DataInvalidError(f"cannot read {source.uri}: {error}", field=field)


def check_sum(source: RunFile, found: str, field: str) -> None:
    """Refuse another file than the wanted one, if one is.

    Raises:
        DataInvalidError: says both checksums.
    """
    if source.sha256 is not None and found != source.sha256:
        raise DataInvalidError(
            f"{source.uri} has sha256 {found}, wanted {source.sha256}", field=f"{field}.sha256"
        )


def empty(source: RunInput) -> DataInvalidError:
    """Return the error of a file without rows."""
    return DataInvalidError(f"{source.uri} has no rows", field=f"data[{source.name}]")


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
        for name, part in _parts(source, whole, run).items():
            if name in loaded:
                raise DataInvalidError(
                    f"data[{source.name}].split makes {name!r}, which is an input as well: "
                    "leave one of them out",
                    field=f"data[{source.name}].split",
                )
            if part.rows:
                loaded[name] = part
    return loaded


def _parts(source: RunInput, whole: Data, run: RunConfig) -> dict[str, Data]:
    if source.split is None:
        return {source.name: whole}
    wanted = [source.name, *(name for name in PARTS[1:] if getattr(source.split, name))]
    rows: dict[str, list[Row]] = {name: [] for name in wanted}
    groups = parts.Groups(parts.together(run.recipe))
    for row in whole.rows:
        rows[part(source, row, groups, run.seed)].append(row)
    return {
        name: Data(kept, whole.used.model_copy(update={"name": name, "rows": len(kept)}))
        for name, kept in rows.items()
    }


def part(source: RunInput, row: Row, groups: parts.Groups, seed: int) -> str:
    """Return the input that a row of an input goes into: another one where that has a `split`."""
    if source.split is None:
        return source.name
    groups.see(row, source.uri)
    drawn = parts.draw(groups.of(row, parts.canonical(row)), seed)
    name = parts.part_of(drawn, source.split.train, source.split.validation)
    return source.name if name == "train" else name


def read(source: RunInput, file: BinaryIO) -> Iterator[tuple[Place, Row | DataInvalidError]]:
    """Yield the rows of a file one by one, and where each stands.

    Args:
        source: The name of its path says what it is: `.csv`, else JSON Lines; `.gz`, packed.
        file: Its content.

    Yields:
        A row; or, in place of one that is none, the error that says so.

    Raises:
        DataInvalidError: the whole file cannot be read on.
    """
    lines = _lines(source, file)
    if source.path.endswith((".csv", ".csv.gz")):
        yield from _csv_rows(source, lines)
        return
    for number_, line in enumerate(lines, start=1):
        if line.strip():
            place = Place(source, number_)
            yield place, _json_row(place, line)


def readable(found: Row | DataInvalidError) -> Row:
    """Return a row that was read; raises the error that stands for one that was not."""
    if isinstance(found, DataInvalidError):
        raise found
    return found


def _lines(source: RunInput, file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file, unpacked."""
    whole = io.BufferedReader(gzip.GzipFile(fileobj=file)) if _packed(source) else file
    try:
        while line := whole.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                raise DataInvalidError(
                    f"{source.uri} has a line of more than {LONGEST_LINE // 2**20} MiB: write one "
                    "object a line",
                    field=f"data[{source.name}]",
                )
            yield line
    except (OSError, EOFError, zlib.error) as error:
        broken = "is not a whole gzip file" if _packed(source) else "cannot be read"
        raise DataInvalidError(
            f"{source.uri} {broken}: {error}", field=f"data[{source.name}]"
        ) from error


def _packed(source: RunInput) -> bool:
    return source.path.endswith(".gz")


def _json_row(place: Place, line: bytes) -> Row | DataInvalidError:
    where = f"data[{place.source.name}] row {place.number}"
    name = f"{place.source.uri}:{place.number}"
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:  # bad JSON, bad UTF-8, or far too deep
        return DataInvalidError(f"{name} is no JSON: {error}", where)
    if not isinstance(row, dict):
        return DataInvalidError(f"{name} is a {type(row).__name__}, wanted an object", where)
    return row


def _csv_rows(
    source: RunInput, lines: Iterator[bytes]
) -> Iterator[tuple[Place, Row | DataInvalidError]]:
    head = next(lines, b"")
    delimiter = max(DELIMITERS, key=head.decode(errors="replace").count)
    table = (line.decode() for line in chain([head.removeprefix(codecs.BOM_UTF8)], lines))
    reader = csv.DictReader(table, delimiter=delimiter)
    try:
        columns = len(reader.fieldnames or ())
        for row in reader:
            place = Place(source, reader.line_num)
            if None in row or None in row.values():
                yield place, place.error(f"the row has not the {columns} columns of the first line")
            else:
                yield place, row
    except UnicodeDecodeError as error:
        raise DataInvalidError(
            f"{source.uri} is not UTF-8: {error}", field=f"data[{source.name}]"
        ) from error
    except csv.Error as error:
        raise DataInvalidError(
            f"{source.uri}:{reader.line_num + 1} is no CSV: {error}", field=f"data[{source.name}]"
        ) from error
