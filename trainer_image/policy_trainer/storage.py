"""Where artifacts and checkpoints live: a folder that the pods share, or an S3-compatible bucket.

The two differ in one thing that matters: how a name is claimed so that only one can have it. On a
file system it is an exclusive mkdir, on S3 a PUT with `If-None-Match: *`. Bucket credentials and
the endpoint come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`), as for any client.
"""

import io
import os
import shutil
from pathlib import Path
from typing import Any, Protocol


class Store(Protocol):
    """A root folder, itself ""; every path is relative to it, with forward slashes."""

    def claim(self, folder: str, file: str, content: bytes) -> bool:
        """Create a folder with one file in it; False, and nothing changes, if it is taken."""
        ...

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes, or None when there is no such file."""
        ...

    def write(self, path: str, content: bytes) -> None:
        """Write a file so that a reader sees all of it or nothing."""
        ...

    def upload(self, source: Path, folder: str) -> None:
        """Copy a local folder's files, with its subfolders, into a folder."""
        ...

    def download(self, folder: str, target: Path) -> None:
        """Copy a folder's files, with its subfolders, into a local folder."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; empty when there is no such folder."""
        ...

    def remove(self, folder: str) -> None:
        """Remove a folder and all that is in it."""
        ...


def open_store(path: str) -> Store:
    """Return the store of a root: a local path, or an s3:// URL."""
    return S3Store(path) if path.startswith("s3://") else LocalStore(Path(path))


def local_folder(store: Store, folder: str) -> Path | None:
    """Return where a folder of the store is on this machine; None when it is in a bucket."""
    return store.root / folder if isinstance(store, LocalStore) else None


def read_file(path: str) -> bytes:
    """Read one file, from a local path or an s3:// URL; raises OSError when it cannot."""
    if path.startswith("s3://"):
        content: bytes = _s3().cat_file(path)
        return content
    return Path(path).read_bytes()


def open_file(path: str) -> io.BufferedReader:
    """Open one file to be read piece by piece, as read_file reads it whole; `-`: standard input."""
    if path == "-":
        return os.fdopen(os.dup(0), "rb")
    if path.startswith("s3://"):
        opened: io.BufferedReader = _s3().open(path, "rb")
        return opened
    return Path(path).open("rb")


def _s3() -> Any:
    import s3fs  # noqa: PLC0415 - half a second that local runs do not need

    return s3fs.S3FileSystem(use_listings_cache=False)


class LocalStore:
    """A folder on a file system; on a shared one (PVC) all pods see the same."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def claim(self, folder: str, file: str, content: bytes) -> bool:
        """See Store. A crash between the two leaves a folder without an owner: never reused."""
        target = self.root / folder
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.mkdir()
        except FileExistsError:
            return False
        self.write(f"{folder}/{file}", content)
        return True

    def read(self, path: str) -> bytes | None:
        """See Store."""
        try:
            return (self.root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, path: str, content: bytes) -> None:
        """See Store: a temporary name, fsync, rename, fsync of the folder."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def upload(self, source: Path, folder: str) -> None:
        """See Store."""
        for file in sorted(p for p in source.rglob("*") if p.is_file()):
            target = self.root / folder / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)  # not its mode: a server pod may be another user

    def download(self, folder: str, target: Path) -> None:
        """See Store."""
        shutil.copytree(self.root / folder, target, dirs_exist_ok=True)

    def names(self, folder: str) -> list[str]:
        """See Store."""
        target = self.root / folder
        return sorted(entry.name for entry in target.iterdir()) if target.is_dir() else []

    def remove(self, folder: str) -> None:
        """See Store."""
        shutil.rmtree(self.root / folder, ignore_errors=False)


class S3Store:
    """A prefix of a bucket; a PUT is atomic, folders are only names."""

    def __init__(self, url: str) -> None:
        self._root = url.rstrip("/")
        self._files = _s3()

    def claim(self, folder: str, file: str, content: bytes) -> bool:
        """See Store. The bucket must honour `If-None-Match: *` (AWS, MinIO, versitygw do)."""
        if self._files.find(f"{self._root}/{folder}"):
            return False  # taken by something that has no claim file
        try:
            self._files.pipe_file(f"{self._root}/{folder}/{file}", content, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if "PreconditionFailed" in str(error) or "pre-conditions" in str(error):
                return False
            raise
        return True

    def read(self, path: str) -> bytes | None:
        """See Store."""
        try:
            content: bytes = self._files.cat_file(f"{self._root}/{path}")
        except FileNotFoundError:
            return None
        return content

    def write(self, path: str, content: bytes) -> None:
        """See Store."""
        self._files.pipe_file(f"{self._root}/{path}", content)

    def upload(self, source: Path, folder: str) -> None:
        """See Store."""
        for file in sorted(p for p in source.rglob("*") if p.is_file()):
            relative = file.relative_to(source).as_posix()
            self._files.put_file(str(file), f"{self._root}/{folder}/{relative}")

    def download(self, folder: str, target: Path) -> None:
        """See Store."""
        prefix = f"{self._root}/{folder}".rstrip("/").removeprefix("s3://")
        for key in self._files.find(prefix):
            local = target / str(key).removeprefix(f"{prefix}/")
            local.parent.mkdir(parents=True, exist_ok=True)
            self._files.get_file(key, str(local))

    def names(self, folder: str) -> list[str]:
        """See Store."""
        try:
            entries = self._files.ls(f"{self._root}/{folder}", detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries)

    def remove(self, folder: str) -> None:
        """See Store."""
        self._files.rm(f"{self._root}/{folder}", recursive=True)
