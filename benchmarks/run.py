"""Measure the operator on a real control plane, beside a floor; print a table, write RESULTS.md.

    python benchmarks/run.py [--trainings 500] [--deployments 100] [--paced 100]

Everything runs on one machine at the same time: etcd, the API server, the controller manager, the
operator and this program share its processors. So the times are upper bounds, and what counts are
the ratios to the floor, which was measured in the same run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
for folder in ("api", "operator", "tests", "hack/cluster", "benchmarks"):
    sys.path.insert(0, str(REPO / folder))

from controlplane import ControlPlane  # noqa: E402
from integration.arrivals import Arrivals  # noqa: E402
from integration.client import Api, Obj, new_namespace, until  # noqa: E402
from integration.kubelet import PlayedNode  # noqa: E402
from integration.monitoring import PlayedPrometheus  # noqa: E402
from integration.objects import accepted, deployment, notification, version  # noqa: E402
from integration.operator_process import OperatorProcess  # noqa: E402
from integration.prepare import install, make_gateway  # noqa: E402
from integration.rollout import Alertmanager, weights  # noqa: E402
from measure import Latencies, burst, paced  # noqa: E402

Row = tuple[str, str, str, str]
HOLD = {"steps": [{"name": "canary", "weight": 10, "holdSeconds": 3600}]}
PACE_SECONDS = 0.1
ALERT_SECONDS = 0.1


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"[{datetime.now(UTC):%H:%M:%S}] {text}", flush=True)


@contextmanager
def floor(cluster: ControlPlane, folder: Path, job: Obj | None = None) -> Iterator[None]:
    """Run the floor; it creates this Job, or the smallest one."""
    command = [sys.executable, "-m", "kopf", "run", "-A", "--standalone", "--quiet"]
    with (folder / "floor.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, str(REPO / "benchmarks" / "floor.py")],
            env={
                **os.environ,
                "KUBECONFIG": str(cluster.kubeconfig),
                "FLOOR_JOB": "" if job is None else json.dumps(job),
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def operator(
    api: Api, cluster: ControlPlane, folder: Path, prometheus: PlayedPrometheus
) -> Iterator[OperatorProcess]:
    """Run our operator."""
    home = new_namespace(api, "operator")
    place = folder / home
    place.mkdir()
    process = OperatorProcess(
        cluster.kubeconfig, home, place, {"POLICYOPS_PROMETHEUS_URL": prometheus.url}
    )
    process.start()
    try:
        process.wait_ready()
        yield process
    finally:
        process.stop()


def warm(api: Api, jobs: Arrivals) -> None:
    """Wait until whoever creates Jobs does so: watches are open, connections made."""
    paced(api, new_namespace(api, "warm"), jobs, count=10, every=0.05)


def a_job(api: Api) -> Obj:
    """Return a Job of our operator's as one would create it: without what the API server adds."""
    job = api.list("Job")[0]
    for gone in ("selector", "suspend"):
        job["spec"].pop(gone, None)
    pods = job["spec"]["template"]["metadata"]
    for labels in (job["metadata"]["labels"], pods["labels"]):
        for added in [key for key in labels if key.endswith(("controller-uid", "job-name"))]:
            del labels[added]
    metadata = {"labels": job["metadata"]["labels"]}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job["spec"]}


def trainings(
    api: Api, jobs: Arrivals, count_paced: int, count_burst: int
) -> tuple[Latencies, float]:
    """Return the latencies of paced trainings and the seconds of a burst."""
    warm(api, jobs)
    one, many = new_namespace(api, "paced"), new_namespace(api, "burst")
    latencies = paced(api, one, jobs, count=count_paced, every=PACE_SECONDS)
    seconds = burst(api, many, jobs, count=count_burst)
    return latencies, seconds


def clear(api: Api) -> None:
    """Delete what a round has made, and wait until it is gone."""
    prefixes = ("warm-", "paced-", "burst-", "alerts-")
    for found in api.list("Namespace"):
        if found["metadata"]["name"].startswith(prefixes):
            api.delete("Namespace", None, found["metadata"]["name"])
    for kind in ("PolicyTraining", "PolicyDeployment", "Job", "Pod"):
        until(f"no {kind} is left", lambda kind=kind: api.list(kind) == [], seconds=300)


def roll_out(api: Api, namespace: str, count: int) -> None:
    """Bring deployments to their canary step, each of a policy of its own."""
    for index in range(count):
        policy = f"policy-{index:03}"
        for number in (1, 2):
            name = api.create(version(namespace, number, policy))["metadata"]["name"]
            api.patch_status("PolicyVersion", namespace, name, accepted())
        api.create(deployment(namespace, policy, policy=policy, rollout=HOLD))

    def states(wanted: str) -> bool:
        found = [d.get("status", {}).get("state") for d in api.list("PolicyDeployment", namespace)]
        return found == [wanted] * count

    until("version 1 serves everywhere", lambda: states("Promoted"), seconds=300)
    for index in range(count):
        spec = {"spec": {"target": {"version": 2}}}
        api.patch("PolicyDeployment", namespace, f"policy-{index:03}", spec)
    until("version 2 is a canary everywhere", lambda: states("Canary"), seconds=300)


