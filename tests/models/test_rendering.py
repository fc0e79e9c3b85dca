"""Prompts become the same tokens in TRL's training, in evaluation and in the server.

On tokenizers and models of the shapes that people use, made tiny.
"""

import pytest
import torch
from datasets import Dataset
from policy_api.contract.artifact import Generation
from policy_api.v1alpha1.inputs import Scratch
from policy_models.decision import Question, Request
from policy_models.text import rendering
from policy_models.text.generator import TextPolicy
from policy_trainer import base_model, evaluate
from policy_trainer.process import Process
from tokenizers import processors
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    set_seed,
)
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

pytestmark = [pytest.mark.trainer, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]

TEXTS = ["the quick brown fox jumps over the lazy dog", "Score: 7 because it's tested, twice"] * 4
PROMPT, ANSWER, WORSE = "the quick brown", " fox jumps", " dog"
SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,  # logits that differ enough for one token to be the best by far
}
SMALL = {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8}
OPT = {"ffn_dim": 48, "word_embed_proj_dim": 32}
ALONE = Process(rank=0, local_rank=0, world_size=1, on_gpu=False)
TURN = "{% for m in messages %}<turn>{{ m.content }}<end_of_turn>{% endfor %}"
# The special tokens, what the tokenizer adds around a text, its chat template, and the model.
SHAPES = {
    "opt": (
        ("</s>", "</s>"),
        "</s> $A",
        None,
        OPTForCausalLM,
        OPTConfig,
        {"ffn_dim": 48, "word_embed_proj_dim": 32},
    ),
    "llama": (("<s>", "</s>"), "<s> $A", None, LlamaForCausalLM, LlamaConfig, SMALL),
    "ends-all": (("<s>", "</s>"), "<s> $A </s>", None, LlamaForCausalLM, LlamaConfig, SMALL),
    "qwen3": (("<|im_end|>", "<|im_end|>"), "$A", None, Qwen3ForCausalLM, Qwen3Config, SMALL),
    "gemma": (("<bos>", "<eos>"), "<bos> $A", None, Gemma3ForCausalLM, Gemma3TextConfig, SMALL),
    "gemma-chat": (
        ("<bos>", "<eos>"),
        "<bos> $A",
        "{{ bos_token }}" + TURN + "{% if add_generation_prompt %}<turn>{% endif %}",
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        SMALL,
    ),
}


def tokenizer_of(name):
    (bos, eos), around, chat, *_ = SHAPES[name]
    plain = base_model.new_tokenizer(Scratch.model_validate({"vocabSize": 320}), TEXTS)
    made = PreTrainedTokenizerFast(
        tokenizer_object=plain.backend_tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token="<pad>",
        additional_special_tokens=["<turn>", "<end_of_turn>"],
        clean_up_tokenization_spaces=False,
    )
    special = [(token, made.convert_tokens_to_ids(token)) for token in {bos, eos}]
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=around, special_tokens=special
    )
    made.chat_template = chat
    return made


@pytest.fixture(scope="module", params=sorted(SHAPES))
def saved(request, tmp_path_factory):
    """Return a folder with a model as a hub has it, with a word of its own on how to generate."""
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = tokenizer_of(request.param)
    *_, model_class, config_class, more = SHAPES[request.param]
    set_seed(3)
    ids = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    shape = config_class(
        vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, **ids, **SHAPE, **more
    )
    model = model_class(shape)
    turn = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=3.0,
        top_k=2,
        repetition_penalty=5.0,
        eos_token_id=[tokenizer.eos_token_id, turn],
        **ids,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def loaded(saved):
    """Return model and tokenizer as a training loads them."""
    run = type("Run", (), {"seed": 1, "adapter": None})
    return base_model._pretrained(str(saved), run, ALONE, "base")


def rows(tokenizer, **columns):
    if not tokenizer.chat_template:
        return Dataset.from_list([{"prompt": PROMPT, **columns}])
    made = {name: [{"role": "assistant", "content": said}] for name, said in columns.items()}
    return Dataset.from_list([{"prompt": rendering.user(PROMPT), **made}])


def trl(folder, kind, **more):
    return kind(output_dir=str(folder), report_to=[], use_cpu=True, max_length=None, **more)


def test_sft_learns_the_tokens_that_are_evaluated(loaded, tmp_path):
    model, tokenizer = loaded
    trainer = SFTTrainer(
        model,
        trl(tmp_path, SFTConfig),
        train_dataset=rows(tokenizer, completion=ANSWER),
        processing_class=tokenizer,
    )
    (row,) = trainer.train_dataset
    assert row["input_ids"] == rendering.answered_tokens(tokenizer, PROMPT, ANSWER)
    asked = rendering.asked_tokens(tokenizer, PROMPT)
    assert row["input_ids"][: len(asked)] == asked
    assert row["labels"] == [-100] * len(asked) + row["input_ids"][len(asked) :]


def test_dpo_and_reward_models_learn_the_tokens_that_are_evaluated(loaded, tmp_path):
    model, tokenizer = loaded
    data = rows(tokenizer, chosen=ANSWER, rejected=WORSE)
    trainer = DPOTrainer(
        model, None, trl(tmp_path, DPOConfig), train_dataset=data, processing_class=tokenizer
    )
    (row,) = trainer.train_dataset
    for name, said in (("chosen_ids", ANSWER), ("rejected_ids", WORSE)):
        wanted = rendering.answered_tokens(tokenizer, PROMPT, said)
        assert [*row["prompt_ids"], *row[name]] == wanted


def _asked(prompt):
    return Request(question=Question(prompt))


def _said(found):
    return found.ranking[0].action


def test_evaluation_and_server_answer_alike_whatever_the_hub_says_of_sampling(
    saved, loaded, tmp_path
):
    model, tokenizer = loaded
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    how = Generation(max_new_tokens=12, prompt_template=rendering.template(tokenizer))
    asked = [PROMPT, "Score: ", "the lazy dog jumps over "]
    evaluated = evaluate.answers(model, tokenizer, asked, how, ALONE)
    engine = TextPolicy(
        AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(tmp_path),
        how,
        draft_tokens=4,
    )
    alone = [_said(engine.decide([_asked(prompt)])[0]) for prompt in asked]
    together = [_said(found) for found in engine.decide([_asked(prompt) for prompt in asked])]
    assert evaluated == alone == together


def test_every_declared_end_ends_an_answer(loaded):
    model, tokenizer = loaded
    turn = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    assert set(rendering.stop_tokens(model, tokenizer)) == {tokenizer.eos_token_id, turn}
    assert model.generation_config.repetition_penalty in (None, 1.0)
    assert not model.generation_config.do_sample
