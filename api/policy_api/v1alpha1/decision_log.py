"""Where what is decided is kept."""

from typing import Annotated

from pydantic import Field

from policy_api.base import DNS_SUBDOMAIN, ApiModel

LOG_ROOTS = (
    "state",
    "prompt",
    "candidates",
    "context",
    "answer",
    "fields",
    "nextState",
    "text",
    "correctedAction",
)
"""What of a decision, its outcome and its feedback may hold what people wrote."""
REDACTION_KEY = "redaction-key"
_POINTER = rf"^/({'|'.join(LOG_ROOTS)})(/([^~/]|~[01])*)*$"


class LogSecretRef(ApiModel):
    """A Secret with the database's URL."""

    name: str = Field(pattern=DNS_SUBDOMAIN, max_length=253, description="Name of the Secret.")
    key: str = Field(
        default="url",
        pattern=r"^[-._a-zA-Z0-9]+$",
        max_length=253,
        description="Its key with the URL, e.g. `uri` where CloudNativePG made the Secret.",
    )


class DecisionLog(ApiModel):
    """Every decision, what came of it and what people say of it, in a PostgreSQL database."""

    secret_ref: LogSecretRef = Field(
        description=(
            "Names the Secret with the URL: postgresql://user:password@host/database. The tables "
            "are made by the first server; several deployments may share a database. A changed URL "
            "is read when the old one fails."
        )
    )
    retention_days: int | None = Field(
        default=None, ge=1, le=36500, description="Days after which all is deleted; unset: never."
    )
    redact: list[Annotated[str, Field(min_length=2, max_length=256, pattern=_POINTER)]] | None = (
        Field(
            default=None,
            min_length=1,
            max_length=64,
            description=(
                "JSON pointers to what must not be kept, like /state/email or /candidates/*; "
                "`*` is every entry. A keyed hash takes its place before anything is written. The "
                f"Secret has the key under {REDACTION_KEY}, at least 16 bytes."
            ),
        )
    )
