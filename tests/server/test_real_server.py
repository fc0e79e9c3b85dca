"""`python -m policy_server` on a real tiny model, from a folder and from an object store's URL."""

import asyncio
import hashlib
import json
from pathlib import Path

import fsspec
import httpx
import openai
import pytest
from policy_api import keys
from policy_server.artifact import ArtifactRefusedError, open_artifact
from server.artifacts import POLICY, VERSION, environment, write_artifact
from server.live import ask, events
from server.scripted import lines, server, terminate
from server.tiny import answer_to, prompts, seal, write_tiny

pytestmark = pytest.mark.trainer


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact")
    write_tiny(folder)
    return folder


def env_of(folder: Path, tmp_path: Path, **more: str) -> dict[str, str]:
    sha256 = hashlib.sha256((folder / "policy.json").read_bytes()).hexdigest()
    log = tmp_path / "termination-log"
    log.touch()
    return environment(
        folder, sha256, TERMINATION_LOG=str(log), HF_HUB_OFFLINE="1", DRAIN_SECONDS="0", **more
    )


async def test_it_serves_a_trained_model(artifact, tmp_path):
    env = env_of(artifact, tmp_path, OMP_NUM_THREADS="1")
    async with server(env, module="policy_server") as (process, url, log):
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            posts = [client.post("/v1/decisions", json={"prompt": text}) for text in prompts()]
            answers = [response.json() for response in await asyncio.gather(*posts)]
            assert [answer["answer"] for answer in answers] == [
                answer_to(number) for number in range(len(prompts()))
            ]
            assert all(answer["confidence"] > 0.9 for answer in answers)
            nonsense = await client.post("/v1/decisions", json={"prompt": "?"})
            assert nonsense.status_code in {200, 500}
        terminate(process)
        async with asyncio.timeout(60):
            assert await process.wait() == keys.EXIT_SUCCEEDED
        assert len(lines(log, "decision")) == len(prompts()) + 1
        for number, prompt in enumerate(prompts()):
            assert prompt not in log.read_text()
            assert answer_to(number) not in log.read_text()


async def test_it_streams_and_chats(artifact, tmp_path):
    prompt, answer = prompts()[1], answer_to(1)
    env = env_of(artifact, tmp_path, OMP_NUM_THREADS="1")
    async with (
        server(env, module="policy_server") as (_process, url, _log),
        httpx.AsyncClient(base_url=url, timeout=30) as client,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as theirs,
    ):
        found = events((await ask(client, prompt)).text)
        pieces = [event.data["text"] for event in found[:-1]]
        assert len(pieces) > 1
        assert "".join(pieces) == found[-1].data["answer"] == answer
        stream = await theirs.chat.completions.create(
            model=POLICY,
            messages=[{"role": "user", "content": prompt}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert "".join(said) == answer
        assert chunks[-1].usage.completion_tokens == found[-1].data["tokens"]
        assert chunks[-1].usage.prompt_tokens > 0


async def test_answers_that_break_the_schema_are_counted(artifact, tmp_path):
    folder = tmp_path / "strict"
    folder.mkdir()
    for path in artifact.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    seal(folder, answerSchema={"patterns": ["never said"]})
    async with (
        server(env_of(folder, tmp_path), module="policy_server") as (_process, url, _log),
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        response = await client.post(
            "/v1/decisions",
            json={"prompt": prompts()[0]},
            headers={keys.ROLE_HEADER: keys.ROLE_CANDIDATE},
        )
        metrics = (await client.get("/metrics")).text
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "AnswerSchemaViolation"
    assert (
        f'{keys.METRIC_DECISION_ERRORS}{{policy="{POLICY}",reason="answer_schema",'
        f'role="candidate",version="{VERSION}"}} 1.0'
    ) in metrics


async def test_weights_that_were_changed_are_not_loaded(artifact, tmp_path):
    folder = tmp_path / "tampered"
    folder.mkdir()
    for path in artifact.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    env = env_of(folder, tmp_path)
    async with server(env, module="policy_server", ready=False) as (process, _url, log):
        async with asyncio.timeout(180):
            assert await process.wait() == keys.EXIT_DATA_INVALID
        said = Path(env["TERMINATION_LOG"]).read_text()  # noqa: ASYNC240
        assert said.startswith("model.safetensors has sha256 ")
        assert len(lines(log, f"refusing to serve: {said}")) == 1


async def test_an_artifact_that_is_no_model_is_refused(tmp_path):
    folder = tmp_path / "empty"
    write_artifact(folder, {"config.json": b'{"model_type": "llama"}'})
    env = env_of(folder, tmp_path)
    async with server(env, module="policy_server", ready=False) as (process, _url, _log):
        async with asyncio.timeout(180):
            assert await process.wait() == keys.EXIT_DATA_INVALID
    assert Path(env["TERMINATION_LOG"]).read_text().startswith("the model can't be loaded: ")  # noqa: ASYNC240


@pytest.fixture
def store(artifact):
    """An object store in memory, behind the same interface as S3's."""
    filesystem = fsspec.filesystem("memory")
    filesystem.put(str(artifact) + "/", "/models/review-forge/3/", recursive=True)
    yield filesystem
    filesystem.rm("/models", recursive=True)


def download(sha256: str, tmp_path: Path):
    return open_artifact(
        "memory://models/review-forge/3",
        sha256=sha256,
        policy=POLICY,
        version=VERSION,
        download_folder=tmp_path / "download",
    )


def test_a_remote_artifact_is_downloaded_and_checked(artifact, store, tmp_path):
    sha256 = hashlib.sha256((artifact / "policy.json").read_bytes()).hexdigest()
    store.pipe_file("/models/review-forge/3/not-listed.safetensors", b"x")
    opened = download(sha256, tmp_path)
    listed = {file.path for file in opened.manifest.files}
    assert {path.name for path in opened.folder.iterdir()} == listed
    assert (opened.folder / "model.safetensors").read_bytes() == (
        artifact / "model.safetensors"
    ).read_bytes()
    assert download(sha256, tmp_path).folder == opened.folder  # a restart in the same pod


def test_a_remote_file_that_was_changed_is_refused(artifact, store, tmp_path):
    sha256 = hashlib.sha256((artifact / "policy.json").read_bytes()).hexdigest()
    config = json.loads((artifact / "config.json").read_bytes())
    store.pipe_file("/models/review-forge/3/config.json", json.dumps(config).encode())
    with pytest.raises(ArtifactRefusedError, match=r"^config\.json has "):
        download(sha256, tmp_path)


def test_a_remote_artifact_that_is_missing_is_refused(store, tmp_path):
    with pytest.raises(ArtifactRefusedError, match="can't be downloaded: FileNotFoundError"):
        open_artifact(
            "memory://models/review-forge/4",
            sha256="a" * 64,
            policy=POLICY,
            version=4,
            download_folder=tmp_path,
        )
