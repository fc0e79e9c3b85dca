"""The floor: the least that an operator in kopf can do for a new object, which is to create a Job.

No status, no ConfigMap, no Service, no numbering, no retry: a bare `@kopf.on.event` handler with a
bare HTTP client. Whoever is as fast as this has nothing left to win. The Job is the one that our
operator makes, which FLOOR_JOB holds as JSON: what the API server and the Job controller spend on a
Job grows with it. Without that it is the smallest Job. Run with `kopf run`.
"""

import json
import os
import ssl
import tempfile
from base64 import b64decode
from pathlib import Path
from typing import Any

import aiohttp
import kopf

_state: dict[str, Any] = {}


def _config() -> dict[str, Any]:
    config: dict[str, Any] = json.loads(Path(os.environ["KUBECONFIG"]).read_text())
    return config


def _tls(config: dict[str, Any]) -> ssl.SSLContext:
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    authority = b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile(suffix=".pem") as pair:
        for part in ("client-certificate-data", "client-key-data"):
            pair.write(b64decode(user[part]))
        pair.flush()
        context.load_cert_chain(pair.name)
    return context


def _job() -> dict[str, Any]:
    """Return what every Job has."""
    if given := os.environ.get("FLOOR_JOB"):
        job: dict[str, Any] = json.loads(given)
        return job
    container = {"name": "trainer", "image": "policyops/trainer:dev"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }


@kopf.on.startup()
async def connect(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Open the connections; post no events, as our operator."""
    settings.posting.enabled = False
    settings.queueing.idle_timeout = 0.5
    config = _config()
    connector = aiohttp.TCPConnector(ssl=_tls(config))
    _state["server"] = config["clusters"][0]["cluster"]["server"]
    _state["session"] = aiohttp.ClientSession(connector=connector)
    _state["made"] = set()
    _state["job"] = _job()


@kopf.on.event("policyops.dev", "v1alpha1", "policytrainings")
async def create_job(event: Any, **_: Any) -> None:
    """Create the object's Job, once."""
    meta = event["object"]["metadata"]
    if event["type"] == "DELETED" or meta["uid"] in _state["made"]:
        return
    _state["made"].add(meta["uid"])
    owner = {
        "apiVersion": "policyops.dev/v1alpha1",
        "kind": "PolicyTraining",
        "name": meta["name"],
        "uid": meta["uid"],
    }
    wanted = _state["job"]
    known = {**wanted["metadata"], "name": f"{meta['name']}-0", "ownerReferences": [owner]}
    job = {**wanted, "metadata": known}
    url = f"{_state['server']}/apis/batch/v1/namespaces/{meta['namespace']}/jobs"
    async with _state["session"].post(url, json=job) as answer:
        await answer.read()
        answer.raise_for_status()
