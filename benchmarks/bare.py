"""The floor of benchmarks/serving.py: uvicorn alone, and the arithmetic alone, without a check.

    python benchmarks/bare.py KIND FOLDER PORT

Each request's JSON is parsed, the model computes on one fixed row, and a small JSON is answered: no
validation, encoding, reasons, metrics, logs, or decision log.
"""

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from safetensors.numpy import load_file
from xgboost import Booster, DMatrix

Send = Callable[[dict[str, Any]], Awaitable[None]]
Compute = Callable[[dict[str, Any]], str]
HEADERS = [(b"content-type", b"application/json")]


def network(file: Path) -> Compute:
    """Return what multiplies a row through the layers of a file."""
    weights = load_file(file)
    layers = [
        (weights[f"{place}.weight"].T, weights[f"{place}.bias"])
        for place in range(len(weights) // 2)
    ]
    row = np.linspace(-1, 1, layers[0][0].shape[0], dtype=np.float32)

    def compute(_body: dict[str, Any]) -> str:
        found = row
        for place, (matrix, bias) in enumerate(layers):
            found = found @ matrix + bias
            if place + 1 < len(layers):
                found = np.maximum(found, 0)
        return str(int(found.argmax()))

    return compute


def trees(file: Path) -> Compute:
    """Return what asks the trees of a file."""
    booster = Booster(model_file=file)
    booster.set_param({"nthread": 1})
    row = np.array([[20.0, 1.0, 3.0]], dtype=np.float32)
    types, names = booster.feature_types, booster.feature_names

    def compute(_body: dict[str, Any]) -> str:
        matrix = DMatrix(row, feature_names=names, feature_types=types, enable_categorical=True)
        return str(float(booster.predict(matrix)[0]))

    return compute


def words(file: Path) -> Compute:
    """Return what adds up the weights of each candidate's words."""
    known = json.loads(file.read_text())["vocabulary"]
    weights = {entry["word"]: entry["weight"] for entry in known}

    def compute(body: dict[str, Any]) -> str:
        plans = body["candidates"]
        return max(plans, key=lambda plan: sum(weights.get(w, 0.0) for w in plan.lower().split()))

    return compute


KINDS: dict[str, Callable[[Path], Compute]] = {
    "QNetwork": lambda folder: network(folder / "q_network.safetensors"),
    "OfferPolicy": lambda folder: network(folder / "offer_policy.safetensors"),
    "Classifier": lambda folder: trees(folder / "trees.json"),
    "PlanPreference": lambda folder: words(folder / "preference_model.json"),
}


def main() -> None:
    """Serve until killed."""
    kind, folder, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    compute = KINDS[kind](folder)

    async def app(
        _scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send
    ) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        said = {"action": compute(json.loads(body))} if body else {}
        answer = json.dumps(said).encode()
        head = [*HEADERS, (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": answer})

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", lifespan="off")


if __name__ == "__main__":
    main()
