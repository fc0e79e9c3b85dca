"""What the OpenAPI document says is what is taken and answered, whatever a generator asks."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from policy_api.contract.paths import CHAT, DECISIONS, SCORES
from policy_models.decision import Policy
from schemathesis import Case, GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi import checks
from server.live import listening, serving
from server.scripted import SCHEMA
from server.typist import Typist

from models import golden

EXAMPLES = 25  # of each operation, each way
# Not that valid bodies are accepted: what a state has is the policy's own, and not in the document.
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
]
ASKED = [("POST", DECISIONS), ("POST", SCORES), ("POST", CHAT), ("GET", "/v1/policy")]


@contextmanager
def running(folder: Path, engine: Policy, schema: dict[str, Any], **changes: Any) -> Iterator[str]:
    """Run a server on a thread of its own, as the generator of requests waits for each answer."""
    found: list[str] = []
    started, ended = threading.Event(), threading.Event()

    async def live() -> None:
        async with (
            serving(folder, engine, schema, queue_limit=64, **changes) as state,
            listening(state) as url,
        ):
            found.append(url)
            started.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=asyncio.run, args=(live(),))
    thread.start()
    try:
        assert started.wait(60)
        yield found[0]
    finally:
        ended.set()
        thread.join()


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("text"), Typist(), SCHEMA) as url:
        yield url


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("tables")
    engine = golden.opened("QNetwork")
    with running(folder, engine, {}, kind="QNetwork", recipe="CQL") as url:
        yield url


def schema_of(url: str) -> Any:
    load_all_checks()
    refused = {"expected-statuses": [400, 413, 415, 422]}
    config = SchemathesisConfig.from_dict({"checks": {"negative_data_rejection": refused}})
    return schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize(("method", "path"), ASKED)
@pytest.mark.parametrize("kind", ["text", "tables"])
def test_whatever_is_asked_is_answered_as_the_document_says(request, kind, method, path, mode):
    if mode is GenerationMode.NEGATIVE and method == "GET":
        pytest.skip("it takes nothing that could be wrong")
    operation = schema_of(request.getfixturevalue(kind))[path][method]

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: Case) -> None:
        case.call_and_validate(checks=CHECKS)

    ask()


def test_what_tables_are_asked_with_is_answered_as_the_document_says(tables):
    operation = schema_of(tables)[DECISIONS]["POST"]
    for pair in golden.kept("QNetwork"):
        body = {**pair["request"], "explain": True}
        response = httpx.post(f"{tables}{DECISIONS}", json=body)
        assert response.status_code == (422 if "code" in pair["answer"] else 200)
        operation.validate_response(response)


@pytest.mark.parametrize("path", [DECISIONS, CHAT])
def test_the_document_says_what_may_be_streamed(text, path):
    document = httpx.get(f"{text}/openapi.json").json()
    content = document["paths"][path]["post"]["responses"]["200"]["content"]
    assert set(content) == {"application/json", "text/event-stream"}
