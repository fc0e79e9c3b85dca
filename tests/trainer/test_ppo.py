"""PPO: its arithmetic against plain formulas, and whole runs that learn, stop and go on exactly."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from policy_api.contract.artifact import PolicyManifest
from policy_api.contract.report import Outcome
from policy_api.v1alpha1.recipes.ppo import AdaptiveKL
from policy_trainer import ppo
from trainer.worlds import StopAt, config, sha256
from trainer.worlds import ppo as ppo_run

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore"),  # the libraries' own
    pytest.mark.timeout(300),
]

numbers = st.floats(-3, 3, width=32)


@given(
    st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6),
    st.integers(0, 3),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_advantages_are_the_sum_of_discounted_errors(row, padding, gamma, lambda_):
    rewards, values = (list(column) for column in zip(*row, strict=True))
    length = len(row)
    mask = torch.tensor([[1.0] * length + [0.0] * padding])
    padded = [torch.tensor([list(c) + [9.0] * padding]) for c in (rewards, values)]
    found = ppo.advantages(*padded, mask, gamma, lambda_)[0]
    following = [*values[1:], 0.0]
    errors = [r + gamma * n - v for r, v, n in zip(rewards, values, following, strict=True)]
    for token in range(length):
        wanted = sum(
            (gamma * lambda_) ** (later - token) * errors[later] for later in range(token, length)
        )
        assert found[token].item() == pytest.approx(wanted, abs=1e-4)
    assert not found[length:].any()


def test_the_score_comes_at_the_end_and_the_penalty_at_each_token():
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    apart = torch.tensor([[1.0, 2.0, 7.0], [0.0, -1.0, 3.0]])
    found = ppo.token_rewards(torch.tensor([10.0, 20.0]), apart, mask, 0.5)
    torch.testing.assert_close(found, torch.tensor([[-0.5, 9.0, 0.0], [0.0, 0.5, 18.5]]))


def before(**changes):
    ones = torch.ones(1, 2)
    made = dict.fromkeys(("logs", "values", "gains", "returns"), ones * 0)
    return ppo.Before(**{"mask": ones, **made, **changes})


def test_a_ratio_out_of_bounds_is_clipped_when_that_is_worse():
    gains = torch.tensor([[1.0, -1.0]])
    logs = torch.tensor([[1.0, -1.0]])  # both have gone further than 0.2 the way they should
    policy, _, clipped = ppo.losses(logs, torch.zeros(1, 2), before(gains=gains), 0.2)
    assert policy.item() == pytest.approx(-(1.2 - 0.8) / 2)
    assert clipped.item() == 1
    policy, _, _ = ppo.losses(-logs, torch.zeros(1, 2), before(gains=gains), 0.2)
    assert policy.item() == pytest.approx(-(torch.e**-1 - torch.e**1) / 2, rel=1e-4)  # not clipped


def test_a_value_that_moves_far_is_judged_at_its_clipped_place():
    values = torch.tensor([[1.0, 1.0]])
    _, loss, _ = ppo.losses(torch.zeros(1, 2), values, before(returns=values), 0.2)
    assert loss.item() == pytest.approx(0.5 * 0.8**2)


@given(st.floats(0.001, 10), st.floats(-1, 5))
def test_the_penalty_follows_its_target_in_small_steps(coefficient, divergence):
    kl = AdaptiveKL(target=0.15, rate=0.1)
    found = ppo.next_coefficient(coefficient, divergence, kl)
    assert abs(found / coefficient - 1) <= 0.02 + 1e-9
    assert (found > coefficient) == (divergence > 0.15) or found == pytest.approx(coefficient)


def wanted(root, uid, base, block=None, **changes):
    return config(root, uid, **{**ppo_run(base, **(block or {})), **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("start")


@pytest.fixture
def start(folder, attempt):
    """A folder with what a short SFT made; trained once."""
    sft = {"maxSteps": 60, "learningRate": 0.01, "batchSize": 8, "maxLength": 64}
    assert attempt(config(folder, "sft", sft=sft)).outcome is Outcome.COMPLETED
    return folder / "policies" / "review-forge" / "1"


def artifact(root, number):
    folder = root / "policies" / "review-forge" / str(number)
    return folder, PolicyManifest.model_validate_json((folder / "policy.json").read_bytes())


def test_it_learns_what_is_rewarded_and_says_how_often_it_wins(start, attempt, tmp_path):
    block = {"iterations": 40, "batchSize": 16, "miniBatchSize": 8, "kl": {"target": 0.3}}
    (tmp_path / "probes.jsonl").write_text(json.dumps({"prompt": "Rate 3"}) + "\n")
    made = wanted(tmp_path, "ppo", start, block=block)
    probes = {"name": "probes", "uri": "file:///p", "path": str(tmp_path / "probes.jsonl")}
    made = type(made).model_validate({**made.to_wire(), "data": [*made.to_wire()["data"], probes]})
    report = attempt(made)
    assert report.outcome is Outcome.COMPLETED, report.message
    metrics = {m.name: m for m in report.metrics}
    assert metrics["eval_reward_delta"].low > 0.1, report.metrics
    assert metrics["win_rate"].value == pytest.approx(metrics["win_rate_delta"].value + 0.5)
    assert metrics["win_rate_delta"].low > 0
    assert 0 <= metrics["safety_violation_rate"].low <= metrics["safety_violation_rate"].high <= 1
    assert metrics["mean_tokens"].value <= 24
    assert metrics["kl"].value > 0
    made = artifact(tmp_path, 1)[1]
    assert (made.kind, made.generation.max_new_tokens) == ("CausalLM", 24)


@pytest.mark.parametrize("adapter", [None, {"rank": 4, "alpha": 8}], ids=["whole", "adapter"])
def test_a_run_that_was_stopped_goes_on_bit_exactly(start, attempt, tmp_path, adapter):
    whole = attempt(wanted(tmp_path, "whole", start, adapter=adapter))
    assert whole.outcome is Outcome.COMPLETED, whole.message
    parts = wanted(tmp_path, "parts", start, adapter=adapter)
    first = attempt(parts, StopAt(look=3))
    assert (first.outcome, first.step) == (Outcome.PREEMPTED, 2)
    rest = attempt(parts)
    assert (rest.outcome, rest.resumed_from_step) == (Outcome.COMPLETED, 2)
    weights = [artifact(tmp_path, n)[0] / "model.safetensors" for n in (1, 2)]
    assert sha256(weights[0]) == sha256(weights[1])
    assert whole.metrics == rest.metrics


def test_the_first_divergence_is_nothing(start, attempt, tmp_path):
    """What samples and what is compared with are the same model at first, to the last bit or so."""
    block = {"iterations": 1, "learningRate": 1e-9}
    report = attempt(wanted(tmp_path, "first", start, block=block))
    assert {m.name: m.value for m in report.metrics}["kl"] == pytest.approx(0, abs=1e-5)


def test_zero3_is_refused(start, attempt, tmp_path):
    report = attempt(wanted(tmp_path, "zero3", start, compute={"deepspeed": {"stage": 3}}))
    assert (report.outcome, report.field) == (Outcome.CONFIG_INVALID, "compute.deepspeed.stage")
