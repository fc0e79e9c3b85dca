"""What a test needs to tell a running server, and to read of it."""

import json
from pathlib import Path
from typing import Any

import httpx
from server.artifacts import environment, write_artifact
from server.scripted import SCHEMA


class Told:
    """serving.json, as the kubelet renews it: at once."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "serving.json"

    def write(self, **fields: Any) -> None:
        self.raw(json.dumps(fields))

    def raw(self, text: str) -> None:
        new = self.path.with_name("new")
        new.write_text(text)
        new.replace(self.path)


def text_server(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a server of the scripted text policy, told by a file there."""
    folder.mkdir(parents=True, exist_ok=True)
    sha256 = write_artifact(folder / "artifact", answerSchema=SCHEMA)
    log = folder / "termination-log"
    log.touch()
    told = {"TERMINATION_LOG": str(log), "POLICY_SERVING_PATH": str(folder / "serving.json")}
    return environment(folder / "artifact", sha256, DRAIN_SECONDS="0", **told, **more)


async def counts(client: httpx.AsyncClient, name: str, **labels: str) -> dict[str, float]:
    """Return the samples of a metric that have these labels: by all other labels but ours."""
    found = {}
    for line in (await client.get("/metrics")).text.splitlines():
        series, _, value = line.rpartition(" ")
        base, _, inside = series.partition("{")
        if base != name:
            continue
        have = dict(pair.split("=", 1) for pair in inside.rstrip("}").split(","))
        have = {key: text.strip('"') for key, text in have.items()}
        if labels.items() <= have.items():
            rest = {"policy", "version", *labels}
            found[",".join(have[key] for key in sorted(have) if key not in rest)] = float(value)
    return found