def alert(
    api: Api, process: OperatorProcess, namespace: str, count: int
) -> tuple[Latencies, Latencies]:
    """Fire an alert for each deployment; return POST → 2xx, and POST → weights seen by a watch."""

    def back(route: Obj) -> bool:
        return weights(route) == {1: 100, 2: 0}

    arrivals = Arrivals(api, "HTTPRoute", back)
    alertmanager = Alertmanager(api, process)
    began: dict[str, float] = {}
    answered: list[float] = []
    pause = threading.Event()
    try:
        alertmanager.notify("nobody")  # opens the connection
        for index in range(count):
            name = f"policy-{index:03}"
            body = notification(namespace, name, version=2)
            began[name] = time.perf_counter()
            answer = alertmanager.post(body)
            answered.append(time.perf_counter() - began[name])
            assert answer.status_code == 200, answer.text
            pause.wait(ALERT_SECONDS)
        until("all weights are back", lambda: len(arrivals.of(namespace)) >= count)
    finally:
        alertmanager.close()
    seen = arrivals.of(namespace)
    written = tuple(sorted(seen[name] - at for name, at in began.items()))
    return Latencies(tuple(sorted(answered))), Latencies(written)


def measure(cluster: ControlPlane, folder: Path, options: argparse.Namespace) -> list[Row]:
    """Run everything; return the table's rows: what, ours, floor, ratio or aim."""
    api = Api(cluster.kubeconfig)
    node, prometheus = PlayedNode(api), PlayedPrometheus(api)
    prometheus.start()
    node.start()
    make_gateway(api)
    jobs = Arrivals(api, "Job", lambda job: job["metadata"]["name"].endswith("-0"))
    rows: list[Row] = []
    try:
        what = f"{options.paced} paced trainings, then {options.trainings} at once"
        say(f"floor with the smallest Job: {what}")
        with floor(cluster, folder):
            _, least = trainings(api, jobs, options.paced, options.trainings)
        clear(api)
        say("operator: the same")
        with operator(api, cluster, folder, prometheus) as process:
            idle = process.rss()
            ours, ours_burst = trainings(api, jobs, options.paced, options.trainings)
            stall = process.metrics()["policyops_loop_stall_seconds"]
            full = process.rss()
        job = a_job(api)
        clear(api)
        say("floor with the operator's Job: the same")
        with floor(cluster, folder, job):
            low, low_burst = trainings(api, jobs, options.paced, options.trainings)
        clear(api)
        for number, aim in ((50, 1.2), (95, 1.5)):
            mine, base = ours.percentile(number), low.percentile(number)
            rows.append(
                (
                    f"PolicyTraining → Job, paced, p{number}",
                    f"{mine * 1000:.1f} ms",
                    f"{base * 1000:.1f} ms",
                    f"{mine / base:.2f}x (aim ≤ {aim})",
                )
            )
        rate, base_rate = options.trainings / ours_burst, options.trainings / low_burst
        rows += [
            (
                f"{options.trainings} at once → last Job",
                f"{ours_burst:.2f} s",
                f"{low_burst:.2f} s",
                f"{ours_burst / low_burst:.2f}x",
            ),
            (
                "burst rate",
                f"{rate:.0f} /s",
                f"{base_rate:.0f} /s",
                f"{rate / base_rate:.2f}x (aim ≥ 0.75)",
            ),
            (
                "burst rate, beside a floor that makes the smallest Job",
                f"{rate:.0f} /s",
                f"{options.trainings / least:.0f} /s",
                f"{least / ours_burst:.2f}x",
            ),
            ("longest stall of the event loop", f"{stall * 1000:.0f} ms", "", "aim ≤ 100 ms"),
        ]
        say(f"{options.deployments} deployments to their canary step")
        with operator(api, cluster, folder, prometheus) as process:
            namespace = new_namespace(api, "alerts")
            roll_out(api, namespace, options.deployments)
            wide = process.rss()
            say("an alert for each")
            answered, written = alert(api, process, namespace, options.deployments)
        clear(api)
        at = f"at {options.deployments} deployments"
        rows += [
            (f"alert POST → weights written, p50 ({at})", _ms(written, 50), "", ""),
            (f"alert POST → weights written, p99 ({at})", _ms(written, 99), "", "aim ≤ 100 ms"),
            (f"alert POST → 2xx, p99 ({at})", _ms(answered, 99), "", ""),
            ("operator RSS, idle", f"{idle:.0f} MiB", "", ""),
            (f"operator RSS, {options.trainings} trainings", f"{full:.0f} MiB", "", ""),
            (f"operator RSS, {options.deployments} deployments", f"{wide:.0f} MiB", "", ""),
        ]
    finally:
        node.stop()
        prometheus.stop()
        api.close()
    return rows


def _ms(latencies: Latencies, number: int) -> str:
    return f"{latencies.percentile(number) * 1000:.1f} ms"


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    head: Row = ("what", "operator", "floor", "ratio")
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(row: Row) -> str:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        return f"| {' | '.join(cells)} |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(head), rule, *(line(row) for row in rows)])


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Measure the operator beside a floor.")
    parser.add_argument("--trainings", type=int, default=500, help="trainings of the burst")
    parser.add_argument("--paced", type=int, default=100, help="paced trainings")
    parser.add_argument("--deployments", type=int, default=100, help="deployments")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say("starting etcd, kube-apiserver and kube-controller-manager")
        with ControlPlane(folder / "controlplane") as cluster:
            install(cluster)
            text = table(measure(cluster, folder, options))
    print(f"\n{text}")
    cores = len(os.sched_getaffinity(0))
    results = f"""# Results

Measured by `make bench` on {datetime.now(UTC):%Y-%m-%d}, on {cores} cores that etcd, the API
server, the controller manager, the operator and the benchmark share (load average {load:.1f} at its
start). The floor is `floor.py`: a bare `@kopf.on.event` handler that does nothing but create the
Job that our operator would create; our operator also creates a ConfigMap, numbers the version,
writes the status and tells an Event. Most of a burst is the API server's own work: how much of it a
larger Job costs, the floor with the smallest Job (one container, nothing else) shows.

{text}
"""
    (REPO / "benchmarks" / "RESULTS.md").write_text(results)


if __name__ == "__main__":
    main()
