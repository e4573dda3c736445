"""Disagreement: images in the ball to which an engine and its twin give different classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tscnc_deploy.robustness import checks
from tscnc_deploy.robustness.attacks.apgd import APGDT
from tscnc_deploy.robustness.attacks.square import Square
from tscnc_deploy.robustness.classifier import classify_clean
from tscnc_deploy.robustness.error_context import error_context
from tscnc_deploy.robustness.evaluation import evaluate
from tscnc_deploy.robustness.losses import margin
from tscnc_deploy.robustness.pair import PairVictim
from tscnc_deploy.robustness.statistics.intervals import Accuracy
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import EngineVictim

# Stands for a gap of 0 between different classes, as a comparison must see that they differ.
_LEAST = 1e-30


@dataclass(frozen=True, eq=False)
class Disagreement:
    """Where quantisation or compilation can be exploited; tensors are on the CPU.

    Attributes:
        threat: How far images were moved.
        clean: Share of the images on which the two agree as they are.
        agreement: Share of all images in whose ball no disagreement was found.
        indices: int64 [M], the images that have one.
        examples: float32 [M, C, H, W], the point of each at which the gap is largest.
        gaps: float32 [M], how sure the two are of their classes there: the smaller of the leads, in logits, of the
            engine's class over the twin's in the engine and of the twin's class over the engine's in the twin; 0 where
            one of the two has equal logits.
        engine_wrong: On how many of the examples the twin is right and the engine is not.
        twin_wrong: On how many it is the other way round.
        settings: What determined the search.
    """

    threat: Threat
    clean: Accuracy
    agreement: Accuracy
    indices: Tensor
    examples: Tensor
    gaps: Tensor
    engine_wrong: int
    twin_wrong: int
    settings: dict[str, dict[str, object]]

    @property
    def count(self) -> int:
        """Images with a disagreement."""
        return len(self.indices)

    @property
    def total(self) -> int:
        """All images."""
        return self.agreement.total

    def to_json(self) -> dict[str, object]:
        """Every figure and setting; the largest gap is 0 where there is none."""
        return {
            "count": self.count,
            "total": self.total,
            "clean": self.clean.to_json(),
            "agreement": self.agreement.to_json(),
            "indices": self.indices.tolist(),
            "largest_gap": self.gaps.max().item() if self.count else 0.0,
            "engine_wrong": self.engine_wrong,
            "twin_wrong": self.twin_wrong,
            "epsilon": self.threat.epsilon,
            "norm": self.threat.norm,
            "settings": self.settings,
        }


def find_disagreements(
    victim: EngineVictim,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    steps: int = 50,
    queries: int = 200,
    seed: int = 0,
    batch_size: int = 256,
    confidence: float = 0.95,
) -> Disagreement:
    """Looks in the ball around every image for a point to which engine and twin give different classes.

    APGD goes to the boundary between classes, which the two draw a little differently, along the twin's gradient; what
    still agrees is then searched by Square, on the logits of both.

    Args:
        victim: The engine and its twin.
        images: float32 [N, C, H, W] in [0, 1]; those that are misclassified are searched as well.
        labels: int64 [N], to tell which of the two is wrong.
        threat: How far images may be moved.
        steps: Of APGD.
        queries: Of Square, per image.
        seed: Of everything random.
        batch_size: Images per forward pass.
        confidence: Of the Clopper-Pearson intervals, in (0, 1).

    Raises:
        InputError: Images, labels or settings that would give a wrong number.
    """
    # The search sees neither labels nor the two's logits as they are, so it cannot refuse them.
    classify_clean(victim.logits, images, labels, batch_size)
    checks.check_twin(victim, images[:batch_size])
    result = evaluate(
        PairVictim(victim, _agreement),
        images,
        torch.zeros_like(labels),
        threat,
        [APGDT(steps), Square(queries)],
        seed=seed,
        batch_size=batch_size,
        confidence=confidence,
        cascade=True,
    )
    indices = (~result.robust_mask).nonzero().squeeze(1)
    examples, own = result.adversarial[indices], labels.cpu()[indices]
    gaps, engine_right, twin_right = torch.empty(len(indices)), own == -1, own == -1
    for done in range(0, len(indices), batch_size):
        rows = slice(done, done + batch_size)
        batch = examples[rows].to(victim.device)
        with error_context(f"disagreements, after {done} of {len(indices)} images"):
            engine, twin = victim.logits(batch).cpu(), victim.twin.logits(batch).cpu()
        gaps[rows] = _gap(engine, twin).clamp(min=0)
        engine_right[rows], twin_right[rows] = engine.argmax(1) == own[rows], twin.argmax(1) == own[rows]
    return Disagreement(
        threat=threat,
        clean=result.clean,
        agreement=result.robust,
        indices=indices,
        examples=examples,
        gaps=gaps,
        engine_wrong=int((twin_right & ~engine_right).sum()),
        twin_wrong=int((engine_right & ~twin_right).sum()),
        settings=result.settings,
    )


def _agreement(engine: Tensor, twin: Tensor) -> Tensor:
    """Agreement as a classification: logits [N, 2] of "they agree" and "they differ", half the gap each way."""
    gap = _gap(engine, twin)
    # Logits of an int8 engine are often equal: the first class counts then, and it may not be the twin's.
    gap = torch.where(engine.argmax(1) != twin.argmax(1), gap.clamp(min=_LEAST), gap.clamp(max=0))
    return torch.stack([-gap / 2, gap / 2], 1)


def _gap(engine: Tensor, twin: Tensor) -> Tensor:
    """The smaller of the two leads where the classes differ, else minus the smaller lead, [N]."""
    own, other = engine.argmax(1), twin.argmax(1)
    leads = torch.stack([margin(engine, other), margin(twin, own)])
    return torch.where(own != other, leads.amin(0), leads.amax(0))
