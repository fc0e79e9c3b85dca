"""`policyctl decide` and `policyctl serve` on artifacts of each kind of tables."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest
import yaml
from policyctl import main as cli
from policyctl import manifests, peers
from policyctl.local import environment

from models import golden


def decide(capsys, kind, *arguments):
    code = cli.main(["decide", str(golden.FOLDER / kind), *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("kind", golden.KINDS)
def test_it_decides_as_the_policy_does(kind, capsys):
    for pair in golden.kept(kind):
        request = json.dumps(pair["request"])
        code, out, err = decide(capsys, kind, request, "--json", "--top-k", "99")
        if "code" in pair["answer"]:
            assert (code, err) == (2, pair["answer"]["message"] + "\n")
            continue
        found, wanted = json.loads(out), pair["answer"]
        assert [o["action"] for o in found["ranking"]] == [o["action"] for o in wanted["ranking"]]
        assert found["unseen"] == wanted["unseen"]


def test_a_person_reads_the_ranking_and_why(capsys):
    state = {"task": "never seen", "languages": [], "success_rate": 0.5}
    code, out, _ = decide(capsys, "QNetwork", "--state", json.dumps(state), "--top-k", "2")
    assert code == 0
    lines = out.splitlines()
    assert [line[:2] for line in lines if line[0].isdigit()] == ["1.", "2."]
    assert any("times in the training data" in line for line in lines)
    assert lines[-1] == "not seen in training: task"
    _, short, _ = decide(capsys, "QNetwork", "--state", json.dumps(state), "--no-reasons")
    assert "times in the training data" not in short


def test_a_request_says_how_much_is_shown_as_over_http(capsys):
    state = {"task": "api", "languages": [], "success_rate": 0.5}
    request = json.dumps({"state": state, "topK": 1, "explain": False})
    _, out, _ = decide(capsys, "QNetwork", request)
    assert [line[:2] for line in out.splitlines()] == ["1."]
    _, more, _ = decide(capsys, "QNetwork", request, "--top-k", "2")
    assert [line[:2] for line in more.splitlines()] == ["1.", "2."]


def test_candidates_are_options_of_the_command(capsys):
    plans = ["--candidate", "a vague plan", "--candidate", "a tested plan"]
    _, out, _ = decide(capsys, "PlanPreference", *plans)
    assert out.startswith("1. a tested plan  0.9")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to decide: a REQUEST as POST /v1/decisions takes it, or --state, --prompt"),
        (["{"], "the request is not JSON: "),
        (["[]"], "the request must be an object such as "),
        (["{}", "--prompt", "x"], "give a REQUEST, or --state, --prompt and --candidate, not both"),
        (['{"stat": {}}'], "stat is not a known field: remove it"),
        (["{}"], "set exactly one of state, prompt and messages, or candidates"),
        (['{"candidates": "a"}'], "candidates must be a list"),
        (['{"messages": [{"content": "a"}]}'], "messages[0].role is missing: set it"),
        (['{"prompt": 1}'], "prompt must be a string"),
        (["--state", "{}", "--top-k", "0"], "topK must be at least 1"),
        (["--candidate", "x" * 100_001], "candidates[0] has more than 100000 characters: shorten"),
        (["--prompt", "x"], "this policy is asked with state, an object of features"),
    ],
)
def test_a_wrong_request_is_told(arguments, message, capsys):
    code, _, err = decide(capsys, "QNetwork", *arguments)
    assert code == 2
    assert err.startswith(message)


def test_a_changed_artifact_is_not_asked(tmp_path, capsys):
    shutil.copytree(golden.FOLDER / "PlanPreference", tmp_path / "a")
    (tmp_path / "a" / "preference_model.json").write_text("{}")
    assert cli.main(["decide", str(tmp_path / "a"), "--candidate", "x"]) == 2
    assert "preference_model.json has sha256 " in capsys.readouterr().err


@pytest.fixture
def serving(tmp_path):
    """Start `policyctl serve`; it is stopped at the end."""
    started = []

    def start(folder, *arguments):
        child = subprocess.Popen(
            [sys.executable, "-m", "policyctl", "serve", str(folder), *arguments],
            env=environment(),
            cwd=tmp_path,  # the decision log is made there
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def test_it_serves_until_ctrl_c(serving):
    child = serving(golden.FOLDER / "PlanPreference", "--port", "0")
    line = child.stdout.readline()
    assert line.startswith("plans version 1 answers on http://127.0.0.1:")
    url = line.split()[5]
    response = httpx.post(url, json={"candidates": ["a vague plan", "a tested plan"]})
    assert response.json()["action"] == "a tested plan"
    assert child.stdout.readline().split()[:2] == [response.json()["decisionId"], "200"]
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does
    assert child.wait(30) == 0


def test_callers_must_send_a_token_of_the_file(serving, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"shop {'a' * 32}\n")
    child = serving(golden.FOLDER / "PlanPreference", "--port", "0", "--token-file", str(tokens))
    url = child.stdout.readline().split()[5]
    asked = {"candidates": ["a vague plan", "a tested plan"]}
    assert httpx.post(url, json=asked).status_code == 401
    known = {"Authorization": f"Bearer {'a' * 32}"}
    assert httpx.post(url, json=asked, headers=known).status_code == 200


def test_a_file_without_tokens_is_told(serving, tmp_path):
    missing = tmp_path / "tokens"
    child = serving(golden.FOLDER / "PlanPreference", "--port", "0", "--token-file", str(missing))
    _, err = child.communicate(timeout=60)
    assert child.returncode == 2
    assert err.endswith(
        f"nobody can call: no tokens can be read from {missing} (No such file or directory)\n"
    )


def test_what_can_not_be_served_is_told_once(serving, tmp_path):
    shutil.copytree(golden.FOLDER / "PlanPreference", tmp_path / "a")
    (tmp_path / "a" / "more.json").write_text("{}")
    child = serving(tmp_path / "a", "--port", "0")
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (2, "")
    assert err == (
        f"{tmp_path / 'a'} can't be served: more.json is in the artifact's folder, but policy.json "
        "doesn't list it\n"
    )


def test_a_port_that_is_taken_is_told(serving):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        child = serving(golden.FOLDER / "PlanPreference", "--port", str(port))
        _, err = child.communicate(timeout=60)
    assert err.endswith(
        f"can't be served: can't listen on 127.0.0.1, port {port}: Address already in use\n"
    )


DEPLOYMENT = """
apiVersion: policyops.dev/v1alpha1
kind: PolicyDeployment
metadata: {name: agents}
spec:
  policy: agents
  target: {version: 1}
  traffic: {parentRefs: [{name: public}]}
