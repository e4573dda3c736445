"""Where finished shards are kept, and who may keep them."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from tscnc_deploy.robustness import Threat
from tscnc_deploy.threads import thread_count
from tscnc_deploy.verify import share
from tscnc_deploy.verify.budget import Budget
from tscnc_deploy.verify.plan import Plan
from tscnc_deploy.verify.share import chosen_workers, shard_size, shard_store, store_identity

PLAN = Plan(threat=Threat(epsilon=0.1), limits={})


class Source:
    name = "model"

    def digest(self):
        return "0123456789abcdef" * 4


@dataclass(frozen=True)
class Noted:
    """Notes every opening in a file: the process, and the threads that an engine and torch would use there."""

    notes: Path

    def open(self, device):
        with self.notes.open("a") as file:
            file.write(f"{os.getpid()} {thread_count()} {torch.get_num_threads()}\n")
        return device


def process_and_victim(victim):
    return os.getpid(), victim


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "tscnc-deploy" / "verify"


def is_free(cache: Path) -> bool:
    lock = FileLock(cache / "0123456789abcdef.lock", blocking=False)
    try:
        lock.acquire()
    except OSError:
        return False
    lock.release()
    return True


def test_the_leading_process_alone_locks_and_stores(cache):
    with shard_store(Source(), PLAN, leads=False) as store:
        assert store is None
        assert not cache.exists()
        # The other process of torchrun has not taken the lock away.
        with shard_store(Source(), PLAN, leads=True) as leading:
            assert leading == cache / "0123456789abcdef"


def test_the_lock_is_released_when_the_evaluation_ends(cache):
    with shard_store(Source(), PLAN, leads=True) as store:
        store.mkdir()
        (store / "shard").touch()
        assert not is_free(cache)
    assert is_free(cache)
    assert not store.exists()


def test_after_a_failure_the_lock_is_free_and_the_shards_are_kept(cache):
    kept = []
    with pytest.raises(ValueError, match="failed") as caught, shard_store(Source(), PLAN, leads=True) as store:
        store.mkdir()
        kept.append(store)
        raise ValueError("failed")
    # The traceback holds the frames of the context, so nothing here was left to garbage collection.
    assert caught.value.__traceback__ is not None
    assert is_free(cache)
    assert kept[0].is_dir()


def test_two_evaluations_of_the_same_do_not_share_a_folder(cache):
    with shard_store(Source(), PLAN, leads=True) as first, shard_store(Source(), PLAN, leads=True) as second:
        assert first is not None
        assert second is None
        assert not is_free(cache)
    assert is_free(cache)


def test_a_folder_of_the_users_is_not_locked(cache, tmp_path):
    plan = Plan(threat=Threat(epsilon=0.1), limits={}, store=tmp_path / "mine")
    with shard_store(Source(), plan, leads=True) as store:
        assert store == tmp_path / "mine"
    with shard_store(Source(), plan, leads=False) as store:
        assert store is None
    assert not cache.exists()


@pytest.mark.parametrize(
    ("changes", "workers", "size"),
    [
        ({}, 1, 64),
        ({"batch_size": 8}, 1, 8),
        ({"device": "cuda:1"}, 1, 256),
        ({"device": "cuda"}, 4, 75),
        ({}, 20, 15),
        ({"until_decided": True}, 1, 32),
        ({"budget": Budget(seconds=60)}, 1, 128),
    ],
)
def test_a_cpu_saves_results_often(changes, workers, size):
    assert shard_size(300, replace(PLAN, **changes), workers) == size


@pytest.mark.slow
def test_each_process_opens_its_victim_once_with_its_part_of_the_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("TSCNC_THREADS", "2")
    workers = chosen_workers(Noted(tmp_path / "notes"), replace(PLAN, workers=2))
    tasks = [process_and_victim] * 4
    results = [*workers.run(None, tasks), *workers.run(None, tasks)]
    assert [victim for _, victim in results] == ["cpu"] * 8
    processes = {process for process, _ in results}
    assert os.getpid() not in processes
    notes = (tmp_path / "notes").read_text().splitlines()
    assert sorted(notes) == sorted(f"{process} 1 1" for process in processes)


def test_shards_of_other_versions_have_another_name(monkeypatch):
    now, found = store_identity(Source(), None), share.installed_version
    assert store_identity(Source(), None) == now
    assert store_identity(Source(), 8) != now
    for name in ("torch", "onnxruntime", "onnxruntime-gpu"):
        with monkeypatch.context() as patched:
            patched.setattr(share, "installed_version", lambda each, name=name: "99" if each == name else found(each))
            assert store_identity(Source(), None) != now
    monkeypatch.setattr(share, "own_version", lambda: "99")
    assert store_identity(Source(), None) != now
