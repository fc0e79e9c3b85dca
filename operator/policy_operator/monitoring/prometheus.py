"""Ask Prometheus, slowly: are our alert rules loaded, and which of our alerts fire?

The webhook is how an alert arrives in time. This is the backstop for one that got lost, and the
only way to know that alerts could fire at all.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import aiohttp
from policy_api import reasons
from policy_api.keys import ALERT_ANNOTATION_RULES

from policy_operator.machinery.cache import Cache
from policy_operator.machinery.queue import Key, Queue, utcnow
from policy_operator.monitoring.alerts import owner, to_signal
from policy_operator.monitoring.types import Monitoring, Signal

log = logging.getLogger(__name__)

Id = tuple[str, str]

INTERVAL_SECONDS = 10.0
# While a candidate waits for its rules: they are loaded within a second or two.
HURRY_SECONDS = 1.0
# One lost answer is no loss of monitoring; three are.
PATIENCE_SECONDS = 35.0
TIMEOUT = aiohttp.ClientTimeout(total=5)


@dataclass(frozen=True)
class Loaded:
    """The rules of one deployment as Prometheus has them."""

    checksum: str | None
    """What all of them carry; None when they differ or were not evaluated yet."""
    error: str = ""
    """Why one of them can't be evaluated."""
    holds: dict[str, float] = field(default_factory=dict)
    """`for` in seconds by alert."""


@dataclass(frozen=True)
class Snapshot:
    """What Prometheus said at one time."""

    asked_at: datetime
    rules: dict[Id, Loaded]
    signals: dict[Id, tuple[Signal, ...]]


def parse_rules(data: dict[str, Any]) -> dict[Id, Loaded]:
    """Read the data of GET /api/v1/rules; rules of others are left out."""
    found: dict[Id, list[dict[str, Any]]] = {}
    for group in data["groups"]:
        for rule in group["rules"]:
            key = owner(rule.get("labels") or {})
            if key is not None and rule.get("type", "alerting") == "alerting":
                found.setdefault(key, []).append(rule)
    loaded = {}
    for key, rules in found.items():
        sums = {(r.get("annotations") or {}).get(ALERT_ANNOTATION_RULES) for r in rules}
        evaluated = all(r.get("health") == "ok" for r in rules)
        loaded[key] = Loaded(
            checksum=sums.pop() if len(sums) == 1 and evaluated else None,
            error=next((r["lastError"] for r in rules if r.get("lastError")), ""),
            holds={r["name"]: float(r.get("duration") or 0) for r in rules},
        )
    return loaded


def parse_alerts(data: dict[str, Any], rules: dict[Id, Loaded]) -> dict[Id, tuple[Signal, ...]]:
    """Read the data of GET /api/v1/alerts: those of ours that fire.

    Prometheus says since when an expression holds; the alert fires `for` seconds later.
    """
    found: dict[Id, tuple[Signal, ...]] = {}
    for alert in data["alerts"]:
        key = owner(alert["labels"])
        if key is None or alert["state"] != "firing":
            continue
        holds = rules[key].holds if key in rules else {}
        hold = holds.get(alert["labels"].get("alertname", ""), 0.0)
        signal = to_signal(
            alert["labels"],
            alert.get("annotations") or {},
            firing=True,
            since=datetime.fromisoformat(alert["activeAt"]) + timedelta(seconds=hold),
        )
        found[key] = (*found.get(key, ()), signal)
    return found


