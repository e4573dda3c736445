"""How the images of an evaluation are shared: shards, who evaluates them, and where finished ones are kept."""

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

# Small shards, where an evaluation may end after any of them.
_SHARD_TO_STOP = 32


def open_victim(source: Source, eot: int | None, device: str) -> Victim:
    """Opens what is attacked; a module's function, so that other processes can be told to do it."""
    from tscnc_deploy.robustness import EOTVictim

    victim = source.open(device)
    return victim if eot is None else EOTVictim(victim, eot)


@contextmanager
def shard_store(source: Source, plan: Plan, *, leads: bool) -> Iterator[Path | None]:
    """The folder for finished shards: the user's, or one of the cache that is removed when all went well.

    None where there is no cache, as in a container without a home, or where another evaluation uses it.

    Args:
        source: What is evaluated.
        plan: Names the user's folder.
        leads: Whether this process stores, see `Workers.leads`; the others get None and lock nothing.
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
    """Holds the lock of a file, and says so; false where another holds it or the file cannot be written."""
    lock = FileLock(path, blocking=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError:  # a lock's timeout is one too
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def chosen_workers(source: Source, plan: Plan) -> Workers:
    """Who evaluates: this process, or as many others as the plan names."""
    from tscnc_deploy.robustness.sharding.workers import InProcess, Joblib

    if plan.workers == 1:
        return InProcess()
    devices = [plan.device]
    if plan.device == "cuda":
        devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return Joblib(partial(open_victim, source, plan.eot), plan.workers, backend=plan.backend, devices=devices)


def shard_size(total: int, plan: Plan, workers: int) -> int:
    """Whole batches, but at least a shard for each worker, and small ones where any may be the last."""
    if plan.may_stop:
        return min(_SHARD_TO_STOP, plan.batch_size)
    return max(min(plan.batch_size, -(-total // workers)), 1)
