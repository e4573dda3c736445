"""Signs that an evaluation overestimates robustness: masked gradients and randomised models."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.record import MaskingWarning
from tscnc_deploy.robustness import checks
from tscnc_deploy.robustness.attacks.apgd import APGDCE, APGDT
from tscnc_deploy.robustness.attacks.base import gradient, require_count
from tscnc_deploy.robustness.attacks.names import parse_attack
from tscnc_deploy.robustness.attacks.replay import Replay
from tscnc_deploy.robustness.attacks.square import Square
from tscnc_deploy.robustness.eot import REPEATABLE, EOTVictim, randomness
from tscnc_deploy.robustness.evaluation import Evaluation, evaluate
from tscnc_deploy.robustness.losses import cross_entropy
from tscnc_deploy.robustness.precise import precise
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim

# Steps of APGD that mislead nearly every network if it may move as far as it likes.
_SHORT = 5
# Share of the correctly classified images that may show a sign by chance; a single image is always allowed.
_LIMITS = {
    "zero-gradients": 0.01,
    "no-gradients": 0.01,
    "gradient-free-stronger": 0.02,
    "epsilon-doubled": 0.05,
    "epsilon-whole": 0.01,
    "transfer-stronger": 0.02,
}


# Gradients cannot be computed inside a caller's inference mode.
@torch.inference_mode(mode=False)
def check_masking(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    evaluation: Evaluation | None = None,
    *,
    surrogate: Victim | None = None,
    steps: int = 20,
    queries: int = 500,
    seed: int = 0,
    batch_size: int = 256,
) -> list[MaskingWarning]:
    """Checks for signs that attacks fail because they are misled, not because the model is robust.

    A cheap APGD-CE runs at epsilon, at twice epsilon and at a radius that includes every image; attacks with gradients
    are compared with attacks without, and with another model's adversarial examples.

    Args:
        victim: The victim that was evaluated. A victim without gradients is only checked for randomness.
        images: float32 [N, C, H, W] in [0, 1].
        labels: int64 [N].
        threat: The threat model of the evaluation.
        evaluation: An evaluation of the same images, whose attacks are compared. If it has no attacks with gradients,
            APGD-CE and APGD-T run; if it has none without gradients, Square runs; without an evaluation, all of them.
        surrogate: Another model with gradients, whose adversarial examples are tried on the victim.
        steps: Steps of APGD.
        queries: Queries of Square.
        seed: Seed of all random numbers.
        batch_size: Images per forward pass.

    Returns:
        Only the signs that exceed their limits; for a model with random logits only this sign, because other figures
        would mean little.

    Raises:
        InputError: `evaluate` refuses the input, or the evaluation is of other images or under another threat.

    Source: Athalye et al., arXiv 1802.00420, section 3.1; Carlini et al., arXiv 1902.06705.
    """
    checks.check_images(images, labels)
    images, labels = images.detach().cpu().clone(), labels.cpu().clone()
    if evaluation is not None and len(evaluation.correct) != len(images):
        msg = f"the evaluation is of {len(evaluation.correct)} images, but {len(images)} images are given"
        raise InputError(msg)
    if evaluation is not None and evaluation.threat != threat:
        msg = f"the evaluation is of {evaluation.threat!r}, but {threat!r} is given"
        raise InputError(msg)
    require_count("check_masking", "batch_size", batch_size)
    checks.check_logits(victim.logits(images[:batch_size].to(victim.device)).cpu(), labels[:batch_size])
    if not isinstance(victim, EOTVictim):
        difference = randomness(victim, images[:batch_size])
        # Written so that NaN, which compares false with everything, is a sign too.
        if not difference <= REPEATABLE:
            what = f"logits differ between two calls on the same images, by {difference:.3g} of the largest one"
            message = f"{what}; evaluate EOTVictim instead"
            return [MaskingWarning(name="random-logits", figure=difference, limit=REPEATABLE, message=message)]
    if not victim.has_gradient:
        return []

    cheap = APGDCE(steps)
    run = partial(evaluate, victim, images, labels, seed=seed, batch_size=batch_size)
    near = run(threat, [cheap])
    signs = {"zero-gradients": near.correct & _without_gradient(victim, images, labels, batch_size)}
    if signs["zero-gradients"].any() and (finer := precise(victim, images[:batch_size])) is not None:
        signs["no-gradients"] = signs["zero-gradients"] & _without_gradient(finer, images, labels, batch_size)

    by_gradients, freely = _misclassified(evaluation) if evaluation is not None else (None, None)
    if by_gradients is None:
        by_gradients = ~run(threat, [cheap, APGDT(steps, targets=3)]).robust_mask
    if freely is None:
        freely = ~run(threat, [Square(queries)]).robust_mask
    signs["gradient-free-stronger"] = near.correct & freely & ~by_gradients

    # Within this radius of any image are all images of [0, 1].
    whole = 1.0 if threat.norm == "Linf" else math.sqrt(images[0].numel())
    if threat.epsilon < whole:
        doubled = run(Threat(norm=threat.norm, epsilon=min(2 * threat.epsilon, whole)), [cheap])
        losses = [_losses(victim, result.adversarial, labels, batch_size) for result in (near, doubled)]
        flat = losses[1] <= losses[0]
        signs["epsilon-doubled"] = doubled.robust_mask & (flat | ~near.robust_mask)
    # A few steps suffice for nearly all images; only the others meet all of them.
    short = [APGDCE(_SHORT)] if steps > _SHORT else []
    signs["epsilon-whole"] = run(Threat(norm=threat.norm, epsilon=whole), [*short, cheap], cascade=True).robust_mask

    if surrogate is not None:
        foreign = evaluate(surrogate, images, labels, threat, [cheap], seed=seed, batch_size=batch_size).adversarial
        transferred = ~run(threat, [Replay(foreign)]).robust_mask
        signs["transfer-stronger"] = near.correct & transferred & ~by_gradients

    found = (_warning(name, int(sign.sum()), int(near.correct.sum())) for name, sign in signs.items())
    return [warning for warning in found if warning is not None]


def masking_queries(evaluation: Evaluation, steps: int = 20, queries: int = 500) -> int:
    """Approximate number of queries per image that `check_masking` needs, given this evaluation."""
    by_gradients, freely = _misclassified(evaluation)
    # At most: where nothing succeeds, the search at the largest radius takes both its lengths.
    known = 3 * steps + _SHORT + 8
    return known + (0 if by_gradients is not None else 4 * steps) + (0 if freely is not None else queries)


_MEANINGS = {
    "zero-gradients": "the gradient of the loss is zero or not finite, so gradient attacks cannot work",
    "no-gradients": "the gradient is zero or not finite in float64, with rescaled logits, too: no attack can follow it",
    "gradient-free-stronger": "a search without gradients succeeded where no gradient attack did",
    "epsilon-doubled": "the loss was not higher at twice the epsilon",
    "epsilon-whole": "the gradient attack failed although every image was within epsilon",
    "transfer-stronger": "another model's adversarial examples succeeded where no gradient attack on this one did",
}


def _warning(name: str, count: int, total: int) -> MaskingWarning | None:
    """The warning for a sign on `count` of the correctly classified images; None if it is within its limit."""
    most = max(total, 1)
    figure, limit = count / most, max(_LIMITS[name], 1 / most)
    if figure <= limit:
        return None
    message = f"on {count} of {total} correctly classified images {_MEANINGS[name]}"
    return MaskingWarning(name=name, figure=figure, limit=limit, message=message)


def _misclassified(evaluation: Evaluation) -> tuple[Tensor | None, Tensor | None]:
    """The images misclassified under attacks with and without gradients, bool [N] each; None if there were none.

    Only attacks that `parse_attack` knows count; replays say nothing about gradients.
    """
    with_gradients: Tensor | None = None
    without: Tensor | None = None
    replayed = torch.zeros_like(evaluation.correct)
    before = evaluation.correct
    for name, robust in evaluation.robust_by_attack.items():
        own = before & ~robust
        if evaluation.cascade:
            before = robust
        try:
            needs_gradient = parse_attack(name).needs_gradient
        except InputError:
            replayed |= own
            continue
        if needs_gradient:
            if evaluation.cascade and (without is not None or replayed.any()):
                # This attack did not run on images that a search or replay had already changed, so it cannot be
                # compared.
                return None, None
            with_gradients = own if with_gradients is None else with_gradients | own
        else:
            without = own if without is None else without | own
    return with_gradients, without


def _without_gradient(victim: Victim, images: Tensor, labels: Tensor, batch_size: int) -> Tensor:
    """bool [N], whether an image's gradient of the cross-entropy is all zero, or has non-finite values; on the CPU."""
    parts = []
    for batch, own in zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True):
        _, _, slope = gradient(victim, batch.to(victim.device), own.to(victim.device), cross_entropy)
        largest = slope.abs().flatten(1).amax(1)
        parts.append(((largest == 0) | ~largest.isfinite()).cpu())
    return torch.cat(parts)


def _losses(victim: Victim, images: Tensor, labels: Tensor, batch_size: int) -> Tensor:
    """Cross-entropy, float32 [N] on the CPU."""
    logits = [victim.logits(batch.to(victim.device)).cpu() for batch in torch.split(images, batch_size)]
    return cross_entropy(torch.cat(logits), labels.cpu())
