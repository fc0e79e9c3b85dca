"""SFT beyond plain rows: chats, packed sequences, quantized weights under an adapter."""

import json

import pytest
from policy_api.contract.artifact import PolicyManifest
from policy_api.contract.report import Outcome
from trainer.worlds import StopAt, config, reference, sha256

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore"),  # the libraries' own
    pytest.mark.timeout(300),
]

LEARN = {"maxSteps": 40, "learningRate": 0.01, "batchSize": 8, "maxLength": 96}


def chat(number):
    said = {"role": "user", "content": f"Rate {number % 8}"}
    before = {"role": "assistant", "content": "Which scale?"}
    scale = {"role": "user", "content": "up to four"}
    return [
        {"role": "system", "content": "Be brief."},
        said,
        before,
        scale,
        {"role": "assistant", "content": f"Score: {number % 4}"},
    ]


def write_chats(file, count):
    lines = (json.dumps({"messages": chat(n)}) + "\n" for n in range(count))
    file.write_text("".join(lines))


def metrics(report):
    assert report.outcome is Outcome.COMPLETED, report.message
    return {metric.name: metric.value for metric in report.metrics}


def test_it_learns_the_last_answer_of_chats(attempt, tmp_path):
    write_chats(tmp_path / "train.jsonl", 48)
    write_chats(tmp_path / "validation.jsonl", 12)
    block = {**LEARN, "maxSteps": 240}
    found = metrics(attempt(config(tmp_path, "chats", sft=block)))
    assert found["eval_loss"] < 0.3  # who only knows the form has a loss of 0.46
    assert found["eval_answer_valid"] == 1


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (chat(1)[:1], "field 'messages' must be a list of a question and an answer"),
        (chat(1)[:-1], "the last message is of role 'user', wanted assistant"),
        ([*chat(1)[:-1], {"role": "bot", "content": "4"}], "messages[4] must be an object whose"),
        ([*chat(1)[:-1], {"role": "assistant"}], "field 'content' is missing"),
    ],
)
def test_a_chat_that_teaches_nothing_is_named(attempt, tmp_path, messages, said):
    (tmp_path / "train.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
    report = attempt(config(tmp_path, "uid", sft=LEARN))
    assert report.outcome is Outcome.DATA_INVALID
    assert "pvc://artifacts/train.jsonl:1: " in report.message
    assert said in report.message


def test_packed_rows_are_learned_as_if_they_stood_alone(attempt, tmp_path):
    """With all rows in one step, the loss of the first step is the same; steps are fewer after."""
    losses = []
    for packing in (False, True):
        block = {**LEARN, "maxSteps": 1, "batchSize": 48, "packing": packing}
        block["args"] = {"logging_steps": 1}
        root = tmp_path / str(packing)
        root.mkdir()
        assert attempt(config(root, "uid", sft=block)).outcome is Outcome.COMPLETED
        history = json.loads((tmp_path / "state" / "progress.json").read_text())
        losses.append(history["metrics"]["loss"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_packed_run_that_was_stopped_goes_on_bit_exactly(attempt, tmp_path):
    block = {**LEARN, "maxSteps": 6, "batchSize": 1, "packing": True}
    assert attempt(config(tmp_path, "whole", sft=block)).outcome is Outcome.COMPLETED
    stopped = attempt(config(tmp_path, "parts", sft=block), StopAt(look=4))
    assert (stopped.outcome, stopped.step) == (Outcome.PREEMPTED, 3)
    rest = attempt(config(tmp_path, "parts", sft=block))
    assert (rest.outcome, rest.resumed_from_step) == (Outcome.COMPLETED, 3)
    weights = [
        sha256(tmp_path / "policies" / "review-forge" / n / "model.safetensors") for n in "12"
    ]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("how", ["Int8", "NF4"])
def test_an_adapter_learns_on_quantized_weights_and_becomes_ordinary_ones(attempt, tmp_path, how):
    pytest.importorskip("bitsandbytes", reason="the environment without GPU has no bitsandbytes")
    assert attempt(config(tmp_path, "start", sft=LEARN)).outcome is Outcome.COMPLETED
    folder = tmp_path / "policies" / "review-forge" / "1"
    adapter = {"rank": 4, "alpha": 8, "quantization": how}
    (tmp_path / "train.jsonl").write_text(
        "".join(
            json.dumps({"prompt": f"Rate {n % 8}", "completion": f"Score: {7 - n % 4}"}) + "\n"
            for n in range(48)
        )
    )
    (tmp_path / "validation.jsonl").write_text((tmp_path / "train.jsonl").read_text())
    base = {"artifact": reference(folder)}
    wanted = config(tmp_path, "quantized", sft=LEARN, adapter=adapter, base=base)
    found = metrics(attempt(wanted))
    assert found["eval_loss"] < 0.7 * found["eval_loss_base"]
    made = PolicyManifest.model_validate_json((folder.parent / "2" / "policy.json").read_bytes())
    assert "quantization_config" not in (folder.parent / "2" / "config.json").read_text()
    assert made.parent.version == 1


def test_without_the_library_quantization_is_refused_with_what_to_do(
    attempt, tmp_path, monkeypatch
):
    monkeypatch.setattr("policy_trainer.quantized.find_spec", lambda _name: None)
    adapter = {"quantization": "NF4"}
    wanted = config(tmp_path, "uid", sft=LEARN, adapter=adapter, base={"model": str(tmp_path)})
    report = attempt(wanted)
    assert (report.outcome, report.field) == (Outcome.CONFIG_INVALID, "adapter.quantization")
    assert "NF4 needs the package bitsandbytes" in report.message
