"""Figures and results in words; the filters of the templates."""

from __future__ import annotations

from typing import Protocol

from tscnc_deploy.record import GUESSING, Accuracy, BuildRecord, Comparison, Mean, Quantile, ThreatModel

ABSENT = "–"


class Counted(Protocol):
    """An accuracy, from the record or from `robustness`."""

    @property
    def correct(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def percent(share: float | None) -> str:
    """0.9312 -> "93.1%"."""
    return ABSENT if share is None else f"{share:.1%}"


def interval(accuracy: Accuracy) -> str:
    """ "335 of 360, 95% interval 89.9 to 95.4"."""
    return f"{accuracy.correct} of {accuracy.total}, 95% interval {ends(accuracy)}"


def precision_note(value: Counted) -> str:
    """ "interval of ±3.9 points; 3.9 times the images would halve it: 1,400"; the factor is relative to `total`."""
    from tscnc_deploy.robustness.statistics import intervals

    note = f"interval of ±{50 * (value.high - value.low):.1f} points"
    if value.correct > value.total:  # Possible in untrusted records; then there is no estimate.
        return note
    needed = intervals.images_to_halve(intervals.accuracy(value.correct, value.total))
    return f"{note}; {needed / value.total:.1f} times the images would halve it: {needed:,}"


def ends(value: Accuracy | Mean) -> str:
    """ "64.1 to 77.5", the ends of an interval in percent."""
    return f"{100 * value.low:.1f} to {100 * value.high:.1f}"


def quantile(found: Quantile, beyond: float | None = None) -> str:
    """ "0.0521", or "> 0.4" if the value is infinite, that is, beyond the search range."""
    return f"> {figure(beyond)}" if found.value is None and beyond is not None else figure(found.value)


def bounds(found: Quantile) -> str:
    """ "0.049 to 0.057", the interval of a quantile; "from 0.049" if it has no upper end."""
    if found.low is None:
        return ABSENT
    return f"from {figure(found.low)}" if found.high is None else f"{figure(found.low)} to {figure(found.high)}"


def accuracy(value: Accuracy | None) -> str:
    """ "93.1% (335 of 360, 95% interval 89.9 to 95.4)"."""
    return ABSENT if value is None else f"{percent(value.accuracy)} ({interval(value)})"


def figure(value: float | None) -> str:
    """Four significant digits, without an exponent where possible: 0.8981, 12.35, 1.2e-07."""
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if abs(value) >= 10_000 and abs(value) < 1e15 else f"{value:.4g}"


def count(value: int | None) -> str:
    """11171146 -> "11,171,146"."""
    return ABSENT if value is None else f"{value:,}"


def change(compared: Comparison) -> str:
    """A loss of robust accuracy with its bound: "2.2%, at most 4.4%", or "none: a gain of 9.4%, at least 6.5%"."""
    bound = compared.upper_bound
    if compared.difference >= 0:
        return f"{percent(compared.difference)}, at most {percent(bound)}"
    rest = f"at least {percent(-bound)}" if bound < 0 else f"or a loss of at most {percent(bound)}"
    return f"none: a gain of {percent(-compared.difference)}, {rest}"


def trained_on(data: BuildRecord) -> bool:
    """Whether the pruned network was trained for more epochs than the dense one that it is compared with."""
    sections = (data.recipe.get(name) for name in ("prune", "finetune"))
    epochs = [section.get("epochs") for section in sections if isinstance(section, dict)]
    return any(isinstance(each, int) and each > 0 for each in epochs)


def form(name: str) -> str:
    """A row of the table of sizes: the dense file holds the pruned weights, not those before pruning."""
    return f"pruned, {name}" if name.startswith("dense file") else name


def size(length: int | None) -> str:
    """A size in bytes, in decimal units: 44700000 -> "44.7 MB"."""
    if length is None:
        return ABSENT
    value, units = float(length), ["bytes", "kB", "MB", "GB"]
    while value >= 999.95 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:,.0f} {units[0]}" if units[0] == "bytes" else f"{value:,.1f} {units[0]}"


def duration(seconds: float | None) -> str:
    """75.2 -> "1 min 15 s"."""
    if seconds is None:
        return ABSENT
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def setting(value: object) -> str:
    """A value of a recipe or of an attack's settings, formatted as in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(setting(item) for item in value)
    return ABSENT if value is None or value == "" else str(value)


def perturbation(threat: ThreatModel) -> str:
    """The threat model: "Every pixel may change by at most 0.1 (Linf)"."""
    if threat.norm == "Linf":
        return f"Every pixel may change by at most {figure(threat.epsilon)} (Linf)"
    return f"The image may change by an {threat.norm} distance of at most {figure(threat.epsilon)}"


def verdict(data: BuildRecord) -> str:
    """A summary of the report in one sentence, plus one each for unmeasured engines, failed gates, and warnings."""
    weakest, unmeasured = data.evaluations.weakest, data.evaluations.unavailable
    engines = len(data.evaluations.engines) - len(unmeasured)
    failed = [gate.name for gate in data.gates if not gate.passed]
    rest = f" Not measured: {', '.join(unmeasured)}." if weakest and unmeasured else ""
    rest += f" {len(failed)} of {len(data.gates)} gates failed: {'; '.join(failed)}." if failed else ""
    warned = {name: [sign.name for sign in found.warnings or ()] for name, found in data.evaluations.named.items()}
    guessed = [name for name, signs in warned.items() if GUESSING in signs]
    rest += f" Clean accuracy cannot be told from guessing: {', '.join(guessed)}." if guessed else ""
    masked = {name: [sign for sign in signs if sign != GUESSING] for name, signs in warned.items()}
    signs = "; ".join(f"{name} ({', '.join(signs)})" for name, signs in masked.items() if signs)
    rest += f" Robust accuracy may be overstated: {signs}." if signs else ""
    saved = data.model.multiply_add_sparsity
    start = f"{data.model.arch} at {percent(data.model.sparsity)} sparsity"
    start += "" if saved is None else f" ({percent(saved)} of MACs saved)"
    if weakest is None:
        return f"{start}: no exported engine was attacked.{rest}"
    name, _, robust = weakest
    which = f"the exported engine {name}" if engines == 1 else f"the weakest of {engines} engines, {name},"
    dense = data.evaluations.dense
    epochs = ", trained for fewer epochs," if trained_on(data) else ""
    before = f"; the dense network{epochs} kept {percent(dense.robust.accuracy)}" if dense and dense.robust else ""
    return (
        f"{start}: {which} classifies {percent(robust.accuracy)} of {robust.total} test images correctly under every "
        f"attack within {data.threat.norm} distance {figure(data.threat.epsilon)}{before}.{rest}"
    )
