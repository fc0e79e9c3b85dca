"""A language model that judges answers by named criteria."""

from pydantic import Field

from policy_api.base import DNS_SUBDOMAIN, ApiModel, list_map, rule, rules
from policy_api.v1alpha1.inputs import TrainingRef

CRITERION = r"^[a-z][a-z0-9_]*$"
# A key must not cross the internet in clear, so http is for what is in the cluster or on this
# machine: a name without a dot, or one that ends in .svc.
URL = (
    "^(https://.+|http://([a-z0-9-]+|[a-z0-9.-]+[.]svc([.]cluster[.]local)?|127[.]0[.]0[.]1)"
    "(:[0-9]+)?(/.*)?)$"
)
URL_WANTED = "url must be https://…, or http://… of a Service: its name, or <name>.<namespace>.svc"


class Criterion(ApiModel):
    """One thing that an answer is judged by."""

    name: str = Field(
        pattern=CRITERION, max_length=40, description="Name of the criterion, snake_case."
    )
    description: str = Field(
        min_length=1,
        max_length=1024,
        description="What makes an answer good by it; the judge reads this.",
    )


class SecretKeyRef(ApiModel):
    """Names a key of a Secret in the same namespace."""

    name: str = Field(pattern=DNS_SUBDOMAIN, max_length=253, description="Name of the Secret.")
    key: str = Field(
        pattern=r"^[-._a-zA-Z0-9]+$", max_length=253, description="Key in it, e.g. api-key."
    )


class JudgeEndpoint(ApiModel):
    """A model behind an OpenAI-compatible HTTP interface."""

    model_config = rules(
        rule(f"self.url.matches('{URL}')", URL_WANTED),
        rule(
            "!has(self.maxUSD) || has(self.usdPerMillionInputTokens) "
            "|| has(self.usdPerMillionOutputTokens)",
            "maxUSD needs a price: set usdPerMillionInputTokens or usdPerMillionOutputTokens",
        ),
    )

    url: str = Field(
        min_length=8,
        max_length=1024,
        description="Its base URL, up to and with /v1: https, or http of a Service.",
    )
    model: str = Field(min_length=1, max_length=256, description="Name of the model there.")
    secret_ref: SecretKeyRef | None = Field(
        default=None, description="The API key, sent as a Bearer token; unset: none is needed."
    )
    usd_per_million_input_tokens: float | None = Field(
        default=None, ge=0, description="Price of a million tokens that it reads."
    )
    usd_per_million_output_tokens: float | None = Field(
        default=None, ge=0, description="Price of a million tokens that it writes."
    )
    max_usd: float | None = Field(
        default=None,
        gt=0,
        alias="maxUSD",
        description="When the judge has cost this much over all attempts, the run ends.",
    )


class Judge(ApiModel):
    """Who judges answers, and by what."""

    model_config = rules(
        rule(
            "[has(self.endpoint), has(self.model), has(self.training)].filter(x, x).size() == 1",
            "set exactly one of endpoint, model, training",
        )
    )

    endpoint: JudgeEndpoint | None = Field(
        default=None, description="An OpenAI-compatible endpoint."
    )
    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="A text model that each process loads: hub id, or a path in the pod.",
    )
    training: TrainingRef | None = Field(
        default=None,
        description=(
            "The same, the artifact of another PolicyTraining; waits until it has succeeded."
        ),
    )
    criteria: list[Criterion] = Field(
        min_length=1,
        max_length=16,
        description="What answers are judged by, each with a rating from 1 to 10.",
        json_schema_extra=list_map("name"),
    )
