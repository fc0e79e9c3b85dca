"""The demo's chapters. Each one does its part for real, tells it, and returns what it saw.

`demo.py` plays them for a person; tests/e2e plays the same ones and asserts on what they return.
"""

import csv
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from shell import ROOT, DemoError, Kubectl, Object, chapter, condition, quote, say

NAMESPACE = "ml"
SYSTEM = "policy-operator-system"
EXAMPLE = "examples/review-forge"
POLICY = "review-forge"
WHOLE = 100  # percent


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    name: str
    version: int | None
    reason: str
    message: str
    metrics: dict[str, float]
    attempts: int


@dataclass(frozen=True)
class Load:
    """What the load generator counted."""

    sent: int
    ok: int
    bad: int
    failed: int
    versions: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RolledBack:
    """What a rollback cost."""

    alert: str
    bad_answers: int
    seconds_exposed: float
    weights: dict[str, int]
    rejected: list[int]


def _cluster(*arguments: str) -> str:
    """Run hack/cluster, its progress on our output, and return what it prints at the end."""
    done = subprocess.run(
        [sys.executable, "hack/cluster/cluster.py", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DemoError(f"hack/cluster/cluster.py {' '.join(arguments)} failed; see above")
    return done.stdout.strip()


def bring_up() -> Kubectl:
    """Bring up the cluster, build and load the images; return a kubectl for it."""
    chapter("1/7  A real Kubernetes, and the three images from their Dockerfiles")
    _cluster("up", "--images")
    kubectl = connect()
    kubectl("get", "nodes", "-o", "wide", show=True)
    return kubectl


def connect() -> Kubectl:
    """Return a kubectl for the cluster that is up."""
    binaries = _cluster("binaries", "kubectl").splitlines()[-1]
    return Kubectl(f"{binaries}/kubectl", _cluster("kubeconfig").splitlines()[-1])


def start_over(kubectl: Kubectl) -> None:
    """Delete what an earlier demo left; artifacts stay, so numbers go on where they stopped."""
    if not kubectl("get", "namespace", NAMESPACE, "--ignore-not-found"):
        return
    if kubectl("get", "policyversion", "-n", NAMESPACE, "-o", "name"):
        say("an earlier demo's objects are deleted; its artifacts stay, and numbers never repeat")
    for what in ("deployment/review-forge-load", "policydeployment", "policytraining", "job"):
        every = () if "/" in what else ("--all",)
        kubectl("delete", what, *every, "-n", NAMESPACE, "--ignore-not-found", "--wait")
    kubectl("delete", "policyversion", "--all", "-n", NAMESPACE, "--wait")


def install(kubectl: Kubectl) -> None:
    """Install the resources and the operator."""
    chapter("2/7  Install: three resource types and one operator")
    kubectl("apply", "--server-side", "-k", "manifests/overlays/local", show=True)
    kubectl(
        "rollout", "status", "deployment/policy-operator", "-n", SYSTEM, "--timeout=180s", show=True
    )


def _progress(obj: Object) -> tuple[str | None, str | None]:
    done = condition(obj, "Succeeded")
    return (done["status"], done["reason"]) if done else (None, None)


def _train(kubectl: Kubectl, name: str, timeout: float) -> Trained:
    ended = kubectl.until(
        "policytraining",
        name,
        "-n",
        NAMESPACE,
        met=lambda obj: _progress(obj)[0] in {"True", "False"},
        timeout=timeout,
        wanted=f"PolicyTraining {name} to end",
    )
    status = ended["status"]
    verdict = condition(ended, "Succeeded")
    assert verdict is not None
    for criterion in status.get("exitCriteria", []):
        sign = "met" if criterion["met"] else "NOT met"
        say(
            f"exit criterion {criterion['metric']} {criterion['wanted']}: "
            f"{criterion.get('observed', float('nan')):.3f}, {sign}"
        )
    return Trained(
        name=name,
        version=status.get("version"),
        reason=verdict["reason"],
        message=verdict.get("message", ""),
        metrics={m["name"]: m["value"] for m in status.get("metrics", [])},
        attempts=len(status.get("attempts", [])),
    )


def expect_accepted(*trainings: Trained) -> None:
    """Stop the story when a training that should have passed did not.

    Raises:
        DemoError: with the training's own reason.
    """
    for training in trainings:
        if training.reason != "Succeeded":
            raise DemoError(f"{training.name} ended with {training.reason}: {training.message}")


def make_data(kubectl: Kubectl) -> None:
    """Synthesize the example's data in the cluster."""
    chapter("3/7  Data: reviews that are good, moderate and poor, in equal parts, from a seed")
    kubectl("apply", "--server-side", "-k", f"{EXAMPLE}/data", show=True)
    kubectl(
        "wait",
        "job/review-forge-data",
        "-n",
        NAMESPACE,
        "--for=condition=complete",
        "--timeout=300s",
    )
    for line in kubectl("logs", "job/review-forge-data", "-n", NAMESPACE).splitlines():
        quote(line)


def train(kubectl: Kubectl) -> tuple[Trained, Trained]:
    """Train a first version by SFT and, on top of it, a second one by GRPO."""
    chapter("4/7  Two trainings: SFT, and GRPO that waits for it; each two pods under DeepSpeed")
    kubectl("apply", "--server-side", "-k", f"{EXAMPLE}/training", show=True)
    with kubectl.following("ptrain", "-n", NAMESPACE):
        sft = _train(kubectl, "review-forge-sft", timeout=900)
        grpo = _train(kubectl, "review-forge-grpo", timeout=900)
    kubectl("get", "pver", "-n", NAMESPACE, show=True)
    return sft, grpo


def _promoted(version: int | None) -> Callable[[Object], bool]:
    """Return whether this version has all the traffic and nothing is being rolled out."""

    def met(obj: Object) -> bool:
        status = obj.get("status", {})
        return (
            status.get("stable", {}).get("version") == version
            and status["stable"]["weight"] == WHOLE
            and "candidate" not in status
        )

    return met


def deploy_first(kubectl: Kubectl, first: Trained) -> Object:
    """Serve the first version and put load on it."""
    chapter(f"5/7  Version {first.version} serves, behind a Gateway, under load")
    kubectl("apply", "--server-side", "-k", f"{EXAMPLE}/serving", show=True)
    served = kubectl.until(
        "policydeployment",
        POLICY,
        "-n",
        NAMESPACE,
        met=_promoted(first.version),
        timeout=300,
        wanted=f"version {first.version} to serve",
    )
    kubectl("rollout", "status", "deployment/review-forge-load", "-n", NAMESPACE, "--timeout=120s")
    say("a load generator now asks through Envoy; each answer is checked against the answer schema")
    return served


def _target(kubectl: Kubectl, training: Trained) -> None:
    kubectl(
        "patch",
        "policydeployment",
        POLICY,
        "-n",
        NAMESPACE,
        "--type=merge",
        "-p",
        json.dumps({"spec": {"target": {"training": {"name": training.name}}}}),
        show=True,
    )


def load_so_far(kubectl: Kubectl) -> Load:
    """Return what the load generator has counted since its start."""
    sent = ok = bad = failed = 0
    versions: Counter[str] = Counter()
    for line in kubectl("logs", "deployment/review-forge-load", "-n", NAMESPACE).splitlines():
        second = json.loads(line)
        if "sent" not in second or second.get("summary"):
            continue
        sent, ok = sent + second["sent"], ok + second["ok"]
        bad, failed = bad + second["bad"], failed + second["failed"]
        versions.update(second["versions"])
    return Load(sent, ok, bad, failed, dict(versions))


def _tell_weights(seen: set[tuple[object, ...]]) -> Callable[[Object], None]:
    """Return a listener that says each new weight of the candidate once."""

    def listen(obj: Object) -> None:
        status = obj.get("status", {})
        candidate, stable = status.get("candidate"), status.get("stable")
        fact = (
            status.get("state"),
            candidate and (candidate["version"], candidate["weight"]),
            stable and (stable["version"], stable["weight"]),
        )
        if fact in seen:
            return
        seen.add(fact)
        parts = [
            f"version {part['version']}: {part['weight']} %" for part in (stable, candidate) if part
        ]
        say(f"{status.get('state')}: {', '.join(parts)}")

    return listen


def roll_out(kubectl: Kubectl, better: Trained) -> Load:
    """Let a version take over, step by step, under load; return what the load saw."""
    chapter(f"6/7  Canary: version {better.version} takes 10 %, then 50 %, then everything")
    _target(kubectl, better)
    kubectl.until(
        "policydeployment",
        POLICY,
        "-n",
        NAMESPACE,
        met=_promoted(better.version),
        seen=_tell_weights(set()),
        timeout=300,
        wanted=f"version {better.version} to be promoted",
    )
    counted = load_so_far(kubectl)
    say(
        f"{counted.sent} requests so far, {counted.failed} failed, {counted.bad} bad answers; "
        f"answered by version: {counted.versions}"
    )
    return counted


def train_bad(kubectl: Kubectl) -> Trained:
    """Train a version on a reward that only counts length; its exit criterion is met."""
    chapter("7/7  A bad version: its reward only counts length, and its exit criterion is met")
    kubectl("apply", "--server-side", "-k", f"{EXAMPLE}/bad", show=True)
    with kubectl.following("ptrain", "review-forge-bad", "-n", NAMESPACE):
        return _train(kubectl, "review-forge-bad", timeout=900)


def _bad_answers(lines: Iterable[str]) -> list[datetime]:
    """Return when each bad answer was given, from a server's access log."""
    times = []
    for line in lines:
        if '"decision"' not in line:
            continue
        entry = json.loads(line)
        if entry.get("message") == "decision" and not entry["valid"]:
            times.append(datetime.fromisoformat(entry["time"]))
    return sorted(times)


def _rejections(obj: Object, version: int | None) -> list[str]:
    rejected = obj.get("status", {}).get("rejected", [])
    return [r["reason"] for r in rejected if r["version"] == version]


def roll_back(kubectl: Kubectl, bad: Trained) -> RolledBack:
    """Send the bad version out; watch the alert send it back; measure from the access log."""
    say(f"version {bad.version} is accepted like any other, and somebody deploys it:")
    _target(kubectl, bad)
    server = f"{POLICY}-v{bad.version}"

    def back(obj: Object) -> bool:
        return bool(_rejections(obj, bad.version)) and "candidate" not in obj["status"]

    kubectl.until(
        "deployment",
        server,
        "-n",
        NAMESPACE,
        met=lambda obj: obj.get("status", {}).get("readyReplicas", 0) > 0,
        timeout=180,
        wanted=f"the server of version {bad.version} to be ready",
    )
    with kubectl.logs("-f", f"deployment/{server}", "-n", NAMESPACE) as lines:
        ended = kubectl.until(
            "policydeployment",
            POLICY,
            "-n",
            NAMESPACE,
            met=back,
            seen=_tell_weights(set()),
            timeout=180,
            wanted=f"version {bad.version} to be rolled back",
        )
        route = kubectl.get("httproute", POLICY, "-n", NAMESPACE)
        weights = {
            backend["name"]: backend["weight"]
            for backend in route["spec"]["rules"][0]["backendRefs"]
        }
        # The pod's log ends when the candidate is scaled away; what was in flight is then in it.
        kubectl("wait", f"deployment/{server}", "-n", NAMESPACE, "--for=delete", "--timeout=120s")
    times = _bad_answers(lines)
    seconds = (times[-1] - times[0]).total_seconds() if times else 0.0
    (reason,) = _rejections(ended, bad.version)
    say(f"rejected: {reason}")
    say(f"{len(times)} bad answers, {seconds:.1f} s from the first to the last, by the access log")
    kubectl("get", "pver", "-n", NAMESPACE, show=True)
    kubectl("get", "pdep", "-n", NAMESPACE, show=True)
    return RolledBack(
        alert=reason,
        bad_answers=len(times),
        seconds_exposed=seconds,
        weights=weights,
        rejected=[r["version"] for r in ended["status"]["rejected"]],
    )


def show_log(kubectl: Kubectl) -> dict[int, int]:
    """Show what is in the decision log; return how many decisions of each version."""
    if not kubectl("get", "statefulset", "postgres", "-n", "databases", "--ignore-not-found"):
        return {}  # a cluster of the user's own, whose database they know
    say("every decision is in the decision log, with the share of traffic that its version had:")
    query = (
        "SELECT version, role, weight, count(*) AS decisions, "
        "count(*) FILTER (WHERE NOT valid) AS bad, round(avg(latency_ms)) AS ms "
        f"FROM decisions WHERE deployment = '{POLICY}' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    asked = ("psql", "--host=/tmp", "--username=policy", "decisions", "--csv", "--command", query)
    text = kubectl("exec", "-n", "databases", "postgres-0", "--", *asked, show=True)
    found: dict[int, int] = {}
    for row in csv.DictReader(text.splitlines()):
        version = int(row["version"])
        found[version] = found.get(version, 0) + int(row["decisions"])
    return found


def whats_next() -> None:
    """Say what to try now."""
    chapter("That was all of it. Try next:")
    for line in (
        "export KUBECONFIG=$(python3 hack/cluster/cluster.py kubeconfig)",
        "kubectl explain policytraining.spec",
        "kubectl exec -it -n databases postgres-0 -- psql -h /tmp -U policy decisions   # the log",
        "kubectl describe ptrain review-forge-grpo -n ml",
        "kubectl describe pdep review-forge -n ml          # its history, its rejected versions",
        "kubectl annotate pdep review-forge -n ml policyops.dev/retry=<rejected version>",
        "make clean                                        # remove it all; the cache stays",
    ):
        quote(line)
