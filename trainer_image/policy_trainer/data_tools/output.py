"""Write the files of a command so that a reader sees all of them or none."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from policy_trainer.errors import ConfigInvalidError


@contextmanager
def staging(output: Path) -> Iterator[Path]:
    """Make a folder in the output's folder to write to; it goes away, whatever happens.

    Raises:
        ConfigInvalidError: nothing can be written there.
    """
    if output.parts[:1] == ("s3:",):
        raise ConfigInvalidError(f"{output}: write to a folder, and copy that", field="output")
    made = [folder for folder in (output, *output.parents) if not folder.exists()]
    try:
        output.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=output))
    except OSError as error:
        raise ConfigInvalidError(f"cannot write to {output}: {error}", field="output") from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        for folder in made:
            if not any(folder.iterdir()):
                folder.rmdir()


def publish(scratch: Path, output: Path, names: Sequence[str], stale: Sequence[str] = ()) -> None:
    """Move finished files to their place, the last one last; remove what would contradict them.

    Args:
        scratch: Where they were written.
        output: Where they go.
        names: The files; the last one says that all are there.
        stale: Files of an earlier run that this one has not.
    """
    (output / names[-1]).unlink(missing_ok=True)
    for name in stale:
        (output / name).unlink(missing_ok=True)
    for name in names:
        (scratch / name).replace(output / name)


@dataclass(frozen=True)
class Written:
    """A file that was written."""

    name: str
    rows: int
    bytes: int
    sha256: str


class Lines:
    """A file of JSON Lines that is being written."""

    def __init__(self, file: Path) -> None:
        self._name = file.name
        self._file = file.open("wb")
        self._sha256 = hashlib.sha256()
        self._rows = self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def write(self, line: str) -> None:
        """Add a line."""
        content = line.encode() + b"\n"
        self._file.write(content)
        self._sha256.update(content)
        self._rows += 1
        self._bytes += len(content)

    def end(self) -> Written:
        """Bring it to the disk, and say what was written."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return Written(self._name, self._rows, self._bytes, self._sha256.hexdigest())
