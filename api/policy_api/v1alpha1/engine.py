"""A server that is not ours: vLLM, llama.cpp's server, or an image of one's own."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from policy_api.base import ApiModel, rule

_PATH = r"^/"
_ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
Word = Annotated[str, Field(max_length=4096)]
# A name, and which of its series: `http_requests_total{status="5xx"}`.
Series = Annotated[str, Field(max_length=512, pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*(\{[^{}]*\})?$")]


class Engine(StrEnum):
    """Who answers."""

    BUILT_IN = "BuiltIn"
    CUSTOM = "Custom"


class EngineSeries(ApiModel):
    """The engine's series that stand for ours in alerts with a preset."""

    decisions: Series = Field(
        description=(
            "Counter of all requests that are answered, perhaps with a choice of labels: "
            '`http_requests_total{handler="/v1/chat/completions"}`.'
        )
    )
    errors: Series | None = Field(
        default=None,
        description="Counter of those that failed; preset ErrorRate needs it.",
    )
    seconds: Series | None = Field(
        default=None,
        description=(
            "Histogram of how long an answer takes, in seconds, without `_bucket`; preset Latency "
            "needs it."
        ),
    )


class CustomEngine(ApiModel):
    """How the engine is started and asked; its image is server.image."""

    command: list[Word] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="What to start; unset: the image's entrypoint. `$(NAME)` as in args.",
        json_schema_extra=_ATOMIC,
    )
    args: list[Word] | None = Field(
        default=None,
        max_length=256,
        description=(
            "Its arguments. `$(POLICY_ARTIFACT_PATH)` is the folder of the version's artifact, "
            "`$(PORT)` the port, `$(POLICY_NAME)` and `$(POLICY_VERSION)` what it serves."
        ),
        json_schema_extra=_ATOMIC,
    )
    port: int = Field(
        default=8000, ge=1024, le=65535, description="Port on which it answers HTTP, all addresses."
    )
    readiness_path: str = Field(
        default="/health",
        pattern=_PATH,
        max_length=256,
        description="Answers 200 once the model is loaded and while requests are welcome.",
    )
    liveness_path: str = Field(
        default="/health",
        pattern=_PATH,
        max_length=256,
        description="Answers 200 unless the pod must be restarted.",
    )
    metrics_path: str = Field(
        default="/metrics",
        pattern=_PATH,
        max_length=256,
        description="Where Prometheus finds its metrics.",
    )
    metrics: EngineSeries | None = Field(
        default=None, description="Its series for alerts with a preset."
    )


_CUSTOM = "has(self.server) && has(self.server.custom)"
_TOLD = (
    "mode",
    "minConfidence",
    "autoApprove",
    "baseline",
    "exploration",
    "timeoutMilliseconds",
    "scoring",
)

_OURS = ("decisionLog", "routes")

SERVER_RULES = (
    rule(
        "(has(self.engine) && self.engine == 'Custom') == has(self.custom)",
        "set custom if and only if engine is Custom",
    ),
    rule("!has(self.custom) || has(self.image)", "engine Custom needs image: set server.image"),
    rule(
        "!has(self.custom) || !has(self.auth) || self.auth.type == 'None'",
        "engine Custom does not read auth: let it ask for tokens by itself, and leave auth out",
    ),
    rule(
        f"!has(self.custom) || !({' || '.join(f'has(self.{field})' for field in _OURS)})",
        f"engine Custom does not read {' and '.join(_OURS)}: leave them out",
    ),
)
ENGINE_RULES = (
    rule(
        f"!({_CUSTOM}) || !({' || '.join(f'has(self.{field})' for field in _TOLD)})",
        f"engine Custom does not read {', '.join(_TOLD)}: leave them out",
    ),
    rule(
        f"!({_CUSTOM}) || !has(self.alerts) || self.alerts.all(a, !has(a.preset) || "
        "(has(self.server.custom.metrics) && (a.preset == 'ErrorRate' "
        "? has(self.server.custom.metrics.errors) : has(self.server.custom.metrics.seconds))))",
        "with engine Custom, preset ErrorRate needs server.custom.metrics.errors, preset Latency "
        "needs server.custom.metrics.seconds",
    ),
)
