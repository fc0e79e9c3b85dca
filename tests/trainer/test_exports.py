"""Versions in other formats: read back by the programs that read them, with the same answers."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from policy_api.contract.artifact import Kind, PolicyManifest
from policy_api.contract.report import Outcome
from policy_api.v1alpha1.inputs import Scratch
from policy_api.v1alpha1.store import Export, GGUFType
from policy_trainer import base_model
from policy_trainer.errors import ConfigInvalidError
from policy_trainer.exports import gguf_text, gguf_vocabulary, write
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from trainer.worlds import config
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    set_seed,
)

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore"),  # the libraries' own
    pytest.mark.timeout(300),
]

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,  # each serves two heads, as in TinyLlama
    "max_position_embeddings": 128,
    "initializer_range": 0.2,  # logits that differ enough for one token to be the best by far
}
TEXTS = ["the quick brown fox jumps over the lazy dog", "Score: 7 because it's tested, twice"] * 4
QWEN = next(split for split, name in gguf_vocabulary.SPLITS.items() if name == "qwen2")
ASKED = "Score: 12 it's the fox's \n  turn — naïve"


def like_gpt2():
    return base_model.new_tokenizer(Scratch.model_validate({"vocabSize": 320}), TEXTS)


def like_qwen():
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learned.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trained(learned, ["<|endoftext|>"], alphabet, "<|endoftext|>")


def like_llama():
    learned = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    learned.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    learned.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    special = ["<unk>", "<s>", "</s>"]
    known = [*special, *(f"<0x{n:02X}>" for n in range(256))]
    found = trained(learned, known, [], "</s>", vocab_size=420)
    kept = json.loads(found.backend_tokenizer.to_str())
    kept["added_tokens"] = [token for token in kept["added_tokens"] if token["content"] in special]
    return wrapped(Tokenizer.from_str(json.dumps(kept)), "</s>", unk_token="<unk>")


def trained(learned, special, alphabet, end, vocab_size=320):
    learned.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=special,
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    return wrapped(learned, end)


def wrapped(learned, end, **more):
    return PreTrainedTokenizerFast(
        tokenizer_object=learned,
        eos_token=end,
        pad_token=end,
        clean_up_tokenization_spaces=False,
        **more,
    )


MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig, like_llama, {}),
    "llama-tied": (LlamaForCausalLM, LlamaConfig, like_gpt2, {"tie_word_embeddings": True}),
    "mistral": (MistralForCausalLM, MistralConfig, like_llama, {"sliding_window": None}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, like_qwen, {}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, like_qwen, {"head_dim": 32}),
}


def saved(folder, name):
    """Save a model with random weights, and its tokenizer, as an artifact has them."""
    model_class, config_class, tokenizer_of, more = MODELS[name]
    tokenizer = tokenizer_of()
    set_seed(3)
    shape = config_class(vocab_size=len(tokenizer) + 4, **SHAPE, **more)
    model_class(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def exported(folder, formats, types=(GGUFType.F16,), kind=Kind.CAUSAL_LM):
    wanted = write.Wanted(formats, types)
    return write.write(folder, folder / "exports", kind, "flowlens-v3", wanted)


@pytest.mark.parametrize("name", MODELS)
def test_gguf_of_each_architecture_answers_as_the_model_does(tmp_path, name):
    made = exported(saved(tmp_path, name), [Export.GGUF], list(GGUFType))
    assert [(e.gguf_type, e.path) for e in made] == [
        (t, f"flowlens-v3-{t}.gguf") for t in ("F32", "F16", "Q8_0")
    ]
    off = [e.max_difference for e in made]
    assert off[0] < 1e-4
    assert 0 < off[1] < off[2] < 1
    sizes = [(tmp_path / "exports" / e.path).stat().st_size for e in made]
    assert sizes[0] > 1.5 * sizes[1] > 2 * sizes[2]

    asked = torch.arange(5, 15)[None]
    theirs = {"gguf_file": made[1].path}
    if name == "qwen3":  # of which transformers assumes heads of 128
        theirs["config"] = AutoConfig.from_pretrained(str(tmp_path))
    answers = [
        AutoModelForCausalLM.from_pretrained(str(place), **how).generate(
            asked, max_new_tokens=20, do_sample=False, pad_token_id=0
        )
        for place, how in ((tmp_path, {}), (tmp_path / "exports", theirs))
    ]
    assert answers[0].tolist() == answers[1].tolist()


@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_splits_texts_and_answers_as_transformers_does(tmp_path, name):
    llama_cpp = pytest.importorskip("llama_cpp", reason="extra gguf is not installed")
    (made,) = exported(saved(tmp_path, name), [Export.GGUF], [GGUFType.F32])
    theirs = llama_cpp.Llama(
        str(tmp_path / "exports" / made.path), n_ctx=128, verbose=False, logits_all=True
    )
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path))
    tokens = tokenizer(ASKED, add_special_tokens=False)["input_ids"]
    assert theirs.tokenize(ASKED.encode(), add_bos=False) == tokens

    model = AutoModelForCausalLM.from_pretrained(str(tmp_path), dtype=torch.float32)
    asked = torch.tensor([tokens])
    wanted = model.generate(asked, max_new_tokens=20, do_sample=False, pad_token_id=0)
    theirs.eval(tokens)
    found = []
    for _ in range(20):
        found.append(int(np.argmax(theirs.scores[theirs.n_tokens - 1])))
        theirs.eval(found[-1:])
    ended = wanted[0, len(tokens) :].tolist()
    assert found[: len(ended)] == ended


def test_a_file_that_answers_otherwise_is_refused(tmp_path, monkeypatch):
    saved(tmp_path, "llama-tied")
    monkeypatch.setattr(gguf_text, "_arranged", lambda _tensor, values, _config, _name: values)
    with pytest.raises(ConfigInvalidError, match=r"read back differs by .* leave GGUF out"):
        exported(tmp_path, [Export.GGUF], [GGUFType.F32])


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ({"model_type": "gpt2"}, "a model of type 'gpt2' cannot be written as GGUF, only llama, "),
        (
            {"model_type": "llama", "rope_parameters": {"rope_type": "llama3"}},
            "a model with rope scaling 'llama3' cannot",
        ),
        ({"model_type": "mistral", "sliding_window": 4096}, "sliding-window attention cannot"),
    ],
)
def test_gguf_names_what_it_does_not_know(shape, said):
    with pytest.raises(ConfigInvalidError, match=said):
        gguf_text.check(shape)


def test_a_base_that_cannot_be_exported_is_refused_before_training(tmp_path, attempt):
    shape = GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=320, n_positions=64)
    GPT2LMHeadModel(shape).save_pretrained(tmp_path / "gpt2")
    like_gpt2().save_pretrained(tmp_path / "gpt2")
    store = {"uri": "pvc://artifacts/policies", "path": str(tmp_path / "policies")}
    base = {"model": str(tmp_path / "gpt2")}
    wanted = config(tmp_path, "sft", base=base, store={**store, "exports": ["GGUF"]})
    report = attempt(wanted)
    assert report.outcome is Outcome.CONFIG_INVALID
    assert report.message.startswith("a model of type 'gpt2' cannot be written as GGUF")
    assert not (tmp_path / "policies").exists()


def test_a_tokenizer_that_llama_cpp_would_read_otherwise_is_refused(tmp_path):
    saved(tmp_path, "qwen2")
    file = tmp_path / "tokenizer.json"
    kept = json.loads(file.read_text())
    kept["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+|."
    file.write_text(json.dumps(kept))
    with pytest.raises(ConfigInvalidError, match="a tokenizer that splits by Split and ByteLevel"):
        exported(tmp_path, [Export.GGUF])


@pytest.mark.parametrize("name", ["llama-tied", "qwen3"])
def test_onnx_of_a_text_model_takes_any_batch_and_length(tmp_path, name):
    (made,) = exported(saved(tmp_path, name), [Export.ONNX])
    assert made.max_difference < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "exports" / made.path))
    model = AutoModelForCausalLM.from_pretrained(str(tmp_path), dtype=torch.float32)
    for shape in ((1, 1), (5, 40)):
        tokens = torch.randint(300, shape)
        asked = {"input_ids": tokens.numpy(), "attention_mask": np.ones(shape, dtype=np.int64)}
        (found,) = session.run(["logits"], asked)
        with torch.inference_mode():
            assert np.abs(found - model(tokens).logits.numpy()).max() < 1e-4


def test_onnx_of_a_reward_model_scores_texts(tmp_path):
    tokenizer = like_gpt2()
    shape = LlamaConfig(vocab_size=320, num_labels=1, pad_token_id=tokenizer.pad_token_id, **SHAPE)
    LlamaForSequenceClassification(shape).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (made,) = exported(tmp_path, [Export.ONNX], kind=Kind.REWARD_MODEL)
    graph = onnx.load(tmp_path / "exports" / made.path).graph
    assert [o.name for o in graph.output] == ["score"]


def test_a_run_lists_its_exports_in_policy_json_and_in_its_report(tmp_path, attempt):
    store = {
        "uri": "pvc://artifacts/policies",
        "path": str(tmp_path / "policies"),
        "exports": ["SafeTensors", "GGUF", "ONNX"],
        "ggufTypes": ["F16", "Q8_0"],
        "bundle": True,
    }
    report = attempt(config(tmp_path, "sft", store=store))
    assert report.outcome is Outcome.COMPLETED, report.message
    folder = tmp_path / "policies" / "review-forge" / "1"
    made = PolicyManifest.model_validate_json((folder / "policy.json").read_bytes())
    paths = [
        "exports/review-forge-v1-F16.gguf",
        "exports/review-forge-v1-Q8_0.gguf",
        "exports/review-forge-v1.onnx",
    ]
    assert [e.path for e in made.exports] == paths
    assert set(paths) <= {file.path for file in made.files}
    shown = (folder / "bundle" / "report.html").read_text()
    assert all(f'href="../{path}"' in shown for path in paths)


def test_what_a_kind_cannot_be_written_as_is_said(tmp_path):
    with pytest.raises(ConfigInvalidError, match="a Classifier cannot be written as ONNX"):
        exported(tmp_path, [Export.ONNX], kind=Kind.CLASSIFIER)
