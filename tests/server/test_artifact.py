"""Every way in which an artifact is not the recorded one, and the sentence that says so."""

import hashlib
import os
from pathlib import Path

import pytest
from policy_server.artifact import ArtifactRefusedError, open_artifact
from server.artifacts import POLICY, VERSION, write_artifact


def open_it(folder: Path, sha256: str):
    return open_artifact(
        str(folder),
        sha256=sha256,
        policy=POLICY,
        version=VERSION,
        download_folder=folder / "unused",
    )


def test_an_untouched_artifact_is_opened(tmp_path):
    sha256 = write_artifact(tmp_path, {"config.json": b"{}", "sub/vocab.txt": b"a\nb"})
    (tmp_path / ".claim.json").write_text("{}")
    artifact = open_it(tmp_path, sha256)
    assert artifact.manifest.policy == POLICY
    assert artifact.folder == tmp_path


def test_a_file_url_is_a_folder(tmp_path):
    sha256 = write_artifact(tmp_path)
    assert (
        open_artifact(
            f"file://{tmp_path}",
            sha256=sha256,
            policy=POLICY,
            version=VERSION,
            download_folder=tmp_path,
        ).sha256
        == sha256
    )


def test_reports_and_exports_beside_the_model_are_no_reason_to_refuse(tmp_path):
    files = {
        "model.safetensors": b"weights",
        "bundle/report.html": b"<html>",
        "bundle/roc.png": b"png",
        "exports/model.gguf": b"GGUF",
        "exports/model.onnx": b"onnx",
    }
    sha256 = write_artifact(tmp_path, files)
    assert open_it(tmp_path, sha256).manifest.policy == POLICY
    (tmp_path / "exports" / "model.gguf").write_bytes(b"GGUX")  # never read, so never checked
    (tmp_path / "bundle" / "roc.png").unlink()
    assert open_it(tmp_path, sha256).manifest.policy == POLICY
    (tmp_path / "exports" / "more.bin").write_bytes(b"not listed")
    with pytest.raises(
        ArtifactRefusedError, match=r"exports/more\.bin is in the artifact's folder"
    ):
        open_it(tmp_path, sha256)


def test_only_what_is_read_is_downloaded(tmp_path):
    files = {"model.safetensors": b"weights", "exports/model.gguf": b"GGUF"}
    sha256 = write_artifact(tmp_path / "store", files)
    found = open_artifact(
        f"local://{tmp_path / 'store'}",
        sha256=sha256,
        policy=POLICY,
        version=VERSION,
        download_folder=tmp_path / "pod",
    )
    assert [file.name for file in found.folder.rglob("*")] == ["model.safetensors"]


def test_another_manifest_is_refused_before_it_is_parsed(tmp_path):
    (tmp_path / "policy.json").write_bytes(b"not even JSON")
    actual = hashlib.sha256(b"not even JSON").hexdigest()
    with pytest.raises(ArtifactRefusedError) as caught:
        open_it(tmp_path, "b" * 64)
    assert str(caught.value) == (
        f"policy.json has sha256 {actual}, but version 3 of review-forge was recorded with "
        f"{'b' * 64}: the artifact was changed after its training"
    )


def flip(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weightz")


def grow(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weights!")


def lose(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def add(folder: Path) -> None:
    (folder / "extra").mkdir()
    (folder / "extra" / "model-2.safetensors").write_bytes(b"more")


def link(folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_bytes(b"weights")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(secret)


def link_folder(folder: Path) -> None:
    (folder / "extra").symlink_to(folder.parent, target_is_directory=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            flip,
            (
                f"model.safetensors has sha256 {hashlib.sha256(b'weightz').hexdigest()}, but "
                f"policy.json recorded {hashlib.sha256(b'weights').hexdigest()}: the artifact was "
                "changed after its training"
            ),
        ),
        (
            grow,
            (
                "model.safetensors has 8 bytes, but policy.json recorded 7: the artifact was "
                "changed after its training"
            ),
        ),
        (lose, "model.safetensors is listed in policy.json, but it is missing"),
        (
            add,
            (
                "extra/model-2.safetensors is in the artifact's folder, but policy.json doesn't "
                "list it"
            ),
        ),
        (link, "model.safetensors is a symbolic link: an artifact has plain files"),
        (link_folder, "extra is a symbolic link: an artifact has plain files"),
    ],
)
def test_a_changed_folder_is_refused(tmp_path, change, message):
    folder = tmp_path / "artifact"
    sha256 = write_artifact(folder)
    change(folder)
    with pytest.raises(ArtifactRefusedError) as caught:
        open_it(folder, sha256)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "path", ["../other/config.json", "/etc/passwd", "a/../../b.json", "./config.json", "a\\b.json"]
)
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, path):
    files = [{"path": path, "sha256": "0" * 64, "bytes": 1}]
    sha256 = write_artifact(tmp_path, {}, files=files)
    with pytest.raises(ArtifactRefusedError) as caught:
        open_it(tmp_path, sha256)
    assert str(caught.value) == (
        f"policy.json lists {path!r}, which is not a plain path inside the artifact"
    )


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "training_args.pt", "policy.pkl", "model.py", "weights", "x.PTH"]
)
def test_a_file_that_may_carry_code_is_refused(tmp_path, name):
    sha256 = write_artifact(tmp_path, {name: b"x"})
    with pytest.raises(ArtifactRefusedError, match=r"weights are served from \.safetensors alone"):
        open_it(tmp_path, sha256)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"policy": "other"},
            "policy.json is version 3 of other, but version 3 of review-forge was wanted",
        ),
        (
            {"version": 4},
            "policy.json is version 4 of review-forge, but version 3 of review-forge was wanted",
        ),
        (
            {"kind": "Oracle"},
            (
                "policy.json has kind Oracle, which this server does not know: use an image as new "
                "as the trainer that wrote it"
            ),
        ),
        (
            {"schemaVersion": 2},
            (
                "policy.json has schemaVersion 2, this reads 1: use an image (or policyctl) as "
                "new as the trainer that wrote it"
            ),
        ),
        (
            {"seed": "x"},
            (
                "policy.json is not a manifest: seed: Input should be a valid integer, "
                "unable to parse string as an integer"
            ),
        ),
        (
            {"answerSchema": {"patterns": ["("]}},
            (
                "policy.json can't be served: answerSchema.patterns[0]: '(' is not a regular "
                "expression: missing ), unterminated subpattern at position 0"
            ),
        ),
    ],
)
def test_a_manifest_that_can_not_be_served_is_refused(tmp_path, changes, message):
    sha256 = write_artifact(tmp_path, **changes)
    with pytest.raises(ArtifactRefusedError) as caught:
        open_it(tmp_path, sha256)
    assert str(caught.value) == message


def test_a_file_listed_twice_is_refused(tmp_path):
    entry = {"path": "config.json", "sha256": "0" * 64, "bytes": 1}
    sha256 = write_artifact(tmp_path, {}, files=[entry, entry])
    with pytest.raises(ArtifactRefusedError, match="which it must not repeat"):
        open_it(tmp_path, sha256)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ArtifactRefusedError) as caught:
        open_it(tmp_path / "gone", "a" * 64)
    missing = tmp_path / "gone" / "policy.json"
    assert str(caught.value) == (
        f"the artifact at {tmp_path / 'gone'} can't be read: No such file or directory: {missing}"
    )


def test_a_special_file_is_refused(tmp_path):
    sha256 = write_artifact(tmp_path)
    (tmp_path / "config.json").unlink()
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ArtifactRefusedError, match="it is missing"):
        open_it(tmp_path, sha256)
