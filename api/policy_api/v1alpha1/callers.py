"""Who may call the servers of a PolicyDeployment."""

from typing import Literal

from pydantic import Field

from policy_api.base import ApiModel, rule, rules
from policy_api.v1alpha1.judge import SecretKeyRef


class TokenAuth(ApiModel):
    """Callers prove themselves by a token."""

    secret_ref: SecretKeyRef = Field(
        description=(
            "The tokens, one a line, with a name before it where a caller should have one: "
            "`shop 3b1f…`. At least 16 characters each. Changed ones count within a minute or two, "
            "without a restart; two lines of one name are a rotation."
        )
    )


class Auth(ApiModel):
    """Who may ask for decisions."""

    model_config = rules(
        rule(
            "(self.type == 'Token') == has(self.token)",
            "set token if and only if type is Token",
        )
    )

    type: Literal["None", "Token"] = Field(
        description=(
            "None: whoever reaches the server. Token: who sends a token, as `Authorization: Bearer "
            "<token>`; all of /v1 asks for it, probes and /metrics do not."
        )
    )
    token: TokenAuth | None = Field(default=None, description="Set with type Token.")
