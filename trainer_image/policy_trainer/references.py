"""Other versions' artifacts that take part in a run: found, and checked before they are used."""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from policy_api.contract.artifact import MANIFEST, Kind, parse_manifest
from policy_api.contract.run import BaseArtifact, RunConfig

from policy_trainer import storage
from policy_trainer.errors import ConfigInvalidError, DataInvalidError

COMPARED = "version:"  # role of a version that takes no part but is compared with: `version:<N>`
AGAINST = "exitCriteria.against"  # the field that names versions to compare with


def others(run: RunConfig, kind: Kind) -> Iterator[tuple[str, Path]]:
    """Yield `(version:<N>, folder)` of each version that a criterion judges `against`.

    Raises:
        ConfigInvalidError: it is of another kind, so the two cannot be compared.
        DataInvalidError: the artifact is not the one that was accepted.
    """
    for reference in run.references:
        if reference.name.startswith(COMPARED):
            yield reference.name, of_kind(reference.artifact, kind, AGAINST)


def of_kind(artifact: BaseArtifact, kind: Kind, field: str) -> Path:
    """Return a local folder with an artifact's checked files, if it is of this kind.

    Raises:
        ConfigInvalidError: it is of another kind.
        DataInvalidError: the artifact is not the one that was accepted.
    """
    folder = Path(checked(artifact))
    made = parse_manifest((folder / MANIFEST).read_bytes())
    if made.kind is not kind:
        raise ConfigInvalidError(
            f"{artifact.uri} is a {made.kind}, wanted a {kind}: train one with that recipe", field
        )
    return folder


def checked(base: BaseArtifact) -> str:
    """Return a local folder with the artifact's files, each of which was checked.

    Raises:
        DataInvalidError: a file is missing, its checksum is another one, or the manifest is of a
            later version.
    """
    store = storage.open_store(base.path)
    local = storage.local_folder(store, "")
    if local is None:
        local = Path(tempfile.mkdtemp(prefix="base-"))
        store.download("", local)
    manifest_file = local / MANIFEST
    _check(manifest_file, base.sha256, base.uri)
    try:
        made = parse_manifest(manifest_file.read_bytes())
    except ValueError as error:
        raise DataInvalidError(f"{base.uri}: {error}", "base") from error
    for file in made.files:
        _check(local / file.path, file.sha256, base.uri)
    return str(local)


def _check(file: Path, wanted: str, uri: str) -> None:
    try:
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise DataInvalidError(f"{uri}: cannot read {file.name}: {error}", "base") from error
    if found != wanted:
        raise DataInvalidError(f"{uri}: {file.name} has sha256 {found}, wanted {wanted}", "base")
