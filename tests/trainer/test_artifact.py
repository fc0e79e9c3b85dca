"""A version's number is claimed once, whoever asks at the same time and whatever was before."""

import json
import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest
from policy_trainer import artifact
from policy_trainer.storage import LocalStore
from trainer.worlds import config


def claim(root, uid, **changes):
    return artifact.claim(LocalStore(root / "policies"), config(root, uid, **changes))


def test_threads_that_claim_at_once_get_numbers_of_their_own(tmp_path):
    config(tmp_path, "makes-the-data")
    with ThreadPoolExecutor(16) as pool:
        numbers = list(pool.map(lambda n: claim(tmp_path, f"uid-{n}"), range(40)))
    assert sorted(numbers) == list(range(1, 41))


def test_processes_that_claim_at_once_get_numbers_of_their_own(tmp_path):
    config(tmp_path, "makes-the-data")
    with multiprocessing.get_context("fork").Pool(8) as pool:
        numbers = pool.starmap(claim, [(tmp_path, f"uid-{n}") for n in range(40)])
    assert sorted(numbers) == list(range(1, 41))


@pytest.mark.parametrize(("lowest", "wanted"), [(1, 2), (2, 2), (5, 5)])
def test_a_claim_starts_at_the_lowest_and_skips_what_exists(tmp_path, lowest, wanted):
    (tmp_path / "policies" / "review-forge" / "1").mkdir(parents=True)
    assert claim(tmp_path, "uid", minVersion=lowest) == wanted
    folder = tmp_path / "policies" / "review-forge" / str(wanted)
    assert json.loads((folder / ".claim.json").read_text())["uid"] == "uid"


def test_a_retry_of_a_training_keeps_its_number_even_when_the_lowest_has_grown(tmp_path):
    assert claim(tmp_path, "first") == 1
    assert claim(tmp_path, "second") == 2
    assert claim(tmp_path, "first", minVersion=3) == 1


def test_a_folder_that_a_crash_left_without_an_owner_is_nobodys(tmp_path):
    (tmp_path / "policies" / "review-forge" / "1").mkdir(parents=True)
    assert artifact.owned(LocalStore(tmp_path / "policies"), config(tmp_path, "uid")) == []


def test_policies_number_their_versions_apart(tmp_path):
    assert claim(tmp_path, "a", policy="one") == 1
    assert claim(tmp_path, "b", policy="two") == 1


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    store = LocalStore(tmp_path)
    store.write("deep/folder/policy.json", b"first")
    store.write("deep/folder/policy.json", b"second")
    assert store.read("deep/folder/policy.json") == b"second"
    assert store.names("deep/folder") == ["policy.json"]
    assert store.read("deep/none") is None
    assert store.names("none") == []
