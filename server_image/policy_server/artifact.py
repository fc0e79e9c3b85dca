"""Opens an artifact only if it is, byte for byte, the one that the operator recorded.

The chain of trust: the operator passes the checksum of policy.json, which holds the checksum of
every other file. Nothing is parsed before its checksum holds, and only formats that can't carry
code are accepted: weights as safetensors, no pickle of any name.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pydantic
from policy_api.contract.artifact import (
    BUNDLE_FOLDER,
    CLAIM,
    EXPORTS_FOLDER,
    MANIFEST,
    ManifestFile,
    PolicyManifest,
    parse_manifest,
)
from policy_models import answers

# Folders for people and other programs: reports, and the model in other formats. They are never
# read here, so what is in them is neither downloaded nor checked.
UNREAD = (f"{BUNDLE_FOLDER}/", f"{EXPORTS_FOLDER}/")
# What policies are read from, and what people put beside it. None of these can run code when it is
# loaded.
ALLOWED_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja", ".md"})
CHUNK = 1 << 20  # bytes hashed at a time


class ArtifactRefusedError(Exception):
    """The artifact isn't what was recorded, or can't be served; the message is one sentence."""


@dataclass(frozen=True)
class Artifact:
    """An artifact whose every byte was checked."""

    folder: Path
    manifest: PolicyManifest
    sha256: str


def open_artifact(
    location: str,
    *,
    sha256: str,
    policy: str,
    version: int,
    download_folder: Path,
    exports: bool = False,
) -> Artifact:
    """Check the artifact at `location`, a folder or an fsspec URL such as s3://…, and return it.

    A remote artifact is downloaded to `download_folder` first, and only the files that its
    manifest names. With `exports` the model in other formats is read too, for other programs.

    Raises:
        ArtifactRefusedError: Any check failed, or it can't be read.
    """
    location = location.removeprefix("file://")
    if "://" in location:
        return _download(location, sha256, policy, version, download_folder, exports=exports)
    folder = Path(location)
    try:
        manifest = check_manifest((folder / MANIFEST).read_bytes(), sha256, policy, version)
        check_files(folder, manifest, exports=exports)
    except OSError as error:
        raise ArtifactRefusedError(
            f"the artifact at {location} can't be read: {error.strerror}: {error.filename}"
        ) from error
    return Artifact(folder, manifest, sha256)


def check_manifest(raw: bytes, sha256: str, policy: str, version: int) -> PolicyManifest:
    """Return the manifest in `raw` after checking its checksum, name, number and file list."""
    actual = hashlib.sha256(raw).hexdigest()
    if actual != sha256:
        raise ArtifactRefusedError(
            f"{MANIFEST} has sha256 {actual}, but version {version} of {policy} was recorded with "
            f"{sha256}: the artifact was changed after its training"
        )
    try:
        manifest = parse_manifest(raw)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["loc"] == ("kind",):
            raise ArtifactRefusedError(
                f"{MANIFEST} has kind {first['input']}, which this server does not know: use an "
                "image as new as the trainer that wrote it"
            ) from error
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ArtifactRefusedError(
            f"{MANIFEST} is not a manifest: {where}: {first['msg']}"
        ) from error
    except ValueError as error:
        raise ArtifactRefusedError(str(error)) from error
    if (manifest.policy, manifest.version) != (policy, version):
        raise ArtifactRefusedError(
            f"{MANIFEST} is version {manifest.version} of {manifest.policy}, but version {version} "
            f"of {policy} was wanted"
        )
    for field, fault in answers.faults(manifest.answer_schema):
        raise ArtifactRefusedError(f"{MANIFEST} can't be served: {field}: {fault}")
    _check_names(manifest.files)
    return manifest


def _check_names(files: tuple[ManifestFile, ...]) -> None:
    """Refuse a path that leaves the folder, isn't in its plainest form, or is listed twice."""
    seen: set[str] = set()
    for file in files:
        path = PurePosixPath(file.path)
        plain = path.as_posix() == file.path and "\\" not in file.path and "\0" not in file.path
        if not plain or path.is_absolute() or ".." in path.parts or not path.parts:
            raise ArtifactRefusedError(
                f"{MANIFEST} lists {file.path!r}, which is not a plain path inside the artifact"
            )
        if file.path in {MANIFEST, CLAIM} or file.path in seen:
            raise ArtifactRefusedError(f"{MANIFEST} lists {file.path!r}, which it must not repeat")
        if path.suffix not in ALLOWED_SUFFIXES and not file.path.startswith(UNREAD):
            raise ArtifactRefusedError(
                f"{MANIFEST} lists {file.path!r}: weights are served from .safetensors alone, "
                f"beside files of type {', '.join(sorted(ALLOWED_SUFFIXES - {'.safetensors'}))}"
            )
        seen.add(file.path)


def check_files(folder: Path, manifest: PolicyManifest, *, exports: bool = False) -> None:
    """Check that the folder has only listed files, and what is read its size and checksum."""
    listed = {file.path for file in manifest.files}
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise ArtifactRefusedError(f"{name} is a symbolic link: an artifact has plain files")
        if name not in listed and name not in {MANIFEST, CLAIM}:
            raise ArtifactRefusedError(
                f"{name} is in the artifact's folder, but {MANIFEST} doesn't list it"
            )
    for file in read_files(manifest, exports=exports):
        path = folder / file.path
        if not path.is_file():
            raise ArtifactRefusedError(f"{file.path} is listed in {MANIFEST}, but it is missing")
        size = path.stat().st_size
        if size != file.bytes:
            raise ArtifactRefusedError(
                f"{file.path} has {size} bytes, but {MANIFEST} recorded {file.bytes}: the artifact "
                "was changed after its training"
            )
        actual = _sha256(path)
        if actual != file.sha256:
            raise ArtifactRefusedError(
                f"{file.path} has sha256 {actual}, but {MANIFEST} recorded {file.sha256}: the "
                "artifact was changed after its training"
            )


def read_files(manifest: PolicyManifest, *, exports: bool = False) -> Iterator[ManifestFile]:
    """Yield the files that a server reads."""
    unread = UNREAD[:1] if exports else UNREAD
    return (file for file in manifest.files if not file.path.startswith(unread))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield everything below `folder` but real folders, without following links."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)
        else:
            yield entry


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _download(
    url: str, sha256: str, policy: str, version: int, into: Path, *, exports: bool
) -> Artifact:
    """Download the manifest, check it, download the files that it lists, check them."""
    import fsspec  # noqa: PLC0415 - a local artifact needs no fsspec

    try:
        filesystem, root = fsspec.core.url_to_fs(url)
        raw: bytes = filesystem.cat_file(f"{root.rstrip('/')}/{MANIFEST}")
        manifest = check_manifest(raw, sha256, policy, version)
        folder = into / sha256  # a second start in the same pod finds only this artifact's files
        for file in read_files(manifest, exports=exports):
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            filesystem.get_file(f"{root.rstrip('/')}/{file.path}", str(target))
    except ArtifactRefusedError:
        raise
    except Exception as error:  # a store's client raises what it likes
        raise ArtifactRefusedError(
            f"the artifact at {url} can't be downloaded: {type(error).__name__}: {error}"
        ) from error
    check_files(folder, manifest, exports=exports)
    return Artifact(folder, manifest, sha256)
