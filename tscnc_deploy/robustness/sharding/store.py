"""Stores finished shards of an evaluation in a folder, so that an interruption loses only the shard in progress."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tscnc_deploy.digests import digest_of_chunks
from tscnc_deploy.errors import InputError, StorageError
from tscnc_deploy.files import write_atomic
from tscnc_deploy.robustness.attacks.base import Attack
from tscnc_deploy.robustness.evaluation import Evaluation
from tscnc_deploy.robustness.threat import Threat


class ShardStore:
    """One file per shard; evaluations can share a folder, because file names depend on everything that affects results.

    Args:
        folder: Created when the first shard is stored.
        key: Key of the evaluation, from `evaluation_key`.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder
        self._key = key

    def save(self, start: int, shard: Evaluation) -> None:
        """Stores the shard whose first image has the index `start`; the file is written atomically.

        Raises:
            StorageError: It cannot be written.
        """
        tensors = {"correct": shard.correct, "adversarial": shard.adversarial}
        tensors |= {f"robust.{name}": mask for name, mask in shard.robust_by_attack.items()}
        plain = {name: (t.to(torch.uint8) if t.dtype == torch.bool else t).contiguous() for name, t in tensors.items()}
        facts: dict[str, Any] = {
            "key": self._key,
            "threat": shard.threat.model_dump(),
            "settings": shard.settings,
            "cascade": shard.cascade,
            "seconds": shard.seconds,
            "queries": shard.queries,
            "attacks": list(shard.robust_by_attack),
        }
        path = self._path(start)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"{path}: cannot be written: {error.strerror or error}"
            raise StorageError(msg) from error
        metadata = {"facts": json.dumps(facts), "sha256": _digest(plain, facts)}
        write_atomic(path, safetensors.torch.save(plain, metadata))

    def load(self, start: int, images: Tensor) -> Evaluation | None:
        """A stored shard of the given images, float32 [N, C, H, W]; None if it is missing or damaged."""
        try:
            with safe_open(self._path(start), framework="pt") as file:
                metadata = file.metadata() or {}
                facts = json.loads(metadata["facts"])
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  (no mapping)
            if facts["key"] != self._key or metadata["sha256"] != _digest(tensors, facts):
                return None
            shard = self._read(facts, tensors)
        # Whatever the damage, the shard is recomputed.
        except (
            OSError,
            SafetensorError,
            InputError,
            ArithmeticError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ):
            return None
        fits = shard.adversarial.shape == images.shape and shard.correct.shape == images.shape[:1]
        return shard if fits else None

    def _read(self, facts: dict[str, Any], tensors: dict[str, Tensor]) -> Evaluation:
        robust_by_attack = {name: tensors[f"robust.{name}"].bool() for name in facts["attacks"]}
        return Evaluation.of(
            Threat(**facts["threat"]),
            tensors["correct"].bool(),
            robust_by_attack,
            tensors["adversarial"],
            settings=facts["settings"],
            cascade=facts["cascade"],
            seconds=facts["seconds"],
            queries=facts["queries"],
        )

    def _path(self, start: int) -> Path:
        return self._folder / f"{self._key[:16]}-{start:08d}.safetensors"


def _digest(tensors: Mapping[str, Tensor], facts: object) -> str:
    """SHA-256 of JSON values and of the names, shapes and bytes of tensors."""
    parts = [json.dumps(facts, sort_keys=True).encode()]
    for name, tensor in sorted(tensors.items()):
        parts += [f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), tensor.contiguous().numpy().tobytes()]
    return digest_of_chunks(parts)


def evaluation_key(
    images: Tensor, labels: Tensor, threat: Threat, attacks: Sequence[Attack], **settings: object
) -> str:
    """Digest of everything that determines an evaluation: images, tensors of attacks, and JSON settings."""
    names = [[attack.name, attack.settings()] for attack in attacks]
    parts = (images, labels, *(value for attack in attacks for value in _tensors(attack)))
    content = (part.detach().cpu().contiguous().numpy().tobytes() for part in parts)
    return digest_of_chunks((*content, json.dumps([threat.model_dump(), names, settings], sort_keys=True).encode()))


def _tensors(attack: Attack) -> list[Tensor]:
    """Examples of an attack that are not part of its settings."""
    return [value for value in vars(attack).values() if isinstance(value, Tensor)]
