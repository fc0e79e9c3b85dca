"""Who may call: tokens from a file, who a caller is, and what asks for no token."""

import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import Request
from policy_api import keys
from policy_server.http.app import State, create_app
from policy_server.http.auth import Caller, Door, caller_of
from policy_server.http.tokens import NoTokensError, Tokens
from policy_server.metrics import Metrics
from server.artifacts import POLICY, VERSION, environment, write_artifact
from server.scripted import SCHEMA, lines, server

OLD, NEW, OTHER = "a" * 32, "b" * 32, "c" * 32


@pytest.fixture
def file(tmp_path):
    found = tmp_path / "tokens"
    found.write_text(f"# of the shop\nshop {OLD}\nshop {NEW}\n\n{OTHER}\n")
    return found


def rewrite(file, text: str) -> None:
    """Replace the file as the kubelet does: whole, by another inode."""
    new = file.with_name("new")
    new.write_text(text)
    new.replace(file)


def test_each_line_is_a_token_with_or_without_a_name(file):
    tokens = Tokens(file)
    assert [tokens.name_of(t) for t in (OLD, NEW, OTHER)] == ["shop", "shop", "token"]
    for wrong in ("", "shop", OLD[:-1], OLD + "a", "é" * 32, "\udc80" * 16):
        assert tokens.name_of(wrong) is None


def test_a_rotation_needs_no_restart(file):
    tokens = Tokens(file)
    rewrite(file, f"shop {NEW}\n")
    assert tokens.name_of(OLD) is None
    assert tokens.name_of(NEW) == "shop"


def test_a_file_that_is_written_in_place_is_read_anew_too(file):
    tokens = Tokens(file)
    file.write_text(f"shop {NEW}\n")
    assert tokens.name_of(OLD) is None


def test_a_file_that_is_gone_lets_nobody_in_until_it_is_back(file, caplog):
    tokens = Tokens(file)
    file.unlink()
    with caplog.at_level(logging.ERROR):
        assert tokens.name_of(OLD) is None
    assert f"no tokens can be read from {file} (No such file or directory)" in caplog.text
    file.write_text(f"shop {OLD}\n")
    assert tokens.name_of(OLD) == "shop"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "nobody can call: there is no token in {file}"),
        ("# none yet\n", "nobody can call: there is no token in {file}"),
        ("secret\n", "line 1 of {file} is left out: a token must have at least 16 characters"),
        (
            f"\na b {OLD}\n",
            "line 2 of {file} is left out: it must be a token, or a name and a token",
        ),
        (
            f"shop/1 {OLD}\n",
            "line 1 of {file} is left out: it must be a token, or a name and a token",
        ),
        (
            f"shop {OLD}ß\n",
            "line 1 of {file} is left out: a header can carry letters, digits and ._~+/-= alone",
        ),
    ],
)
def test_a_file_without_tokens_is_refused_and_no_word_of_it_told(file, text, sentence):
    file.write_text(text)
    with pytest.raises(NoTokensError) as caught:
        Tokens(file)
    assert str(caught.value) == sentence.format(file=file)


def test_one_bad_line_does_not_lock_the_others_out(file, caplog):
    file.write_text(f"short\nshop {OLD}\n")
    assert Tokens(file).name_of(OLD) == "shop"


@pytest.fixture
def state() -> State:
    return State(POLICY, VERSION, Metrics(POLICY, VERSION))


def app_of(state: State, door: Door):
    app = create_app(state, door)

    @app.get("/v1/whoami")
    async def whoami(request: Request) -> dict:
        caller = caller_of(request)
        told = None if caller is None else [caller.name, caller.user]
        return {"caller": told, "header": request.headers.get(keys.USER_HEADER)}

    return app


@pytest.fixture
async def client(state, file) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app_of(state, Door(Tokens(file))))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


