"""Keys of images: equal for equal sources, arguments and parents; else different."""

import images
import pytest
from console import ClusterError


@pytest.fixture
def image(tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("print(1)\n")
    (tmp_path / "Dockerfile").write_text("ARG X=1\nFROM base\nCOPY app /app\n")
    return images.Image("docker.io/policyops/x:dev", tmp_path / "Dockerfile", tmp_path)


def test_a_key_does_not_depend_on_time_or_bytecode(image):
    before = images.key(image, {"base": "1"})
    cache = image.context / "app" / "__pycache__"
    cache.mkdir()
    (cache / "main.pyc").write_bytes(b"\0")
    (image.context / "unrelated").write_text("not copied")
    assert images.key(image, {"base": "1"}) == before


def test_a_changed_source_changes_the_key(image):
    before = images.key(image, {"base": "1"})
    (image.context / "app" / "main.py").write_text("print(2)\n")
    assert images.key(image, {"base": "1"}) != before


def test_a_renamed_source_changes_the_key(image):
    before = images.key(image, {})
    (image.context / "app" / "main.py").rename(image.context / "app" / "other.py")
    assert images.key(image, {}) != before


def test_a_changed_parent_changes_the_key(image):
    assert images.key(image, {"base": "1"}) != images.key(image, {"base": "2"})


def test_a_changed_argument_changes_the_key(image):
    other = images.Image(image.name, image.file, image.context, {"X": "2"})
    assert images.key(image, {}) != images.key(other, {})


def test_a_missing_source_is_named(image):
    image.file.write_text("FROM base\nCOPY absent /app\n")
    with pytest.raises(ClusterError, match="absent"):
        images.key(image, {})


def test_the_server_brings_its_parent_and_comes_after_it():
    names = [image.short for image in images.product(["server"])]
    assert names == ["trainer", "server"]


def test_an_unknown_image_is_refused_with_the_known_ones():
    with pytest.raises(ClusterError, match="operator, trainer, server"):
        images.product(["sever"])
