"""From a request to what a text model is asked: one rendering, for generating and for scoring."""

from typing import Any

import jinja2

from policy_models import prompts
from policy_models.decision import INVALID, Question, Refusal, Request, wants
from policy_models.text import rendering

CHAT = "MessagesNotSupported"
NO_CHATS = Refusal(CHAT, "this policy has no chat template: send prompt instead of messages")


def rendered(
    tokenizer: Any, template: str | None, request: Request, wanted: str
) -> rendering.Asked | Refusal:
    """Return a request's question as the model sees it, or why it can't be asked.

    Args:
        tokenizer: The model's.
        template: The manifest's prompt template, see rendering.ask.
        request: What is asked: a question, or a state, which is asked as rows of objects are.
        wanted: What to send instead, where it is neither.
    """
    if request.state is not None:
        if not request.state:
            return Refusal(INVALID, "state has no fields: set what is known")
        question = Question(prompts.of_object(request.state))
    elif request.question is not None:
        question = request.question
    else:
        return wants(wanted)
    if question.prompt is not None:
        prompt: rendering.Prompt = question.prompt
    elif tokenizer.chat_template:
        prompt = [{"role": turn.role, "content": turn.content} for turn in question.turns]
    else:
        return NO_CHATS
    try:
        return rendering.ask(tokenizer, prompt, template)
    except jinja2.TemplateError as error:
        return refused(error)


def refused(error: jinja2.TemplateError) -> Refusal:
    """Return what a chat template says against a conversation, as a refusal."""
    return Refusal(CHAT, f"this policy's chat template refuses these messages: {error}")


def inputs(tokenizer: Any) -> dict[str, Any]:
    """Return what a text policy may be asked with, one of these."""
    chats = {"messages": "a conversation"} if tokenizer.chat_template else {}
    return {"prompt": "a text", **chats, "state": "an object, asked as JSON with sorted keys"}
