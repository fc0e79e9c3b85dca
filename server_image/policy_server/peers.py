"""Asks the servers of other policies in the same namespace."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from policy_server.peer_metrics import REFUSED, TIMEOUT, UNREACHABLE

if TYPE_CHECKING:
    import httpx

CONNECTIONS = 32  # at a time; what finds none waits for one, within its own time


@dataclass(frozen=True)
class Unanswered:
    """Why another policy has no answer."""

    reason: str
    """As a metric's label: one of those in peer_metrics."""
    code: str
    """One CamelCase word for programs."""
    message: str
    """A sentence for people."""


class Peers:
    """One pool of connections to all of them; without a call there is none."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    async def ask(
        self,
        url: str,
        path: str,
        body: Mapping[str, Any],
        *,
        milliseconds: int,
        authorization: str | None = None,
    ) -> dict[str, Any] | Unanswered:
        """Return what another policy answers, or why it does not. It never raises.

        Args:
            url: Where its server is.
            path: The call's.
            body: The call's.
            milliseconds: How long it may take, waiting for a connection included.
            authorization: The header by which a caller proves who it is.
        """
        import httpx  # noqa: PLC0415 - a tenth of a server's start, and few ask others

        if self._client is None:
            limits = httpx.Limits(max_connections=CONNECTIONS)
            # No proxy of the environment: these are Services beside us.
            self._client = httpx.AsyncClient(limits=limits, trust_env=False)
        headers = {"content-type": "application/json"}
        if authorization is not None:
            headers["authorization"] = authorization
        # Not httpx's own, which raises where a text has half of a surrogate pair, as JSON may.
        content = json.dumps(body).encode()
        seconds = milliseconds / 1000
        try:
            # httpx has a time for each of its steps, and this one is for all of them.
            async with asyncio.timeout(seconds):
                response = await self._client.post(
                    url + path, content=content, headers=headers, timeout=seconds
                )
        except (TimeoutError, httpx.TimeoutException):
            message = f"it has not answered within {milliseconds} ms"
            return Unanswered(TIMEOUT, "Timeout", message)
        except (httpx.HTTPError, httpx.InvalidURL):
            return Unanswered(UNREACHABLE, "Unreachable", "its server can't be reached")
        return _read(response.status_code, response.content)

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def _read(status: int, content: bytes) -> dict[str, Any] | Unanswered:
    """Return an answer, or what its server said instead, in its own words."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        message = f"it answered with status {status} and no JSON object"
        return Unanswered(REFUSED, "NoAnswer", message)
    if status == HTTPStatus.OK:
        return told
    error = told.get("error")
    said = error if isinstance(error, dict) else {}
    code, message = said.get("code", "NoAnswer"), said.get("message", f"status {status}")
    return Unanswered(REFUSED, str(code), str(message))
