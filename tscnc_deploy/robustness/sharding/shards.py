"""Long evaluations in shards: distributed over processes, resumable, and ended early when a question is settled.

A shard is a sequence of consecutive images that faces every attack. An image's random numbers depend only on its index
in the whole set, not on the shard size or on the process that evaluates it. If the victim's logits are bit-identical
for any batch size, the results are equal too; otherwise they agree up to rounding, see `evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
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
    round_size: Callable[[Evaluation | None], int | None] | None = None,
    seed: int = 0,
    batch_size: int = 256,
    confidence: float = 0.95,
    cascade: bool = False,
    progress: ShardProgress | None = None,
) -> Evaluation:
    """Evaluates shard by shard; see also `evaluate`.

    Args:
        victim: What is attacked.
        images: The whole set. If `until` may end early, in an order in which every prefix is representative.
        labels: Their classes.
        threat: How far images may be moved.
        attacks: The attacks; every shard faces all of them.
        shard_size: Images per shard.
        store: Folder for finished shards; stored shards of the same evaluation are reused.
        identity: Identifies the victim in the store, such as the digest of its file.
        workers: The workers that evaluate; by default this process.
        until: Called with all results so far after each round of shards, one per worker; ends the evaluation by
            returning true.
        round_size: Called with all results so far, None at first, before each round; returns the largest number of
            images that it may have, or None for a shard per worker, which is the most.
        seed: Seed of all random numbers.
        batch_size: Images per forward pass.
        confidence: Confidence of the intervals.
        cascade: Run each attack only on images that are robust to the earlier ones.
        progress: See `ShardProgress`.

    Returns:
        The joined results of the shards that were evaluated or found in the store: for a prefix of the set, or all of
        it.

    Raises:
        InputError: See `evaluate`.
    """
    checks.check_images(images, labels)
    if shard_size < 1:
        msg = f"shard_size = {shard_size} is not a positive number of images"
        raise InputError(msg)
    workers = workers or InProcess()
    images, labels = images.detach().cpu(), labels.cpu()
    key = evaluation_key(
        images, labels, threat, attacks, seed=seed, cascade=cascade, shard_size=shard_size, identity=identity
    )
    # Only the leading process uses the store: others may have another disk.
    finished = ShardStore(store, key) if store and workers.leads else None
    work = Work(attacks, len(images), progress)
    done: list[Evaluation] = []
    known: Evaluation | None = None
    seen = 0
    while seen < len(images):
        limit = workers.share(round_size(known)) if round_size else None
        parts = _round(seen, len(images), shard_size, workers.count, limit)
        round_starts, seen = list(parts), max(parts.values())
        found = workers.share(
            {start: finished.load(start, images[start:end]) if finished else None for start, end in parts.items()}
        )
        missing = [start for start in round_starts if found[start] is None]
        tasks = [
            partial(
                _shard, images=images[start : parts[start]], labels=labels[start : parts[start]], threat=threat,
                attacks=attacks, seed=seed, batch_size=batch_size, confidence=confidence, cascade=cascade, first=start,
                progress=work.within(start, parts[start] - start) if workers.count == 1 else None,
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


def _round(seen: int, total: int, shard_size: int, workers: int, limit: int | None) -> dict[int, int]:
    """The end of each shard of the next round, by its first image.

    Shards and rounds end at multiples of their sizes, so that limited rounds do not move those that follow.
    """
    size = shard_size * workers
    end = min((seen // size + 1) * size, total)
    if limit is not None:
        end = min(end, seen + max(limit, 1))
    inner = range((seen // shard_size + 1) * shard_size, end, shard_size)
    return dict(pairwise((seen, *inner, end)))


def join(parts: Sequence[Evaluation], confidence: float = 0.95) -> Evaluation:
    """Joins evaluations of consecutive parts of a set of images under the same attacks."""
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
    """At module level, so that it can be pickled for other processes."""
    with error_context(f"from image {settings['first']} on"):
        return evaluate(victim, **settings)  # type: ignore[arg-type]
