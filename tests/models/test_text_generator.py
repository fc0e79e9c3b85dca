"""The torch engine on a real tiny model: the same answers however they are computed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from policy_api.contract.artifact import Generation
from policy_models.decision import Decision, Option, Question, Refusal, Request, Turn
from policy_models.text.generator import TextPolicy
from server.tiny import CONTEXT, TEMPLATE, answer_to, prompts, train
from transformers import AutoModelForCausalLM, AutoTokenizer

pytestmark = pytest.mark.trainer

GENERATION = Generation(max_new_tokens=160, prompt_template=TEMPLATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    train(folder)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def engine(model, tokenizer):
    def build(draft_tokens: int = 16, **changes: object) -> TextPolicy:
        generation = GENERATION.model_copy(update=changes)
        return TextPolicy(model, tokenizer, generation, draft_tokens=draft_tokens)

    return build


def questions() -> list[Question]:
    return [Question(prompt=prompt) for prompt in prompts()]


def answers(policy: TextPolicy, asked: list[Question]) -> list[Option | Refusal]:
    found = policy.decide([Request(question=question) for question in asked])
    return [f.ranking[0] if isinstance(f, Decision) else f for f in found]


def texts(outcomes: list[Option | Refusal]) -> list[str]:
    assert all(isinstance(outcome, Option) for outcome in outcomes), outcomes
    return [outcome.action for outcome in outcomes]


WANTED = [answer_to(number) for number in range(len(prompts()))]


def reference(model, tokenizer, limit: int) -> list[str]:
    """What transformers itself generates, one prompt at a time."""
    said = []
    for prompt in prompts():
        ids = tokenizer(TEMPLATE.format(prompt=prompt), return_tensors="pt")
        with torch.inference_mode():
            whole = model.generate(**ids, max_new_tokens=limit, do_sample=False)
        said.append(tokenizer.decode(whole[0, ids["input_ids"].shape[1] :], True))
    return said


def test_it_answers_what_it_was_trained_to(engine):
    assert texts(answers(engine(), questions())) == WANTED


@pytest.mark.parametrize("limit", [1, 7, 30, 160])
def test_answers_are_those_of_transformers_however_they_are_batched_and_guessed(
    engine, model, tokenizer, limit
):
    wanted = reference(model, tokenizer, limit)
    for draft_tokens in (0, 1, 5, 16):
        built = engine(draft_tokens, max_new_tokens=limit)
        alone = [texts(answers(built, [question]))[0] for question in questions()]
        assert alone == wanted, f"alone, cold, {draft_tokens}"
        assert texts(answers(built, questions())) == wanted, f"batch, {draft_tokens}"
        assert texts(answers(built, questions()[::-1])) == wanted[::-1], f"again, {draft_tokens}"


def test_guesses_save_forward_passes(engine):
    guessing, plain = engine(16), engine(0)
    for question in questions() * 2:
        answers(guessing, [question])
        answers(plain, [question])
    assert guessing._decoder.forward_passes < plain._decoder.forward_passes / 2


def test_confidence_is_the_mean_probability_of_the_tokens(engine, model, tokenizer):
    question = questions()[0]
    prompt = tokenizer(TEMPLATE.format(prompt=question.prompt))["input_ids"]
    answer = answers(engine(), [question])[0]
    said = [
        *tokenizer(answer.action, add_special_tokens=False)["input_ids"],
        tokenizer.eos_token_id,
    ]
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + said])).logits[0]
    distribution = logits.softmax(-1)[len(prompt) - 1 : -1]
    probabilities = [float(row[token]) for row, token in zip(distribution, said, strict=True)]
    assert answer.tokens == len(said)
    assert answer.confidence == pytest.approx(sum(probabilities) / len(said), abs=1e-5)
    assert answer.confidence > 0.9


def test_confidence_does_not_depend_on_the_batch(engine):
    alone = [answers(engine(), [question])[0].confidence for question in questions()]
    together = [outcome.confidence for outcome in answers(engine(), questions())]
    assert together == pytest.approx(alone, abs=1e-5)


def test_sampling_varies_and_a_cold_sample_is_the_greedy_answer(engine):
    torch.manual_seed(1)
    hot = {texts(answers(engine(temperature=5.0), questions()[:1]))[0] for _ in range(3)}
    assert len(hot) > 1
    assert texts(answers(engine(temperature=0.05), questions())) == WANTED


def test_a_conversation_goes_through_the_chat_template(engine):
    asked = [Question(turns=(Turn("user", prompt),)) for prompt in prompts()]
    assert texts(answers(engine(), asked)) == WANTED


def test_without_a_template_the_chat_template_is_used(engine):
    assert texts(answers(engine(prompt_template=None), questions())) == WANTED


def test_braces_in_a_prompt_are_only_text(engine):
    (outcome,) = answers(engine(), [Question(prompt="{0} {prompt} {")])
    assert isinstance(outcome, Option)


def test_a_policy_without_a_chat_template_says_so(engine, folder):
    built = engine()
    built._tokenizer = AutoTokenizer.from_pretrained(folder)
    built._tokenizer.chat_template = None
    asked = [Question(turns=(Turn("user", "a"),)), questions()[0]]
    refusal, answer = answers(built, asked)
    assert refusal == Refusal(
        "MessagesNotSupported",
        "this policy has no chat template: send prompt instead of messages",
    )
    assert answer.action == WANTED[0]


def test_a_chat_template_that_refuses_is_quoted(engine, folder):
    built = engine()
    built._tokenizer = AutoTokenizer.from_pretrained(folder)
    built._tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    (refusal,) = answers(built, [Question(turns=(Turn("user", "a"),))])
    assert refusal.code == "MessagesNotSupported"
    assert refusal.message == (
        "this policy's chat template refuses these messages: roles must alternate"
    )


def test_a_prompt_beyond_the_context_is_refused_beside_good_ones(engine, tokenizer):
    room = CONTEXT - GENERATION.max_new_tokens
    fits = Question(prompt="\u00e9" * ((room - 2) // 2))
    over = replace(fits, prompt=fits.prompt + "\u00e9\u00e9")
    assert len(tokenizer(TEMPLATE.format(prompt=fits.prompt))["input_ids"]) <= room
    count = len(tokenizer(TEMPLATE.format(prompt=over.prompt))["input_ids"])
    refusal, first, answer = answers(engine(), [over, questions()[0], fits])
    assert refusal == Refusal(
        "PromptTooLong",
        f"the prompt has {count} tokens, this policy takes at most {room}: shorten it",
    )
    assert first.action == WANTED[0]
    assert isinstance(answer, Option)


def test_an_answer_never_leaves_the_context(engine, tokenizer):
    built = engine(max_new_tokens=10_000)  # at least half of the context is the prompt's
    question = Question(prompt="\u00e9" * (CONTEXT // 4 - 2))
    prompt = len(tokenizer(TEMPLATE.format(prompt=question.prompt))["input_ids"])
    (answer,) = answers(built, [question])
    assert prompt + answer.tokens <= CONTEXT


def test_it_loads_from_disk_in_full_precision(folder, caplog):
    from policy_api.contract.artifact import PolicyManifest  # noqa: PLC0415
    from server.artifacts import manifest_of  # noqa: PLC0415

    manifest = PolicyManifest.model_validate(
        manifest_of({}, generation={"maxNewTokens": 160, "promptTemplate": TEMPLATE})
    )
    loaded = TextPolicy.load(folder, manifest, threads=1, draft_tokens=16)
    assert texts(answers(loaded, questions())) == WANTED
    assert torch.get_num_threads() == 1


def test_candidates_are_ranked_by_how_likely_the_policy_says_them(engine, model, tokenizer):
    prompt, said = prompts()[0], WANTED[:3]
    built = engine(prompt_template=None)
    (found,) = built.decide([Request(question=Question(prompt=prompt), candidates=tuple(said))])
    assert found.ranking[0].action == said[0]
    for option in found.ranking:
        text = TEMPLATE.format(prompt=prompt)
        before = tokenizer(text)["input_ids"]
        after = tokenizer(option.action, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = model(torch.tensor([before + after])).logits[0]
        logs = logits.log_softmax(-1)[len(before) - 1 : -1]
        mean = sum(float(row[token]) for row, token in zip(logs, after, strict=True)) / len(after)
        assert option.score == pytest.approx(mean, abs=1e-4)
    (refused,) = built.decide([Request(candidates=("a",))])
    assert refused.message == (
        "this policy is asked with prompt, messages or state, alone or with candidates, a list of "
        "answers: send that instead"
    )


def mean_logarithm(model, tokenizer, before: str, said: str, end: list[int]) -> float:
    """Return the mean log-probability of an answer's tokens after a text."""
    asked = tokenizer(before)["input_ids"]
    answer = tokenizer(said, add_special_tokens=False)["input_ids"] + end
    with torch.inference_mode():
        logs = model(torch.tensor([asked + answer])).logits[0].log_softmax(-1)[len(asked) - 1 : -1]
    return float(logs.gather(-1, torch.tensor(answer)[:, None]).mean())


