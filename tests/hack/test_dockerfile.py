"""An image is rebuilt when what its Dockerfile reads has changed, and only then."""

from pathlib import Path

import pytest
from dockerfile import Reads, reads

TRAINER = """
# syntax is plain
ARG BASE=docker.io/library/python:3.11-slim-bookworm
FROM ${BASE} AS build
ARG LOCK=.
COPY ${LOCK}/pyproject.toml ${LOCK}/uv.lock /src/
# COPY commented /out
RUN --mount=type=cache,target=/root/.cache/uv \\
    --mount=type=bind,source=hack/stubs,target=/stubs \\
    --mount=type=bind,from=build,source=/elsewhere,target=/x \\
    uv sync
FROM ${BASE}
COPY --from=build /opt/venv /opt/venv
COPY --chown=65532:65532 api/policy_api /app/policy_api
COPY ["with space", "/app/"]
"""


def test_copied_files_bound_files_and_parents_are_found():
    found = reads(TRAINER, {"LOCK": "hack/cpu"})
    assert found == Reads(
        files=(
            "hack/cpu/pyproject.toml",
            "hack/cpu/uv.lock",
            "hack/stubs",
            "api/policy_api",
            "with space",
        ),
        images=("docker.io/library/python:3.11-slim-bookworm",),
    )


def test_an_argument_left_out_has_its_default():
    assert "./pyproject.toml" in reads(TRAINER, {}).files


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("FROM scratch", ()),
        ("FROM --platform=linux/amd64 a/b:c", ("a/b:c",)),
        ("FROM a AS one\nFROM one", ("a",)),
        ("ARG T=x/y:dev\nFROM $T", ("x/y:dev",)),
        ("ARG T\nFROM ${T:-fallback}", ("fallback",)),
    ],
)
def test_parents(text, images):
    assert reads(text, {}).images == images


@pytest.mark.parametrize("name", ["operator", "trainer", "server"])
def test_every_file_that_the_product_copies_exists(name):
    root = Path(__file__).parents[2]
    found = reads((root / f"Dockerfile.{name}").read_text(), {"LOCK": "hack/cpu"})
    assert found.files
    for pattern in found.files:
        assert list(root.glob(pattern)), pattern
