"""Long evaluations in shards: spread over processes, continued after a kill, ended when a question is settled.

A shard is a run of consecutive images that faces every attack. An image's random numbers depend on its place in the
whole set, so neither the size of the shards nor who evaluates them changes a result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness.attacks.base import Attack
from tscnc_deploy.robustness.evaluation import Evaluation, Progress, evaluate
from tscnc_deploy.robustness.statistics import accuracy
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victim import Victim


def evaluate_in_shards(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    attacks: Sequence[Attack],
    *,
    shard_size: int = 64,
    store: Path | None = None,
    identity: str = "",
    rank: int = 0,
    world: int = 1,
    until: Callable[[Evaluation], bool] | None = None,
    seed: int = 0,
    batch_size: int = 256,
    confidence: float = 0.95,
    cascade: bool = False,
    progress: Progress | None = None,
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
        rank: Number of this process; it takes every `world`-th shard, from its own number on.
        world: Number of processes.
        until: Called with everything known so far after every shard; ends the evaluation when it returns true.

    Returns:
        The shards that this process evaluated or found in the store, joined in order. With several processes, join
        what all of them stored with `join_stored` afterwards.

    Raises:
        InputError: See `evaluate`; or there is no shard for this rank.
    """
    key = _key(images, labels, threat, attacks, seed, cascade, confidence, shard_size, identity)
    starts = range(rank * shard_size, len(images), world * shard_size)
    if not starts:
        msg = f"there is nothing to evaluate for process {rank} of {world}: {len(images)} images make too few shards"
        raise InputError(msg)
    done: list[Evaluation] = []
    for start in starts:
        stop = min(start + shard_size, len(images))
        path = store / f"{key[:16]}-{start:08d}.safetensors" if store else None
        part = _load(path, key) if path else None
        if part is None:
            part = evaluate(
                victim, images[start:stop], labels[start:stop], threat, attacks, seed=seed, batch_size=batch_size,
                confidence=confidence, cascade=cascade, first=start,
            )  # fmt: skip
            if path:
                _save(path, part, key)
        done.append(part)
        if progress:
            progress("images", min(len(done) * shard_size, len(images)), len(images))
        if until is not None and until(join(done, confidence)):
            break
    return join(done, confidence)


def join(parts: Sequence[Evaluation], confidence: float = 0.95) -> Evaluation:
    """One evaluation from those of consecutive parts of a set of images, which faced the same attacks."""
    first = parts[0]
    correct = torch.cat([part.correct for part in parts])
    robust_mask = torch.cat([part.robust_mask for part in parts])
    standing = {name: torch.cat([part.standing[name] for part in parts]) for name in first.standing}
    return Evaluation(
        threat=first.threat,
        clean=_count(correct, confidence),
        robust=_count(robust_mask, confidence),
        attacks={name: _count(mask, confidence) for name, mask in standing.items()},
        settings=first.settings,
        cascade=first.cascade,
        correct=correct,
        standing=standing,
        robust_mask=robust_mask,
        adversarial=torch.cat([part.adversarial for part in parts]),
        seconds={name: sum(part.seconds[name] for part in parts) for name in first.seconds},
    )


def join_stored(store: Path, confidence: float = 0.95) -> Evaluation:
    """Joins the shards that several processes stored for one evaluation, in the order of the images.

    Raises:
        InputError: The folder holds no shards, or those of different evaluations.
    """
    paths = sorted(store.glob("*.safetensors"))
    keys = {path.name.split("-")[0] for path in paths}
    if len(keys) != 1:
        msg = f"{store}: holds shards of {len(keys)} evaluations, one is needed"
        raise InputError(msg)
    return join(list(_loaded(paths)), confidence)


def _loaded(paths: Sequence[Path]) -> Iterator[Evaluation]:
    for path in paths:
        part = _load(path, None)
        if part is None:
            msg = f"{path}: is no readable shard; remove it and evaluate again"
            raise InputError(msg)
        yield part


def _count(mask: Tensor, confidence: float) -> Any:
    return accuracy(int(mask.sum()), len(mask), confidence)


def _key(images: Tensor, labels: Tensor, threat: Threat, attacks: Sequence[Attack], *settings: object) -> str:
    """Digest of everything that determines the shards."""
    digest = hashlib.sha256()
    for part in (images, labels, *(value for attack in attacks for value in _tensors(attack))):
        digest.update(part.detach().cpu().contiguous().numpy().tobytes())
    names = [[attack.name, attack.settings()] for attack in attacks]
    digest.update(json.dumps([asdict(threat), names, *settings], sort_keys=True).encode())
    return digest.hexdigest()


def _tensors(attack: Attack) -> list[Tensor]:
    """Examples that an attack carries and that its settings do not show."""
    return [value for value in vars(attack).values() if isinstance(value, Tensor)]


def _save(path: Path, part: Evaluation, key: str) -> None:
    tensors = {"correct": part.correct, "robust": part.robust_mask, "adversarial": part.adversarial}
    tensors |= {f"standing.{name}": mask for name, mask in part.standing.items()}
    facts = {
        "key": key,
        "threat": asdict(part.threat),
        "settings": part.settings,
        "cascade": part.cascade,
        "seconds": part.seconds,
        "attacks": list(part.standing),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    plain = {name: tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor for name, tensor in tensors.items()}
    safetensors.torch.save_file({k: v.contiguous() for k, v in plain.items()}, partial, {"facts": json.dumps(facts)})
    partial.replace(path)


def _load(path: Path, key: str | None) -> Evaluation | None:
    """A stored shard, or None where there is none that can be used."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  (no mapping)
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    if key is not None and facts["key"] != key:
        return None
    standing = {name: tensors[f"standing.{name}"].bool() for name in facts["attacks"]}
    correct, robust = tensors["correct"].bool(), tensors["robust"].bool()
    return Evaluation(
        threat=Threat(**facts["threat"]),
        clean=_count(correct, 0.95),
        robust=_count(robust, 0.95),
        attacks={name: _count(mask, 0.95) for name, mask in standing.items()},
        settings=facts["settings"],
        cascade=facts["cascade"],
        correct=correct,
        standing=standing,
        robust_mask=robust,
        adversarial=tensors["adversarial"],
        seconds=facts["seconds"],
    )
