"""Text policies: a transformers causal model on CPU or GPU, answering."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import torch
from policy_api.contract.artifact import Generation, PolicyManifest
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from policy_models.text import rendering
from policy_models.text.conversation import TOO_LONG, Answer, Question, Refusal
from policy_models.text.decoding import Decoder

log = logging.getLogger(__name__)


class TextEngine:
    """Answers prompts and conversations with one model."""

    def __init__(
        self, model: Any, tokenizer: Any, generation: Generation, *, draft_tokens: int
    ) -> None:
        self._tokenizer = tokenizer
        self._template = generation.prompt_template
        self._max_new_tokens = generation.max_new_tokens
        self._context = _context(model.config)
        self._decoder = Decoder(
            model,
            stop=frozenset(rendering.stop_tokens(model, tokenizer)),
            temperature=generation.temperature,
            draft_tokens=draft_tokens,
        )

    @classmethod
    def load(
        cls, folder: Path, manifest: PolicyManifest, *, threads: int, draft_tokens: int
    ) -> "TextEngine":
        """Load the model in `folder`, whose files were checked before. Takes seconds."""
        torch.set_num_threads(threads)
        disable_progress_bar()  # the log is JSON
        cuda = torch.cuda.is_available()
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            # Half precision on a CPU without its instructions is slower than none.
            dtype="auto" if cuda else torch.float32,
        )
        model.to("cuda" if cuda else "cpu").eval()
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        log.info(
            "loaded %s, %.1f million weights, on %s",
            type(model).__name__,
            model.num_parameters() / 1e6,
            model.device,
        )
        return cls(model, tokenizer, manifest.generation, draft_tokens=draft_tokens)

    def answer(self, questions: Sequence[Question]) -> list[Answer | Refusal]:
        """Return one outcome for each question, in order."""
        encoded = [self._encode(question) for question in questions]
        prompts = [item for item in encoded if isinstance(item, list)]
        answers = iter(self._generate(prompts) if prompts else [])
        return [next(answers) if isinstance(item, list) else item for item in encoded]

    def _generate(self, prompts: Sequence[Sequence[int]]) -> list[Answer]:
        limits = [
            self._max_new_tokens
            if self._context is None
            else min(self._max_new_tokens, self._context - len(prompt))
            for prompt in prompts
        ]
        decoded = self._decoder.decode(prompts, limits)
        texts = self._tokenizer.batch_decode(
            [list(item.tokens) for item in decoded], skip_special_tokens=True
        )
        return [
            # A mean of probabilities may leave [0, 1] by a rounding.
            Answer(text, len(item.tokens), min(1.0, max(0.0, item.confidence)))
            for text, item in zip(texts, decoded, strict=True)
        ]

    def _encode(self, question: Question) -> list[int] | Refusal:
        turns = [{"role": turn.role, "content": turn.content} for turn in question.turns]
        if question.prompt is not None:
            if self._template is not None or self._tokenizer.chat_template is None:
                text = (self._template or "{prompt}").replace("{prompt}", question.prompt)
                return self._tokens(text, templated=False)
            turns = [{"role": "user", "content": question.prompt}]
        elif self._tokenizer.chat_template is None:
            return Refusal(
                "MessagesNotSupported",
                "this policy has no chat template: send prompt instead of messages",
            )
        try:
            text = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True
            )
        except jinja2.TemplateError as error:
            return Refusal(
                "MessagesNotSupported",
                f"this policy's chat template refuses these messages: {error}",
            )
        return self._tokens(text, templated=True)

    def _tokens(self, text: str, *, templated: bool) -> list[int] | Refusal:
        tokens = rendering.open_tokens(self._tokenizer, text, templated=templated)
        if not tokens:
            return Refusal("EmptyPrompt", "the prompt has no tokens: write something")
        if self._context is not None:
            # A long answer leaves at least half of the context to the prompt.
            room = self._context - min(self._max_new_tokens, self._context // 2)
            if len(tokens) > room:
                return Refusal(
                    TOO_LONG,
                    f"the prompt has {len(tokens)} tokens, this policy takes at most {room}: "
                    "shorten it",
                )
        return tokens


def _context(config: Any) -> int | None:
    """Return the most tokens that the model was built for, or None where there is no bound."""
    value = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    return value if isinstance(value, int) and value > 0 else None
