"""The OCI layout: a layer is taken over once, and every image's manifest names what is held."""

import hashlib
import json

import layout
import pytest


def put(folder, content: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    path = layout.blob(digest, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return digest


def pusher(layers: list[bytes], compressed: list[bytes]):
    """Writes an image as buildah does: a layer whose file is there is named and left alone."""

    def push(folder):
        names = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
        config = put(folder, json.dumps({"rootfs": {"diff_ids": names}}).encode())
        entries = []
        for name, layer in zip(names, layers, strict=True):
            if layout.blob(name, folder).exists():
                entries.append({"mediaType": "tar", "digest": name, "size": 0})
                continue
            compressed.append(layer)
            small = b"small " + layer
            entries.append({"mediaType": "zstd", "digest": put(folder, small), "size": len(small)})
        manifest = {"config": {"digest": config}, "layers": entries}
        digest = put(folder, json.dumps(manifest).encode())
        (folder / "index.json").write_text(json.dumps({"manifests": [{"digest": digest}]}))

    return push


@pytest.fixture
def root(tmp_path):
    return tmp_path / "oci"


def layers_of(root, descriptor) -> list[bytes]:
    manifest = json.loads(layout.blob(descriptor["digest"], root).read_text())
    return [layout.blob(layer["digest"], root).read_bytes() for layer in manifest["layers"]]


def test_a_shared_layer_is_compressed_once_and_named_by_both(root):
    compressed = []
    first = layout.receive(pusher([b"base", b"one"], compressed), root)
    second = layout.receive(pusher([b"base", b"two"], compressed), root)
    assert compressed == [b"base", b"one", b"two"]
    assert layers_of(root, first) == [b"small base", b"small one"]
    assert layers_of(root, second) == [b"small base", b"small two"]


def test_the_same_image_has_the_same_descriptor(root):
    again = [layout.receive(pusher([b"base"], []), root) for _ in range(2)]
    assert again[0] == again[1]


def test_a_layer_that_was_lost_is_taken_over_again(root):
    compressed = []
    first = layout.receive(pusher([b"base"], compressed), root)
    manifest = json.loads(layout.blob(first["digest"], root).read_text())
    layout.blob(manifest["layers"][0]["digest"], root).unlink()
    second = layout.receive(pusher([b"base"], compressed), root)
    assert compressed == [b"base", b"base"]
    assert layers_of(root, second) == [b"small base"]


def test_pruning_keeps_what_the_named_images_need(root):
    first = layout.receive(pusher([b"base", b"one"], []), root)
    second = layout.receive(pusher([b"base", b"two"], []), root)
    layout.prune([second["digest"]], root)
    assert layers_of(root, second) == [b"small base", b"small two"]
    assert not layout.blob(first["digest"], root).exists()
    compressed = []
    layout.receive(pusher([b"base", b"one"], compressed), root)
    assert compressed == [b"one"]
