"""A judge behind an OpenAI-compatible endpoint.

The client retries by itself what may pass (connections, 408, 409, 429, 5xx), with growing waits or
as long as `Retry-After` says. A reply that is not as asked is asked for again. Servers differ in
what they take: a parameter that one refuses is left out from then on.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NoReturn

import openai
from policy_api.contract.environment import JUDGE_KEY_VARIABLE
from policy_api.v1alpha1.judge import Criterion, JudgeEndpoint
from pydantic import BaseModel, ValidationError

from policy_trainer.errors import ConfigInvalidError, RunError
from policy_trainer.judge import prompts
from policy_trainer.judge.asker import Answered, Spent
from policy_trainer.judge.prompts import Choice, Compare, Question, Ratings, Reply

AT_ONCE = 8  # requests
RETRIES = 8  # of a request, over about 40 s
TIMEOUT_SECONDS = 120.0
ATTEMPTS = 3  # until a reply is as asked
FIELD = "judge.endpoint"

log = logging.getLogger(__name__)


class EndpointAsker:
    """Asks over HTTP, a few requests at once.

    Args:
        endpoint: Where, and which model.
        seed: Of the model's sampling, for servers that have one.

    Raises:
        ConfigInvalidError: it wants a key, and there is none.
    """

    def __init__(self, endpoint: JudgeEndpoint, seed: int) -> None:
        self._endpoint = endpoint
        self._key = os.environ.get(JUDGE_KEY_VARIABLE, "")
        if endpoint.secret_ref is not None and not self._key:
            raise ConfigInvalidError(
                f"the judge's endpoint needs its key: set the variable {JUDGE_KEY_VARIABLE} (in a "
                "cluster it comes from secretRef)",
                f"{FIELD}.secretRef",
            )
        self._seed = seed
        self._refused: set[str] = set()

    @property
    def identity(self) -> str:
        """See Asker."""
        return f"{self._endpoint.url} {self._endpoint.model} {self._seed}"

    def ask(
        self, questions: Sequence[Question], criteria: Sequence[Criterion]
    ) -> Iterator[Answered]:
        """See Asker."""
        client = openai.OpenAI(
            base_url=self._endpoint.url,
            api_key=self._key or "unused",  # else it would look for others in the environment
            max_retries=RETRIES,
            timeout=TIMEOUT_SECONDS,
        )
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            asked = [pool.submit(self._answer, client, q, criteria) for q in questions]
            for done in as_completed(asked):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)
            client.close()

    def _answer(
        self, client: openai.OpenAI, question: Question, criteria: Sequence[Criterion]
    ) -> Answered:
        wanted = prompts.schema(question, criteria)
        chat = prompts.chat(question, criteria)
        spent, fault = Spent(), ""
        for _ in range(ATTEMPTS):
            said, cost = self._request(client, chat, wanted)
            spent += cost
            try:
                return Answered(question, _read(said, wanted, question), spent)
            except ValidationError as error:
                fault = _fault(error)
            chat = [
                *chat,
                {"role": "assistant", "content": said},
                {"role": "user", "content": prompts.AGAIN.format(fault=fault)},
            ]
        raise ConfigInvalidError(
            f"the judge {self._endpoint.model} did not reply as asked in {ATTEMPTS} attempts "
            f"({fault}): use a model that follows a JSON schema",
            f"{FIELD}.model",
        )

    def _request(
        self, client: openai.OpenAI, chat: list[dict[str, str]], wanted: type[BaseModel]
    ) -> tuple[str, Spent]:
        options = self._options(wanted)
        try:
            made = client.chat.completions.create(
                model=self._endpoint.model, messages=chat, **options
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if not self._leave_out(options, str(error)):
                self._refuse(error)
            return self._request(client, chat, wanted)
        except openai.APIError as error:
            self._refuse(error)
        used = made.usage
        if used is None and self._endpoint.max_usd is not None:
            raise ConfigInvalidError(
                "the judge's endpoint does not say how many tokens it used, so maxUSD cannot be "
                "kept: leave it unset",
                f"{FIELD}.maxUSD",
            )
        said = (made.choices[0].message.content if made.choices else None) or ""
        tokens = (used.prompt_tokens, used.completion_tokens) if used is not None else (0, 0)
        return said, Spent(1, *tokens)

    def _options(self, wanted: type[BaseModel]) -> dict[str, Any]:
        named = {"name": wanted.__name__, "schema": wanted.model_json_schema(), "strict": True}
        options = {
            "temperature": 0,
            "seed": self._seed,
            "response_format": {"type": "json_schema", "json_schema": named},
        }
        return {name: value for name, value in options.items() if name not in self._refused}

    def _leave_out(self, options: dict[str, Any], said: str) -> bool:
        """Leave out, from now on, what the server refuses; False when nothing is left to."""
        named = [name for name in options if name in said] or ["response_format"]
        refused = {name for name in named if name in options}
        for name in sorted(refused - self._refused):
            log.warning("the judge's endpoint takes no %s: going on without it", name)
        self._refused |= refused
        return bool(refused)

    def _refuse(self, error: openai.APIError) -> NoReturn:
        """Say in one sentence what is wrong, without the key that a server may repeat."""
        said = str(error)
        if self._key:
            said = said.replace(self._key, "***")
        where = f"{self._endpoint.model} at {self._endpoint.url}"
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            message = f"the judge {where} refuses the key in {JUDGE_KEY_VARIABLE}: {said}"
            raise ConfigInvalidError(message, f"{FIELD}.secretRef") from None
        if isinstance(error, openai.NotFoundError):
            raise ConfigInvalidError(f"there is no judge {where}: {said}", FIELD) from None
        if isinstance(error, openai.APIStatusError) and not _may_pass(error.status_code):
            raise ConfigInvalidError(f"the judge {where} refuses: {said}", FIELD) from None
        said += f" {error.__cause__ or ''}".rstrip()
        raise RunError(
            f"the judge {where} did not reply, {RETRIES} retries included: {said}", FIELD
        ) from None


def _may_pass(status: int) -> bool:
    return status in {408, 409, 429} or status >= 500  # noqa: PLR2004 - HTTP


def _read(said: str, wanted: type[BaseModel], question: Question) -> Reply:
    """Read a reply, also one with a few words or a fence around its JSON."""
    found = wanted.model_validate_json(said[said.find("{") : said.rfind("}") + 1], strict=True)
    kind = Choice if isinstance(question, Compare) else Ratings
    return kind.model_validate(found.model_dump())


def _fault(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
