"""Distributes the images of an evaluation: shards, workers, and the folder for finished shards."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock

from tscnc_deploy.errors import StorageError
from tscnc_deploy.files import cache_folder
from tscnc_deploy.verify.plan import Plan
from tscnc_deploy.verify.sources.base import Source

if TYPE_CHECKING:
    from tscnc_deploy.robustness import Victim
    from tscnc_deploy.robustness.sharding.workers import Workers

# Small shards, if an evaluation may end after any of them.
_SHARD_TO_STOP = 32


def open_victim(source: Source, eot: int | None, device: str) -> Victim:
    """Opens the victim; at module level, so that it can be pickled for other processes."""
    from tscnc_deploy.robustness import EOTVictim

    victim = source.open(device)
    return victim if eot is None else EOTVictim(victim, eot)


@contextmanager
def shard_store(source: Source, plan: Plan, *, leads: bool) -> Iterator[Path | None]:
    """The folder for finished shards: the user's, or one in the cache that is removed after success.

    None if there is no cache, as in a container without a home folder, or if another evaluation uses it.

    Args:
        source: The source to evaluate.
        plan: May name the user's folder.
        leads: Whether this process stores, see `Workers.leads`; the others get None and do not lock.
    """
    if not leads:
        yield None
        return
    if plan.store is not None:
        yield plan.store
        return
    try:
        cache = cache_folder("verify")
    except StorageError:
        yield None
        return
    folder = cache / source.digest()[:16]
    with _locked(cache / f"{folder.name}.lock") as acquired:
        yield folder if acquired else None
        if acquired:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Acquires the lock of a file; false if another process holds it or the file cannot be written."""
    lock = FileLock(path, blocking=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError:  # includes the lock's timeout
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def chosen_workers(source: Source, plan: Plan) -> Workers:
    """The workers: this process, or the number of others in the plan."""
    from tscnc_deploy.robustness.sharding.workers import InProcess, Joblib

    if plan.workers == 1:
        return InProcess()
    devices = [plan.device]
    if plan.device == "cuda":
        devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return Joblib(partial(open_victim, source, plan.eot), plan.workers, backend=plan.backend, devices=devices)


def shard_size(total: int, plan: Plan, workers: int) -> int:
    """Whole batches, but at least one shard per worker, and small shards if any may be the last."""
    if plan.may_stop:
        return min(_SHARD_TO_STOP, plan.batch_size)
    return max(min(plan.batch_size, -(-total // workers)), 1)