class Monitor:
    """The last answer, and the loop that asks."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str | None,
        cache: Cache,
        queue: Queue,
        now: Callable[[], datetime] = utcnow,
    ) -> None:
        self._http = http
        self._url = url.rstrip("/") if url else None
        self._cache = cache
        self._queue = queue
        self._now = now
        self._last: Snapshot | None = None
        self._error = "it was not asked yet"
        self._hurry = asyncio.Event()
        self.webhook_trouble = ""
        """Why no alert can arrive by webhook, if so; they are heard of by asking, 10 s later."""

    def about(self, namespace: str, name: str, now: datetime) -> Monitoring:
        """Return what is known about one deployment's alerts."""
        if self._url is None:
            return Monitoring(
                False, reasons.NOT_CONFIGURED, "the operator has no POLICYOPS_PROMETHEUS_URL"
            )
        last = self._last
        if last is None or (now - last.asked_at).total_seconds() > PATIENCE_SECONDS:
            return Monitoring(
                False, reasons.PROMETHEUS_UNREACHABLE, f"Prometheus at {self._url}: {self._error}"
            )
        loaded = last.rules.get((namespace, name))
        return Monitoring(
            available=True,
            reason=reasons.REACHABLE,
            message=self.webhook_trouble,
            rules=loaded.checksum if loaded is not None else None,
            rules_error=loaded.error if loaded is not None else "",
            asked_at=last.asked_at,
            signals=last.signals.get((namespace, name), ()),
        )

    def hurry(self) -> None:
        """Ask again soon: somebody waits for rules to be loaded."""
        self._hurry.set()

    async def _get(self, path: str, **query: str) -> dict[str, Any]:
        async with self._http.get(f"{self._url}{path}", params=query, timeout=TIMEOUT) as response:
            text = await response.text()
            if response.status != 200:  # noqa: PLR2004 - HTTP's OK
                raise OSError(f"{path}: HTTP {response.status}: {text[:200]}")
            data: dict[str, Any] = json.loads(text)["data"]
            return data

    async def ask(self) -> Snapshot:
        """Ask once.

        Raises:
            OSError, TimeoutError, aiohttp.ClientError: it can't be reached or refuses.
            ValueError, KeyError, TypeError: it answers something else than documented.
        """
        # The start of the question: an alert that began after it may be missing in the answer.
        asked_at = self._now()
        rules = parse_rules(await self._get("/api/v1/rules", type="alert"))
        alerts = parse_alerts(await self._get("/api/v1/alerts"), rules)
        return Snapshot(asked_at=asked_at, rules=rules, signals=alerts)

    async def poll(self) -> None:
        """Ask once, keep the answer, and wake the deployments that it changes something for."""
        before = self._views()
        try:
            self._last = await self.ask()
            self._error = ""
        except (
            OSError,
            TimeoutError,
            aiohttp.ClientError,
            ValueError,
            KeyError,
            TypeError,
        ) as error:
            text = str(error) or type(error).__name__
            if text != self._error:
                log.warning("Prometheus at %s does not answer: %s", self._url, text)
            self._error = text
        for key, view in self._views().items():
            if view != before.get(key) or self._stale(key):
                self._queue.add(key)

    def _views(self) -> dict[Key, Monitoring]:
        now = self._now()
        return {
            Key("PolicyDeployment", meta["namespace"], meta["name"]): replace(
                self.about(meta["namespace"], meta["name"], now), asked_at=None
            )
            for meta in (o["metadata"] for o in self._cache.list("PolicyDeployment"))
        }

    def _stale(self, key: Key) -> bool:
        """Whether the status has an alert firing that Prometheus does not know of any more."""
        obj = self._cache.get(key.kind, key.namespace, key.name) or {}
        firing = [
            a for a in (obj.get("status") or {}).get("alerts") or () if a["state"] == "Firing"
        ]
        if not firing or self._last is None:
            return False
        signals = self._last.signals.get((key.namespace, key.name), ())
        polled = {(s.name, s.version) for s in signals}
        return any((a["name"], a.get("version")) not in polled for a in firing)

    async def run(self) -> None:
        """Ask until cancelled."""
        if self._url is None:
            return
        while True:
            await self.poll()
            # Whoever waits for rules says so during the reconcile that follows the poll.
            await asyncio.sleep(HURRY_SECONDS)
            try:
                async with asyncio.timeout(INTERVAL_SECONDS - HURRY_SECONDS):
                    await self._hurry.wait()
            except TimeoutError:
                continue
            finally:
                self._hurry.clear()
