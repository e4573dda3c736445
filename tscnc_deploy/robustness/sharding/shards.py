"""Long evaluations in shards: spread over processes, continued after a kill, ended when a question is settled.

A shard is a run of consecutive images that faces every attack. An image's random numbers depend on its place in the
whole set: neither the size of the shards nor who evaluates them changes those. Where the victim answers an image with
the same bits in a batch of any size, the results are equal too; elsewhere they agree up to rounding, see `evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import checks
from tscnc_deploy.robustness.attacks.base import Attack
from tscnc_deploy.robustness.error_context import error_context
from tscnc_deploy.robustness.evaluation import Evaluation, evaluate
from tscnc_deploy.robustness.sharding.store import ShardStore, evaluation_key
from tscnc_deploy.robustness.sharding.work import ShardProgress, Work
from tscnc_deploy.robustness.sharding.workers import InProcess, Workers
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim


def evaluate_in_shards(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    attacks: Sequence[Attack],
    *,
    shard_size: int = 256,
    store: Path | None = None,
    identity: str = "",
    workers: Workers | None = None,
    until: Callable[[Evaluation], bool] | None = None,
    seed: int = 0,
    batch_size: int = 256,
    confidence: float = 0.95,
    cascade: bool = False,
    progress: ShardProgress | None = None,
) -> Evaluation:
    """Evaluates shard by shard; see `evaluate` for what is not explained here.

    Args:
        victim: What is attacked.
        images: The whole set. Where `until` may end early, in an order that leaves every beginning representative.
        labels: Their classes.
        threat: How far images may be moved.
        attacks: Every shard faces all of them.
        shard_size: Images per shard.
        store: Folder for finished shards: those of the same evaluation are taken from it instead of being repeated.
        identity: What names the victim in the store, such as the digest of its file.
        workers: Who evaluates; by default this process.
        until: Called with everything known so far after every round of shards, one for each worker; ends the
            evaluation when it returns true.
        seed: Of everything random.
        batch_size: Images per forward pass.
        confidence: Of the intervals.
        cascade: Attack only what earlier attacks left robust.
        progress: See `ShardProgress`.

    Returns:
        The shards that were evaluated or found in the store, joined: a beginning of the set, or all of it.

    Raises:
        InputError: See `evaluate`.
    """
    checks.check_images(images, labels)
    if shard_size < 1:
        msg = f"shard_size = {shard_size} is not a number of images from 1 up"
        raise InputError(msg)
    workers = workers or InProcess()
    images, labels = images.detach().cpu(), labels.cpu()
    key = evaluation_key(
        images, labels, threat, attacks, seed=seed, cascade=cascade, shard_size=shard_size, identity=identity
    )
    # Only what the leading process stores counts: others may see another disk.
    finished = ShardStore(store, key) if store and workers.leads else None
    work = Work(attacks, len(images), progress)
    starts = range(0, len(images), shard_size)
    done: list[Evaluation] = []
    for first in range(0, len(starts), workers.count):
        round_starts = starts[first : first + workers.count]
        found = workers.share(
            {start: finished.load(start, images[start : start + shard_size]) if finished else None
             for start in round_starts}
        )  # fmt: skip
        missing = [start for start in round_starts if found[start] is None]
        tasks = [
            partial(
                _shard, images=images[start : start + shard_size], labels=labels[start : start + shard_size],
                threat=threat, attacks=attacks, seed=seed, batch_size=batch_size, confidence=confidence,
                cascade=cascade, first=start, progress=work.within(start, shard_size) if workers.count == 1 else None,
            )
            for start in missing
        ]  # fmt: skip
        for start, result in zip(missing, workers.run(victim, tasks), strict=True):
            found[start] = result
            if finished:
                finished.save(start, result)
        done += [found[start] for start in round_starts]  # type: ignore[misc]  # all are there now
        known = join(done, confidence)
        work.finished(known)
        if until is not None and workers.share(until(known)):
            break
    return join(done, confidence)


def join(parts: Sequence[Evaluation], confidence: float = 0.95) -> Evaluation:
    """One evaluation from those of consecutive parts of a set of images, which faced the same attacks."""
    first = parts[0]
    return Evaluation.of(
        first.threat,
        torch.cat([part.correct for part in parts]),
        {name: torch.cat([part.robust_by_attack[name] for part in parts]) for name in first.robust_by_attack},
        torch.cat([part.adversarial for part in parts]),
        settings=first.settings,
        cascade=first.cascade,
        seconds={name: sum(part.seconds[name] for part in parts) for name in first.seconds},
        queries={name: sum(part.queries[name] for part in parts) for name in first.queries},
        confidence=confidence,
    )


def _shard(victim: Victim, **settings: object) -> Evaluation:
    """A module's function, so that it can be sent to other processes."""
    with error_context(f"from image {settings['first']} on"):
        return evaluate(victim, **settings)  # type: ignore[arg-type]