"""
HYBRID = """
  mode: Hybrid
  minConfidence: 1
  baseline: {strategy: HighestSuccess}
  autoApprove: {minConfidence: 0.1}
"""


def test_a_deployment_says_how_it_serves(serving, tmp_path):
    file = tmp_path / "deployment.yaml"
    file.write_text(DEPLOYMENT + HYBRID)
    child = serving(golden.FOLDER / "QNetwork", "--port", "0", "--config", file)
    assert child.stdout.readline() == "mode Hybrid, baseline HighestSuccess\n"
    url = child.stdout.readline().split()[5]
    state = {"task": "page", "languages": ["py"], "success_rate": 0.4}
    body = httpx.post(url, json={"state": state}).json()
    assert (body["mode"], body["source"], body["autoApproved"]) == ("Hybrid", "baseline", False)
    assert child.stdout.readline().split()[-1] == "baseline"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: PolicyTraining\n", "{} has no PolicyDeployment of policy agents\n"),
        (
            DEPLOYMENT.replace("policy: agents", "policy: plans"),
            "{} has no PolicyDeployment of policy agents: it has one of plans\n",
        ),
        (
            f"{DEPLOYMENT}---{DEPLOYMENT}",
            "{} has 2 PolicyDeployments of policy agents\n",
        ),
        (
            f"{DEPLOYMENT}  mode: Hybrid\n  minConfidence: 0.5\n",
            (
                "{}: PolicyDeployment agents: spec: mode Hybrid needs baseline: it answers below "
                "minConfidence\n"
            ),
        ),
        (
            f"{DEPLOYMENT}  minConfidense: 0.5\n",
            (
                "{}: PolicyDeployment agents: spec.minConfidense: there is no such field, did you "
                "mean 'minConfidence'?\n"
            ),
        ),
    ],
)
def test_a_deployment_that_can_not_be_used_is_told(text, message, tmp_path, capsys):
    file = tmp_path / "deployment.yaml"
    file.write_text(text)
    code = cli.main(["serve", str(golden.FOLDER / "QNetwork"), "--config", str(file)])
    assert (code, capsys.readouterr().err) == (2, message.format(file))


RETAIN = """
  server:
    routes:
    - path: /choose
      to: /v1/decisions
      request: [{to: /state, from: ""}]
      response: [{to: /agent, from: /action}]
      then: {deployment: writer, prompt: "Write to {action}."}