def test_candidates_are_asked_with_the_template_that_generates(engine, model, tokenizer):
    template, prompt = "<|system|>{prompt}<|assistant|>", prompts()[0]
    built = engine(prompt_template=template)
    # A text ends; this chat template puts no end after an answer.
    for question, before, end in (
        (Question(prompt), template, [tokenizer.eos_token_id]),
        (Question(turns=(Turn("user", prompt),)), TEMPLATE, []),
    ):
        (found,) = built.decide([Request(question=question, candidates=tuple(WANTED[:2]))])
        for option in found.ranking:
            wanted = mean_logarithm(
                model, tokenizer, before.format(prompt=prompt), option.action, end
            )
            assert option.score == pytest.approx(wanted, abs=1e-4)


def test_candidates_that_a_chat_template_refuses_are_told(engine, folder):
    built = engine(prompt_template=None)
    built._tokenizer = AutoTokenizer.from_pretrained(folder)
    built._tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    request = Request(question=Question(turns=(Turn("user", "a"),)), candidates=("b",))
    (refusal,) = built.decide([request])
    assert refusal.message == (
        "this policy's chat template refuses these messages: roles must alternate"
    )


def test_a_candidate_that_is_too_long_is_named(engine):
    request = Request(question=questions()[0], candidates=("a", "\u00e9" * CONTEXT))
    (refusal,) = engine().decide([request])
    assert refusal.code == "PromptTooLong"
    assert refusal.message.startswith("the prompt and candidates[1] have ")


def test_a_state_is_asked_as_the_json_that_training_made_of_it(engine):
    state = {"service": "cart", "anomalies": ["caf\u00e9"], "cpu": 0.50}
    text = '{"anomalies": ["caf\u00e9"], "cpu": 0.5, "service": "cart"}'
    asked = Request(question=Question(text))
    assert engine().decide([Request(state=state)]) == engine().decide([asked])
    choices = ("a", "b")
    (found,) = engine().decide([replace(asked, candidates=choices)])
    assert engine().decide([Request(state=state, candidates=choices)]) == [found]
    (refusal,) = engine().decide([Request(state={})])
    assert refusal.message == "state has no fields: set what is known"
