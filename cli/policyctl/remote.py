"""Tells a running server what came of its decisions."""

from pathlib import Path
from typing import Any

import httpx
from policy_api.contract import paths
from policy_models.complaints import complaint
from policy_models.outcomes import FeedbackRequest, OutcomeRequest
from pydantic import ValidationError

from policyctl.errors import UserError

SECONDS = 30.0


def outcome(server: str, decision_id: str, body: dict[str, Any], token: Path | None) -> str:
    """Send what came of a decision; return what to say.

    Raises:
        UserError: It is no outcome, or the server can't be reached or refuses it.
    """
    _checked(OutcomeRequest, body)
    told = _post(server, f"{paths.DECISIONS}/{decision_id}/outcome", body, token)
    return f"kept for decision {told['decisionId']}"


def feedback(server: str, body: dict[str, Any], token: Path | None) -> str:
    """Send what a person says; return what to say.

    Raises:
        UserError: It is no feedback, or the server can't be reached or refuses it.
    """
    _checked(FeedbackRequest, body)
    told = _post(server, paths.FEEDBACK, body, token)
    return f"kept as {told['feedbackId']}: {told.get('label', 'neither Positive nor Negative')}"


def _checked(model: type[FeedbackRequest | OutcomeRequest], body: dict[str, Any]) -> None:
    try:
        model.model_validate(body)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False)
        raise UserError(complaint(first, first["loc"]).message) from error


def _post(server: str, path: str, body: dict[str, Any], token: Path | None) -> dict[str, Any]:
    headers = {}
    if token is not None:
        headers["Authorization"] = f"Bearer {_token(token)}"
    try:
        answer = httpx.post(
            f"{server.rstrip('/')}{path}", json=body, headers=headers, timeout=SECONDS
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UserError(
            f"{server} can't be reached ({error}): `policyctl serve` runs a server, --server names "
            "another"
        ) from error
    try:
        said = answer.json()
    except ValueError:
        said = {}
    if answer.is_success and isinstance(said, dict):
        return said
    message = said.get("error", {}).get("message") if isinstance(said, dict) else None
    raise UserError(message or f"{server} answered {answer.status_code} {answer.reason_phrase}")


def _token(file: Path) -> str:
    """Return the token of a file as `policyctl serve --token-file` reads it: the first one."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} can't be read: {error}") from error
    for line in lines:
        words = line.split("#", 1)[0].split()
        if words:
            return words[-1]
    raise UserError(f"{file} has no token")
