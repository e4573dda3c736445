"""The limits of a recipe besides clean and robust accuracy: each is checked, or said not to be."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tscnc_deploy.bundle.manifest import TWIN
from tscnc_deploy.check.figures import outcomes_of, robust_mask
from tscnc_deploy.check.graphs import conditions_of, graph_of
from tscnc_deploy.check.result import CheckResult, Outcome, pass_or_fail
from tscnc_deploy.record import Comparison

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check.policy import Policy
    from tscnc_deploy.robustness import Victim
    from tscnc_deploy.verify.run import VerifyResult


def check_gates(bundle: Bundle, policy: Policy) -> Iterator[CheckResult]:
    """The limits that need no engine: on condition numbers, on the pattern of zeros, on what pruning cost."""
    limits = policy.recipe.gates
    if limits.median_kappa is not None:
        yield from _median_kappa(bundle, limits.median_kappa)
    if policy.recipe.prune.pattern != "unstructured":
        yield from _pattern(bundle, policy.recipe.prune.pattern)
    if limits.pruning_loss is not None:
        yield from _pruning_loss(bundle, limits.pruning_loss)


def _median_kappa(bundle: Bundle, limit: float) -> Iterator[CheckResult]:
    """Of the twin, and of the twins that completed engines have for themselves."""
    twins = {"the twin": TWIN} | {
        f"the twin of {name}": path for name in bundle.engines if (path := bundle.twin_path(name)) != TWIN
    }
    for which, path in twins.items():
        name = f"gates.median_kappa: median condition number of {which}'s layers"
        kappas = [found for layer in conditions_of(bundle, path) if (found := layer.to_json()["kappa"]) is not None]
        if not kappas:
            yield CheckResult(name, "not checked", f"no layer of {which} has a condition number")
            continue
        value = statistics.median(kappas)
        yield pass_or_fail(name, value <= limit, f"it is {value:.4g}, {limit:g} is allowed", value, limit)


def _pattern(bundle: Bundle, pattern: str) -> Iterator[CheckResult]:
    from tscnc_deploy.engines.onnx.patterns import broken_filters, excess_groups
    from tscnc_deploy.engines.onnx.structure import structure_of

    known: dict[str, int | None] = {}
    for engine, entry in sorted(bundle.manifest.engines.items()):
        inside = [path for path in bundle.manifest.files if path.startswith(f"{entry.folder}/")]
        files = sorted(path for path in inside if path.endswith(".onnx"))
        if not files:
            message = "it has no ONNX file in which the places of zeros can be read"
            yield CheckResult(f"{engine}: prune.pattern {pattern}", "not checked", message)
        for path in files:
            digest = bundle.manifest.files[path].sha256
            if digest not in known:
                model = graph_of(bundle, path)
                # Rounding to fewer bits makes single weights of a filter zero.
                read = pattern == "2:4" or structure_of(model).precision == "fp32"
                count = excess_groups if pattern == "2:4" else broken_filters
                known[digest] = sum(count(model).values()) if read else None
            if (broken := known[digest]) is None:
                continue
            what = "groups of 4 input channels keep more than 2 weights" if pattern == "2:4" else "filters are cut"
            name = f"{path}: prune.pattern {pattern}"
            yield pass_or_fail(name, not broken, f"{broken} {what}", broken, 0)


def _pruning_loss(bundle: Bundle, limit: float) -> Iterator[CheckResult]:
    """Computed from outcomes, as the dense network is not in a bundle; what it is worth is said beside it."""
    name, outcomes = "gates.pruning_loss: robust accuracy lost by pruning, upper bound", outcomes_of(bundle)
    told = bundle.record.pruning
    if told is None or "dense" not in outcomes or "twin" not in outcomes:
        message = "the bundle has no outcomes of the dense network; build it again, or raise --set gates.pruning_loss"
        yield CheckResult(name, "not checked", message)
        return
    before, now = robust_mask(outcomes["dense"]), robust_mask(outcomes["twin"])
    rest = told.total - len(before)
    lost, gained = int((before & ~now).sum()), int((~before & now).sum())
    # A count outside of these is reported as a false figure of the record.
    counts = (min(max(told.lost, lost), lost + rest), min(max(told.gained, gained), gained + rest), told.total)
    yield from _bounded(name, _compared(*counts), limit)
    message = (
        f"as its maker says: the dense network is not in the bundle; of its outcomes, those of {len(before)} of "
        f"{told.total} images are, and none can be replayed (--reproduce builds it again)"
    )
    yield CheckResult("gates.pruning_loss: the dense network", "note", message)


def _compared(lost: int, gained: int, total: int) -> Comparison:
    from tscnc_deploy.robustness.statistics.intervals import mcnemar_exact, tango_upper_bound

    return Comparison(
        lost=lost,
        gained=gained,
        total=total,
        difference=(lost - gained) / total,
        upper_bound=tango_upper_bound(lost, gained, total),
        mcnemar_p=mcnemar_exact(lost, gained),
    )


def check_engine_losses(bundle: Bundle, names: Sequence[str], policy: Policy) -> Iterator[CheckResult]:
    """What each engine loses to the twin on the evidence: both face the stored examples of both, image by image.

    Args:
        bundle: The bundle, with its images.
        names: The engines that run here.
        policy: Sets the limit.
    """
    from tscnc_deploy.devices import deterministic
    from tscnc_deploy.robustness import EngineVictim, ModelVictim, compare

    if (limit := policy.recipe.gates.engine_loss) is None:
        return
    evidence = bundle.evidence
    labels = torch.from_numpy(evidence.labels)
    images = {"clean": evidence.images, **evidence.adversarial}
    shown = {name: torch.from_numpy(each) for name, each in images.items()}
    with deterministic(tf32=False):
        twin = {name: _right(ModelVictim(bundle.twin), each, labels) for name, each in shown.items()}
        for name in names:
            if name == "twin":
                continue
            title = _title(name)
            if not {"twin", name} <= shown.keys():
                message = "the bundle lacks adversarial examples of it or of its twin; --dataset draws images instead"
                yield CheckResult(title, "not checked", message)
                continue
            victim = EngineVictim(bundle.engine(name), bundle.twin_of(name))
            facing = ("clean", "twin", name)
            before = torch.stack([twin[each] for each in facing]).all(0)
            now = torch.stack([_right(victim, shown[each], labels) for each in facing]).all(0)
            yield from _bounded(title, compare(before, now), limit)


def fresh_engine_loss(name: str, twin: VerifyResult, engine: VerifyResult, limit: float) -> Iterator[CheckResult]:
    """What an engine loses to the twin under fresh attacks on both; each also faces the other's examples.

    Args:
        name: The engine.
        twin: The attack on the twin.
        engine: The attack on the engine, on the same images; in another order, or ended earlier or later.
        limit: Largest share that may be lost.
    """
    from tscnc_deploy.robustness import compare

    places = {image: row for row, image in enumerate(twin.artifact.index.tolist())}
    rows = [(places[image], row) for row, image in enumerate(engine.artifact.index.tolist()) if image in places]
    if not rows:
        yield CheckResult(
            _title(name), "not checked", "the budget ended before twin and engine met one image in common"
        )
        return
    own = [torch.tensor(column, dtype=torch.int64) for column in zip(*rows, strict=True)]
    both = (twin, engine)
    labels = engine.artifact.labels[own[1]].cpu()
    before, now = (
        both[one].evaluation.robust_mask[own[one]]
        & _right(both[one].measured.case.victim, both[1 - one].evaluation.adversarial[own[1 - one]], labels)
        for one in (0, 1)
    )
    yield from _bounded(_title(name), compare(before, now), limit)


def _title(name: str) -> str:
    return f"{name}: gates.engine_loss, robust accuracy lost to the twin, upper bound"


def _right(victim: Victim, images: Tensor, labels: Tensor) -> Tensor:
    from tscnc_deploy.robustness import batched_logits

    logits = batched_logits(victim, images)
    return (logits.argmax(1) == labels) & torch.isfinite(logits).all(1)


def _bounded(name: str, found: Comparison, limit: float) -> Iterator[CheckResult]:
    from tscnc_deploy.check.attack import images_to_show
    from tscnc_deploy.robustness import loses_at_most

    gate = loses_at_most(name, found, limit)
    said = f"{found.lost} images lost and {found.gained} gained of {found.total}"
    outcome: Outcome = "passed" if gate.passed else "inconclusive" if gate.inconclusive else "failed"
    if gate.inconclusive:
        needed = images_to_show(found, limit)
        said += "; " + (f"about {needed} images in all would settle it" if needed else "no number would settle it")
    yield CheckResult(name, outcome, said, gate.value, gate.limit)