"""


def test_a_deployments_own_paths_answer_and_say_whom_they_ask(serving, tmp_path):
    file = tmp_path / "deployment.yaml"
    file.write_text(DEPLOYMENT + RETAIN)
    child = serving(golden.FOLDER / "QNetwork", "--port", "0", "--config", file)
    assert child.stdout.readline() == "POST /choose is /v1/decisions\n"
    assert child.stdout.readline() == "mode Primary, baseline none\n"
    assert child.stdout.readline().startswith("error: /choose asks writer, and where that answers")
    url = child.stdout.readline().split()[5].replace("/v1/decisions", "/choose")
    state = {"task": "page", "languages": ["py"], "success_rate": 0.4}
    body = httpx.post(url, json=state).json()
    assert body["agent"]
    assert body["then"]["error"]["code"] == "Unknown"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("writer", "--peer writer: write NAME=http://HOST:PORT\n"),
        ("writer=localhost:1", "--peer writer=localhost:1: write NAME=http://HOST:PORT\n"),
        (
            "writer=http://a/v1/decisions",
            "--peer writer=http://a/v1/decisions: leave the path out\n",
        ),
        ("reader=http://a", "--peer reader: this PolicyDeployment does not ask it\n"),
    ],
)
def test_a_peer_that_can_not_be_used_is_told(given, message, tmp_path, capsys):
    file = tmp_path / "deployment.yaml"
    file.write_text(DEPLOYMENT + RETAIN)
    folder = str(golden.FOLDER / "QNetwork")
    code = cli.main(["serve", folder, "--config", str(file), "--peer", given])
    assert (code, capsys.readouterr().err) == (2, message)


def test_a_path_that_is_the_servers_own_is_refused(tmp_path, capsys):
    file = tmp_path / "deployment.yaml"
    file.write_text(DEPLOYMENT + RETAIN.replace("path: /choose", "path: /v1/choose"))
    code = cli.main(["serve", str(golden.FOLDER / "QNetwork"), "--config", str(file)])
    assert code == 2
    assert capsys.readouterr().err == (
        f"{file}: PolicyDeployment agents: spec.server.routes[0]: path must be none of the "
        "server's own (/v1, /metrics, /healthz, /readyz, /docs, /redoc, /openapi.json), nor below "
        "one of them\n"
    )


def test_a_peer_is_known_for_all_that_asks_it(tmp_path):
    file = tmp_path / "deployment.yaml"
    scoring = "  scoring: {deployment: reward, version: 2, percent: 5}\n"
    file.write_text(DEPLOYMENT + RETAIN + scoring)
    spec = manifests.deployment(str(file), "agents")
    given = ["writer=http://localhost:8081/", "reward=https://reward"]
    assert [peer.to_wire() for peer in peers.read(spec, given)] == [
        {"deployment": "reward", "version": 2, "url": "https://reward"},
        {"deployment": "writer", "url": "http://localhost:8081"},
    ]
    assert peers.read(spec, []) == []


def test_what_a_deployment_redacts_is_not_kept_here_either(serving, tmp_path):
    log = {"secretRef": {"name": "db"}, "redact": ["/candidates/*"], "retentionDays": 30}
    spec = {**yaml.safe_load(DEPLOYMENT)["spec"], "policy": "plans"}
    document = {**yaml.safe_load(DEPLOYMENT), "spec": {**spec, "server": {"decisionLog": log}}}
    (tmp_path / "deployment.yaml").write_text(json.dumps(document))
    child = serving(golden.FOLDER / "PlanPreference", "--port", "0", "--config", "deployment.yaml")
    child.stdout.readline()
    url = child.stdout.readline().split()[5]
    made = httpx.post(url, json={"candidates": ["a secret plan"]}).json()
    assert made["action"] == "a secret plan"
    kept = until_kept(f"{url}/{made['decisionId']}")
    assert kept["candidates"] == [kept["action"]]
    assert kept["action"].startswith("redacted:")
    assert (tmp_path / "decisions.sqlite3.redaction-key").stat().st_mode & 0o077 == 0


def until_kept(url):
    end = time.monotonic() + 20
    while (answer := httpx.get(url)).status_code != 200:
        assert time.monotonic() < end, answer.text
        time.sleep(0.02)
    return answer.json()
