"""How actions are named, and which of them a request allows. Pure."""

from collections.abc import Sequence

from policy_api.rules.nearest import hint

from policy_models.decision import UNKNOWN_CANDIDATE, Refusal, Request

SEQUENCE = ">"  # joins the actions of a sequence: a name of its own


def chosen(allowed: list[int] | Refusal, actions: Sequence[str]) -> tuple[str, ...] | Refusal:
    """Return the actions at the places that `places` found, or its refusal."""
    return allowed if isinstance(allowed, Refusal) else tuple(actions[p] for p in allowed)


def places(request: Request, actions: Sequence[str]) -> list[int] | Refusal:
    """Return the places of the actions that a request allows, each once, in the policy's order."""
    if request.candidates is None:
        return list(range(len(actions)))
    known = {action: place for place, action in enumerate(actions)}
    for name in request.candidates:
        if name not in known:
            return Refusal(
                UNKNOWN_CANDIDATE, f"the policy has no action {name!r}{hint(name, actions)}"
            )
    return sorted({known[name] for name in request.candidates})