MISSING = "send a token of this policy's callers: Authorization: Bearer <token>"
WRONG = "this token is not one of this policy's callers: ask whoever runs it for a token"


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, MISSING),
        ({"Authorization": OLD}, MISSING),
        ({"Authorization": "Bearer"}, MISSING),
        ({"Authorization": f"Basic {OLD}"}, MISSING),
        ({"Authorization": f"Bearer {OLD} {OLD}"}, WRONG),
        ({"Authorization": f"Bearer {OLD}x"}, WRONG),
        ({"Authorization": "Bearer é".encode("latin-1")}, WRONG),
    ],
)
async def test_who_proves_nothing_is_told_what_to_send(client, headers, message):
    response = await client.post("/v1/decisions", json={"prompt": "a"}, headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.json() == {
        "error": {"code": "Unauthorized", "message": message},
        "policy": POLICY,
        "version": VERSION,
    }
    told = (await client.get("/metrics")).text
    labels = f'policy="{POLICY}",role="direct",version="{VERSION}"'
    assert f"{keys.METRIC_UNAUTHORIZED}{{{labels}}} 1.0" in told
    assert f"{keys.METRIC_DECISIONS}{{{labels}}} 0.0" in told


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
async def test_a_caller_is_known_by_its_token_and_believed_for_whom_it_calls(client, scheme):
    headers = {"Authorization": f"{scheme} {NEW}", keys.USER_HEADER: "jane"}
    response = await client.get("/v1/whoami", headers=headers)
    assert response.json() == {"caller": ["shop", "jane"], "header": None}
    response = await client.get("/v1/whoami", headers=bearer(OTHER))
    assert response.json() == {"caller": ["token", None], "header": None}


@pytest.mark.parametrize("path", ["/v1/policy", "/v1/scores", "/v1/nothing", "/v1", "/v1/"])
async def test_all_of_v1_asks_for_a_token(client, path):
    assert (await client.get(path)).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/docs", "/openapi.json"])
async def test_what_the_route_does_not_publish_asks_for_none(client, path):
    assert (await client.get(path)).status_code == 200


async def test_the_documentation_says_that_a_token_is_needed(client):
    document = (await client.get("/openapi.json")).json()
    post = document["paths"]["/v1/decisions"]["post"]
    assert post["security"] == [{"HTTPBearer": []}]
    assert "401" in post["responses"]


@pytest.mark.parametrize(
    ("trusts", "address", "caller"),
    [
        (False, "127.0.0.1", None),
        (True, "127.0.0.1", ["local", None]),
        (True, "::1", ["local", None]),
        (True, "::ffff:127.0.0.1", ["local", None]),
        (True, "10.0.0.1", None),
        (True, "testclient", None),
    ],
)
async def test_without_tokens_only_this_machine_may_be_known(state, trusts, address, caller):
    app = app_of(state, Door(trusts_loopback=trusts))
    transport = httpx.ASGITransport(app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        response = await client.get("/v1/whoami", headers={keys.USER_HEADER: "admin"})
    assert response.json() == {"caller": caller, "header": None}


def test_callers_are_told_apart_by_name_and_user():
    assert Caller("shop") != Caller("shop", "jane")


async def test_the_process_asks_for_tokens_and_reads_new_ones(tmp_path, file):
    sha256 = write_artifact(tmp_path / "artifact", answerSchema=SCHEMA)
    last = tmp_path / "termination-log"
    last.touch()
    env = environment(
        tmp_path / "artifact", sha256, TERMINATION_LOG=str(last), AUTH_TOKEN_FILE=str(file)
    )
    asked = {"prompt": "a"}
    async with server(env) as (_process, url, log), httpx.AsyncClient(base_url=url) as client:
        assert (await client.post("/v1/decisions", json=asked)).status_code == 401
        old = await client.post("/v1/decisions", json=asked, headers=bearer(OLD))
        assert old.status_code == 200
        rewrite(file, f"shop {NEW}\n")
        for token, status in ((OLD, 401), (NEW, 200)):
            response = await client.post("/v1/decisions", json=asked, headers=bearer(token))
            assert response.status_code == status
        assert len(lines(log, "the tokens of callers were read anew")) == 1
        for token in (OLD, NEW, OTHER):
            assert token not in log.read_text()


async def test_a_process_without_tokens_ends_with_one_sentence(tmp_path):
    sha256 = write_artifact(tmp_path / "artifact", answerSchema=SCHEMA)
    last = tmp_path / "termination-log"
    last.touch()
    missing = tmp_path / "review-tokens" / "tokens"
    env = environment(
        tmp_path / "artifact", sha256, TERMINATION_LOG=str(last), AUTH_TOKEN_FILE=str(missing)
    )
    async with server(env, module="policy_server", ready=False, listens=False) as (process, _, _):
        assert await process.wait() == keys.EXIT_CONFIG_INVALID
    assert last.read_text() == (
        f"nobody can call: no tokens can be read from {missing} (No such file or directory)"
    )
