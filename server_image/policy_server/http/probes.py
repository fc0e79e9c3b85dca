"""Whether the server lives, whether it is ready, and what it counts."""

from typing import Protocol

from fastapi import FastAPI, Response

from policy_server.decisions.service import DecisionService
from policy_server.metrics import Metrics


class Probed(Protocol):
    """What this needs to know of the server."""

    metrics: Metrics
    service: DecisionService | None
    draining: bool
    hang_seconds: float

    @property
    def ready(self) -> bool:
        """Whether new requests should be sent here."""
        ...


def add(app: FastAPI, state: Probed) -> None:
    """Add /healthz, /readyz and /metrics, which callers from outside do not reach."""

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        busy = 0.0 if state.service is None else state.service.busy_seconds
        if busy > state.hang_seconds:
            word = f"the model has been computing for {busy:.0f} s"
            return Response(f"{word}\n", 503, media_type="text/plain")
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        word = "draining" if state.draining else "ok" if state.ready else "loading"
        return Response(f"{word}\n", 200 if state.ready else 503, media_type="text/plain")

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(state.metrics.text(), media_type=state.metrics.content_type)
