"""Recomputes the figures of a record from the outcomes in the evidence: intervals, bounds of counts, losses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from tscnc_deploy.bundle.manifest import MANIFEST, RECIPE
from tscnc_deploy.check.result import CheckResult, pass_or_fail
from tscnc_deploy.errors import InputError
from tscnc_deploy.record import Accuracy, Comparison, EngineEvaluation, Evaluation
from tscnc_deploy.text import escaped, quoted

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.record import BuildRecord

Outcomes = Mapping[str, Mapping[str, NDArray[np.bool_]]]
"""Whether each evidence image was classified correctly, by network and attack."""

# Of a correct draw, this share has a count as far off as what is refused.
_CHANCE = 1e-6
# Another version of a library may compute the last digits differently.
_ROUNDING = 1e-6


def check_figures(bundle: Bundle) -> Iterator[CheckResult]:
    """Whether all shares, intervals and losses follow from counts that the evidence allows.

    The evidence holds the outcomes of some of the evaluated images, usually drawn at random from them. So a count of
    all images is at least that of the evidence, and at most that plus the number of other images.
    """
    record, outcomes = bundle.record, outcomes_of(bundle)
    yield result_of("record: intervals follow from the counts", _intervals(record))
    yield result_of("record: counts agree with the evidence", _counts(record, outcomes))
    yield result_of("record: losses follow from the counts", _losses(record, outcomes))
    yield result_of("record: attacked as the recipe says", _attacks(bundle))
    yield result_of("record: engines are those of the manifest", _engines(bundle))


def contradictions(bundle: Bundle) -> list[str]:
    """Where shares, intervals and losses contradict each other or the outcomes in the evidence."""
    record, outcomes = bundle.record, outcomes_of(bundle)
    return [*_intervals(record), *_counts(record, outcomes), *_losses(record, outcomes)]


def outcomes_of(bundle: Bundle) -> Outcomes:
    """The outcomes in the evidence by network ("dense", "twin" or an engine) and attack ("clean" for no attack)."""
    grouped: dict[str, dict[str, NDArray[np.bool_]]] = {}
    for key, outcome in (bundle.withheld or bundle.evidence).outcomes.items():
        name, _, attack = key.rpartition(".")
        grouped.setdefault(name, {})[attack] = outcome
    return grouped


def robust_mask(outcomes: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """The images that one network classified correctly without and under every attack."""
    mask: NDArray[np.bool_] = np.logical_and.reduce(list(outcomes.values()))
    return mask


def result_of(name: str, problems: Iterable[str]) -> CheckResult:
    """Passed if there are no problems; the message has the first three."""
    found = list(problems)
    shown = "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")
    return pass_or_fail(name, not found, shown)


def same(one: float | None, other: float | None, rounding: float = _ROUNDING) -> bool:
    """Whether two figures are equal up to rounding, or both missing."""
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=rounding, abs_tol=1e-9)


def _intervals(record: BuildRecord) -> Iterator[str]:
    for place, share in _accuracies(record.evaluations, "evaluations"):
        try:
            expected = _share(share.correct, share.total)
        except InputError as error:
            yield f"{place}: {error}"
            continue
        told = (share.accuracy, share.low, share.high)
        if not all(map(same, told, expected)):
            yield (
                f"{place} is {_percents(told)}, but {share.correct} of {share.total} images are {_percents(expected)}"
            )


def _accuracies(value: object, place: str) -> Iterator[tuple[str, Accuracy]]:
    """Every accuracy anywhere in a part of the record, with its place."""
    if isinstance(value, Accuracy):
        yield place, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _accuracies(getattr(value, name), f"{place}.{name}")
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _accuracies(each, f"{place}.{escaped(str(key))}")
    elif isinstance(value, tuple):
        for position, each in enumerate(value):
            yield from _accuracies(each, f"{place}[{position}]")


@cache
def _share(correct: int, total: int) -> tuple[float, float, float]:
    from tscnc_deploy.robustness import accuracy

    found = accuracy(correct, total)
    return found.accuracy, found.low, found.high


def _percents(share: tuple[float, float, float]) -> str:
    return f"{share[0]:.2%} ({share[1]:.2%} to {share[2]:.2%})"


def _counts(record: BuildRecord, outcomes: Outcomes) -> Iterator[str]:
    totals = {share.total for evaluation in record.evaluations.named.values() for share in evaluation.rows.values()}
    if len(totals) > 1:
        yield f"the evaluations are of {', '.join(map(str, sorted(totals)))} images; all must be of the same"
    for name, evaluation in record.evaluations.named.items():
        yield from _order(escaped(name), evaluation)
        if name not in outcomes:
            continue
        masks = outcomes[name]
        if set(masks) != {"clean", *evaluation.attacks}:
            both = [", ".join(map(escaped, sorted(names))) for names in ({*masks} - {"clean"}, evaluation.attacks)]
            yield f"{escaped(name)}: the evidence has outcomes of {both[0] or 'no attack'}, the record of {both[1]}"
            continue
        for attack, share in evaluation.rows.items():
            mask = robust_mask(masks) if share is evaluation.robust else masks[attack]
            yield from _allowed(f"{escaped(name)}, {escaped(attack)}", share, mask)


def _order(name: str, evaluation: Evaluation) -> Iterator[str]:
    """No attack makes an image correct, and the worst case is no better than any attack."""
    if evaluation.clean is None or evaluation.robust is None:
        yield f"{name}: clean or robust accuracy is missing"
        return
    clean, robust = evaluation.clean.correct, evaluation.robust.correct
    attacked = [share.correct for share in evaluation.attacks.values()]
    lost = sum(clean - correct for correct in attacked)
    if any(not robust <= correct <= clean for correct in attacked) or robust < clean - lost:
        yield f"{name}: {robust} images in the worst case, {clean} clean and {attacked} under the attacks cannot be"


def _allowed(what: str, share: Accuracy, mask: NDArray[np.bool_]) -> Iterator[str]:
    """Whether a count of all images can be, given the outcomes of the evidence."""
    from scipy.stats import hypergeom

    shown, rest = int(mask.sum()), share.total - len(mask)
    if not shown <= share.correct <= shown + rest:
        yield (
            f"{what}: {share.correct} of {share.total} images are said to be correct, but {shown} of the {len(mask)} "
            f"evidence images are, so it is {shown} to {shown + rest}"
        )
        return
    drawn = hypergeom(share.total, share.correct, len(mask))
    if rest and min(drawn.cdf(shown), drawn.sf(shown - 1)) < _CHANCE:
        yield (
            f"{what}: {share.correct} of {share.total} images are said to be correct, but only {shown} of the "
            f"{len(mask)} evidence images, which are drawn from them; that is not chance"
        )


def _losses(record: BuildRecord, outcomes: Outcomes) -> Iterator[str]:
    found = record.evaluations
    if record.pruning is not None:
        yield from _statistics("pruning", record.pruning)
        if found.dense and found.twin and found.dense.robust and found.twin.robust:
            yield from _sum("pruning", record.pruning, found.dense.robust, found.twin.robust, exact=True)
        if "dense" in outcomes and "twin" in outcomes:
            before, now = robust_mask(outcomes["dense"]), robust_mask(outcomes["twin"])
            yield from _pairs("pruning", record.pruning, int((before & ~now).sum()), before, now)
    for name, engine in found.engines.items():
        if engine.comparison is None:
            continue
        what = f"{escaped(name)}, against the twin"
        yield from _statistics(what, engine.comparison)
        if found.twin and found.twin.robust and engine.robust:
            yield from _sum(what, engine.comparison, found.twin.robust, engine.robust, exact=False)
        if name in outcomes and "twin" in outcomes:
            # The twin also faces the engine's examples, so it may have lost images that its own outcomes call robust.
            yield from _pairs(what, engine.comparison, 0, robust_mask(outcomes["twin"]), robust_mask(outcomes[name]))


def _statistics(what: str, told: Comparison) -> Iterator[str]:
    from tscnc_deploy.robustness.statistics.intervals import mcnemar_exact, tango_upper_bound

    try:
        bound = tango_upper_bound(told.lost, told.gained, told.total)
        expected = ((told.lost - told.gained) / told.total, bound, mcnemar_exact(told.lost, told.gained))
    except InputError as error:
        yield f"{what}: {error}"
        return
    if not all(map(same, (told.difference, told.upper_bound, told.mcnemar_p), expected)):
        yield (
            f"{what}: {told.lost} images lost and {told.gained} gained of {told.total} are a loss of "
            f"{expected[0]:.2%}, at most {expected[1]:.2%} (p = {expected[2]:.3g}), not of {told.difference:.2%}, at "
            f"most {told.upper_bound:.2%} (p = {told.mcnemar_p:.3g})"
        )


def _sum(what: str, told: Comparison, before: Accuracy, now: Accuracy, *, exact: bool) -> Iterator[str]:
    lost, most = told.lost - told.gained, before.correct - now.correct
    if told.total != before.total or lost > most or (exact and lost != most):
        yield (
            f"{what}: {told.lost} images lost and {told.gained} gained of {told.total}, but {before.correct} of "
            f"{before.total} were robust before and {now.correct} are now"
        )


def _pairs(
    what: str, told: Comparison, least_lost: int, before: NDArray[np.bool_], now: NDArray[np.bool_]
) -> Iterator[str]:
    rest = told.total - len(before)
    lost, gained = int((before & ~now).sum()), int((~before & now).sum())
    if not (least_lost <= told.lost <= lost + rest and gained <= told.gained <= told.total):
        yield (
            f"{what}: {told.lost} images lost and {told.gained} gained of {told.total} disagree with the evidence, of "
            f"whose {len(before)} images {lost} were lost and {gained} gained"
        )


def _attacks(bundle: Bundle) -> Iterator[str]:
    """Whether the evaluations are of the attacks in the bundle's recipe."""
    from tscnc_deploy.robustness import parse_attacks

    verify = bundle.load_recipe().verify
    attacks = {attack.name for attack in parse_attacks(verify.attacks)}
    on_engines = {"replay", *(attack.name for attack in parse_attacks(verify.engine_attacks))}
    for name, evaluation in bundle.record.evaluations.named.items():
        wanted = on_engines if isinstance(evaluation, EngineEvaluation) else attacks
        if set(evaluation.attacks) != wanted:
            met = ", ".join(map(escaped, evaluation.attacks)) or "no attack"
            yield f"{escaped(name)} was attacked with {met}; {RECIPE} says {', '.join(sorted(wanted))}"
        if evaluation.cascade != verify.cascade:
            yield f"{escaped(name)}: cascade is {evaluation.cascade}, verify.cascade is {verify.cascade} in {RECIPE}"


