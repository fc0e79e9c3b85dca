"""The checkpoint of a recipe that needs no torch: it goes on exactly, and imports none."""

import random
import sys

import numpy as np
import pytest
from policy_trainer.loop import load_state, save_state
from policy_trainer.process import Process

ALONE = Process(rank=0, local_rank=0, world_size=1, on_gpu=False)


@pytest.mark.skipif("torch" in sys.modules, reason="another test has imported torch")
def test_a_state_and_the_generators_come_back(tmp_path):
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002 - libraries use it
    random.gauss(0, 1)
    state = {"weights": [0.1, -2.5e-17], "count": 3}
    save_state(tmp_path, ALONE, state)
    wanted = [random.gauss(0, 1), random.random(), *np.random.random(3)]  # noqa: NPY002
    random.seed(8)
    assert load_state(tmp_path, ALONE) == state
    assert [random.gauss(0, 1), random.random(), *np.random.random(3)] == wanted  # noqa: NPY002
    assert [file.name for file in tmp_path.iterdir()] == ["state-0.json"]
    assert "torch" not in sys.modules
