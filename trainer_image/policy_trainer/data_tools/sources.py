"""The files that a command reads, as one stream of rows."""

from collections.abc import Iterator, Sequence
from io import BufferedReader

from policy_api.contract.run import RunInput

from policy_trainer import data, storage
from policy_trainer.data import Place, Row
from policy_trainer.errors import DataInvalidError
from policy_trainer.parts import Groups


def named(files: Sequence[str]) -> list[RunInput]:
    """Return files of the command line as inputs; `-` is standard input, JSON Lines."""
    return [
        RunInput(name="train", uri="stdin" if file == "-" else file, path=file) for file in files
    ]


def opened(source: RunInput) -> BufferedReader:
    """Open a file.

    Raises:
        DataInvalidError: it cannot be opened.
    """
    try:
        return storage.open_file(source.path)
    except OSError as error:
        raise data.unreadable(source, error, f"data[{source.name}]") from error


def rows(source: RunInput) -> Iterator[tuple[Place, Row | DataInvalidError]]:
    """Yield the rows of a file as `data.read` does.

    Raises:
        DataInvalidError: the file cannot be opened, or not be read on.
    """
    with opened(source) as file:
        yield from data.read(source, file)


def group_of(groups: Groups, row: Row, line: str, place: Place) -> str:
    """Return the group of the row that was seen last.

    Raises:
        DataInvalidError: the row lacks the field that keeps rows together.
    """
    try:
        return groups.of(row, line)
    except KeyError as error:
        message = f"field {groups.by!r} is missing: rows are kept together by it"
        raise place.error(message, groups.by) from error
