"""Distributes the images of an evaluation: shards, workers, and the folder for finished shards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock

from tscnc_deploy.errors import StorageError
from tscnc_deploy.files import cache_folder
from tscnc_deploy.verify.plan import Plan
from tscnc_deploy.verify.sources.base import Source
from tscnc_deploy.versions import installed_version, own_version

if TYPE_CHECKING:
    from tscnc_deploy.robustness import Victim
    from tscnc_deploy.robustness.sharding.workers import Workers

# Small shards, if gates may be decided after any of them. A budget needs none, and larger batches take less time.
_SHARD_TO_DECIDE = 32
_SHARD_IN_BUDGET = 128
# An interruption loses the shard in progress. On a CPU, gradients of 64 images at a time take 4% to 8% more time per
# image than those of 128 or 256, and of 32 at a time 22% to 29% more (8x8 digits, ResNet-18, one thread). On a GPU
# large batches matter, and a shard takes less time.
_SHARD_ON_CPU = 64
# Distributions that compute logits and gradients; the two of ONNX Runtime install the same module.
_COMPUTING = ("torch", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx")


@dataclass(frozen=True)
class Opening:
    """Opens the victim, in this process or another; copies compare equal, see `workers.Open`.

    Attributes:
        source: What is attacked.
        eot: Calls whose logits are averaged; None for one call.
    """

    source: Source
    eot: int | None

    def __call__(self, device: str) -> Victim:
        """Opens it on a device, see `Source.open`."""
        from tscnc_deploy.robustness import EOTVictim

        victim = self.source.open(device)
        return victim if self.eot is None else EOTVictim(victim, self.eot)


def store_identity(source: Source, eot: int | None) -> str:
    """Names what is attacked in a store of shards, with the versions of what computes it.

    An upgrade may change figures, so that stored ones of other versions are not used.

    Args:
        source: What is attacked.
        eot: Calls whose logits are averaged; None for one call.
    """
    versions = {name: installed_version(name) for name in _COMPUTING}
    return json.dumps([source.digest(), eot, own_version(), versions])


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
    return Joblib(Opening(source, plan.eot), plan.workers, backend=plan.backend, devices=devices)


def shard_size(total: int, plan: Plan, workers: int) -> int:
    """Images per shard: a batch, less on a CPU and where any shard may be the last, and at least a shard per worker."""
    if plan.until_decided:
        return min(_SHARD_TO_DECIDE, plan.batch_size)
    if plan.may_stop:
        return min(_SHARD_IN_BUDGET, plan.batch_size)
    largest = plan.batch_size if plan.device.startswith("cuda") else min(_SHARD_ON_CPU, plan.batch_size)
    return max(min(largest, -(-total // workers)), 1)
