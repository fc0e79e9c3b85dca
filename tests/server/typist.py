"""A policy that writes what a test tells it to, a letter a step."""

import threading
from collections.abc import Sequence

from policy_models.decision import Decision, Option, Refusal, Request, Written
from server.scripted import GOOD, asked


class Typed:
    """One answer as it is written."""

    def __init__(self, prompt: str, text: str) -> None:
        self.prompt, self.text = prompt, text
        self.length = 1
        self._taken = 0

    @property
    def decision(self) -> Decision | None:
        """Return the answer once it is whole."""
        if self.length < len(self.text):
            return None
        option = Option(self.text, 0.75, 1.0, 0.75, tokens=len(self.text))
        return Decision((option,), written=Written(3, stopped="cut" not in self.prompt))

    def take(self) -> str:
        """Return the new letters."""
        new = self.text[self._taken : self.length]
        self._taken = self.length
        return new


class Typist:
    """Says `say …`, JSON as it stands, and anything else well; `refuse`, `raise`, `fail …`."""

    slow = True

    def __init__(self, *, open_always: bool = True) -> None:
        self._open_always = open_always
        self.writing: list[Typed] = []
        self.most = 0  # answers that were written at once
        self.steps = threading.Semaphore(0)
        self.stepwise = False  # each step waits for a release of `steps`
        self.began = threading.Event()
        self.left: list[Typed] = []

    @property
    def open(self) -> bool:
        """Whether answers may begin now."""
        return self._open_always or not self.writing

    def begin(self, requests: Sequence[Request]) -> list[Typed | Decision | Refusal]:
        """Begin answers; `raise` raises."""
        begun = [self._begun(request) for request in requests]
        self.writing += [one for one in begun if isinstance(one, Typed)]
        self.most = max(self.most, len(self.writing))
        self.began.set()
        return begun

    def write(self) -> None:
        """Write a letter of each answer; one of `fail` fails at its third."""
        if self.stepwise:
            self.steps.acquire(timeout=30)
        for one in self.writing:
            if "fail" in one.prompt and one.length == 2:
                raise RuntimeError("the weights are upside down")
            one.length += 1
        self.writing = [one for one in self.writing if one.decision is None]

    def leave(self, answers: Sequence[Typed]) -> None:
        """Write no more of these."""
        self.left += answers
        self.writing = [one for one in self.writing if one not in answers]

    def decide(self, requests: Sequence[Request]) -> list[Decision | Refusal]:
        """Write whole answers, one after the other."""
        found: list[Decision | Refusal] = []
        for request in requests:
            (one,) = self.begin([request])
            try:
                while isinstance(one, Typed) and one.decision is None:
                    self.write()
            finally:
                self.writing = [other for other in self.writing if other is not one]
            found.append(one.decision if isinstance(one, Typed) else one)
        return found

    def example(self) -> Request:
        """Return a prompt."""
        return asked("say Hello")

    def inputs(self) -> dict[str, str]:
        """Return what it is asked with."""
        return {"prompt": "a text", "messages": "a conversation"}

    def _begun(self, request: Request) -> Typed | Refusal:
        assert request.question is not None
        prompt = request.question.prompt or request.question.turns[-1].content
        if "refuse" in prompt:
            return Refusal("PromptTooLong", "the prompt has 9 tokens, at most 8: shorten it")
        if "raise" in prompt:
            raise RuntimeError("the weights are upside down")
        spoken = prompt.startswith(("say ", "{"))
        return Typed(prompt, prompt.removeprefix("say ") if spoken else GOOD)