def _engines(bundle: Bundle) -> Iterator[str]:
    manifest, engines = bundle.manifest, bundle.record.evaluations.engines
    if set(engines) != set(manifest.engines):
        both = [", ".join(map(escaped, sorted(names))) or "none" for names in (manifest.engines, engines)]
        yield f"{MANIFEST} lists {both[0]}, the record {both[1]}"
        return
    for name, entry in manifest.engines.items():
        engine, target = engines[name], bundle.target(name)
        facts: dict[str, tuple[Any, Any]] = {
            "kind": (entry.kind, engine.kind),
            "precision": (entry.precision, engine.precision),
            "unavailable": (entry.unavailable, engine.unavailable),
            "attacked": (entry.attacked, engine.robust is not None),
        }
        if entry.build is not None:
            facts["precisions"] = (entry.build.precisions, {layer.name: layer.precision for layer in engine.layers})
        for fact, (listed, told) in facts.items():
            if listed != told:
                yield f"{name}: {fact} is {quoted(str(listed))} in {MANIFEST}, {quoted(str(told))} in the record"
        if (target.engine, target.name) != (entry.kind, name):
            yield f"{name}: its target.json is of {target.name}, for {target.engine}"
        sizes = {file.bytes for path, file in manifest.files.items() if path.startswith(f"{entry.folder}/")}
        # The plan of TensorRT is stored in an archive.
        if not entry.kind.startswith("tensorrt") and engine.bytes not in sizes:
            yield f"{name}: the record says {engine.bytes} bytes, no file of it has that many"
        yield from _parity(name, engine, target.tolerance)


def _parity(name: str, engine: EngineEvaluation, tolerance: float) -> Iterator[str]:
    if engine.robust is None:
        return
    if (parity := engine.parity) is None:
        yield f"{name}: the record does not compare it with the twin"
        return
    largest = parity.max_abs_diff
    if not same(parity.tolerance, tolerance):
        yield f"{name}: the record allows a logit to differ by {parity.tolerance}, its target {tolerance}"
    right = largest is not None and parity.tolerance is not None and largest <= parity.tolerance
    smallest = parity.smallest_tolerance
    rounded = largest is None or (smallest is not None and largest * (1 - 1e-9) <= smallest <= largest * 1.1)
    flips = len(parity.flips_clean) + len(parity.flips_adversarial)
    if parity.passed != right or not rounded or not same(engine.max_abs_diff, largest) or engine.flips != flips:
        yield f"{name}: the parts of its comparison with the twin disagree"
