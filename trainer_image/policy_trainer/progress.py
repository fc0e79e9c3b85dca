"""Says how far a run is: to the operator by KEP-2779, and by file to whoever runs it by hand.

transformers' own trainers post by themselves; this is for loops of our own. A report that does not
get through is dropped: the next one is newer.
"""

import json
import logging
import os
import ssl
import time
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from policy_api.contract.environment import (
    STATUS_CA_VARIABLE,
    STATUS_TOKEN_VARIABLE,
    STATUS_URL_VARIABLE,
)

from policy_trainer import state

EVERY_SECONDS = 5.0
TIMEOUT_SECONDS = 2.0
PROGRESS_FILE = "progress.json"

log = logging.getLogger(__name__)


class Reporter:
    """Reports at most every five seconds; rank 0 alone has one."""

    def __init__(self, max_steps: int, *, post: bool = True) -> None:
        self._max_steps = max_steps
        self._url = os.environ.get(STATUS_URL_VARIABLE) if post else None
        self._begun: tuple[float, int] | None = None
        self._posted = -EVERY_SECONDS

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Say that this step has ended."""
        now = time.monotonic()
        if self._begun is None:
            self._begun = (now, step)
        began, first = self._begun
        pace = (now - began) / (step - first) if step > first else 0.0
        left = round(pace * (self._max_steps - step))
        _write(step, self._max_steps, left, metrics)
        if self._url and (now - self._posted >= EVERY_SECONDS or step == self._max_steps):
            self._posted = now
            self._post(self._url, step, left, metrics)

    def _post(self, url: str, step: int, left: int, metrics: Mapping[str, float]) -> None:
        named = {"step": step, "max_steps": self._max_steps, **metrics}
        status = {
            "progressPercentage": min(100, 100 * step // self._max_steps),
            "estimatedRemainingSeconds": left,
            "metrics": [{"name": name, "value": str(value)} for name, value in named.items()],
            "lastUpdatedTime": datetime.now(UTC).isoformat(),
        }
        try:
            token = Path(os.environ[STATUS_TOKEN_VARIABLE]).read_text().strip()
            authority = os.environ[STATUS_CA_VARIABLE]
            request = urllib.request.Request(  # noqa: S310 - the operator's own https URL
                url,
                data=json.dumps({"trainerStatus": status}).encode(),
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            )
            context = ssl.create_default_context(cafile=authority)
            urllib.request.urlopen(  # noqa: S310 - see above
                request, timeout=TIMEOUT_SECONDS, context=context
            ).close()
        except (OSError, KeyError, ValueError) as error:
            log.warning("progress was not reported: %s", error)


def _write(step: int, max_steps: int, left: int, metrics: Mapping[str, float]) -> None:
    """Write the file that `policyctl train --local` shows; whole or not at all."""
    state.folder().mkdir(parents=True, exist_ok=True)
    shown = {
        "step": step,
        "maxSteps": max_steps,
        "remainingSeconds": left,
        "metrics": dict(metrics),
    }
    file = state.folder() / PROGRESS_FILE
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(shown))
    temporary.replace(file)
