"""A second policy that is asked with the first one's answer. The first answers in any case."""

from collections.abc import Mapping
from typing import Any

from policy_api.contract import paths
from policy_api.contract.serving import ServingConfig
from policy_api.v1alpha1.routes import Then
from policy_models import prompts

from policy_server.peer_metrics import ANSWERED, UNASKED
from policy_server.peers import Peers, Unanswered

RUN = "runId"


def follows(then: Then, answer: Mapping[str, Any]) -> bool:
    """Whether the second policy is to be asked after this answer of the first."""
    return then.actions is None or answer.get("action") in {a.name for a in then.actions}


def prompt_of(then: Then, called: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    """Return what the second is asked.

    Raises:
        UnfilledError: It can't be said.
    """
    texts = {a.name: a.text for a in then.actions or () if a.text is not None}
    action = answer.get("action")
    spoken = {"action": texts.get(str(action), action)}
    return prompts.filled(then.prompt, {**answer, **spoken, "request": called})


async def asked(
    then: Then,
    called: Mapping[str, Any],
    answer: Mapping[str, Any],
    *,
    config: ServingConfig,
    peers: Peers,
    authorization: str | None,
) -> tuple[dict[str, Any], str]:
    """Ask the second policy; return what `then` of the answer is, and the result for metrics.

    Its server is asked at /v1/decisions, which no `then` follows: two policies that name each other
    are no loop.

    Args:
        then: Whom to ask, and what.
        called: What the first was asked; it has a run id, which the second gets too.
        answer: What the first answered.
        config: Says where the second is.
        peers: Asks it.
        authorization: The caller's own proof of who it is.
    """
    said: dict[str, Any] | Unanswered
    url = config.peer(then.deployment)
    if url is None:
        message = "the PolicyDeployment has no stable version, or nobody said where it is"
        said = Unanswered(UNASKED, "Unknown", message)
    else:
        try:
            prompt = prompt_of(then, called, answer)
        except prompts.UnfilledError as error:
            message = f"then.prompt can't be filled in: there is no {error}"
            said = Unanswered(UNASKED, "NothingToAsk", message)
        else:
            said = await peers.ask(
                url,
                paths.DECISIONS,
                {"prompt": prompt, RUN: called[RUN]},
                milliseconds=then.timeout_milliseconds,
                authorization=authorization,
            )
    if isinstance(said, Unanswered):
        message = f"{then.deployment}: {said.message}"
        return {"error": {"code": said.code, "message": message}}, said.reason
    return said, ANSWERED
