"""Figures and findings in words; the filters of the templates."""

from __future__ import annotations

from tscnc_deploy.report.data import Accuracy, ReportData

ABSENT = "–"


def percent(share: float | None) -> str:
    """0.9312 -> "93.1%"."""
    return ABSENT if share is None else f"{share:.1%}"


def interval(accuracy: Accuracy) -> str:
    """ "335 of 360, 95% interval 89.9 to 95.4"."""
    return f"{accuracy.correct} of {accuracy.total}, 95% interval {100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}"


def accuracy(value: Accuracy | None) -> str:
    """ "93.1% (335 of 360, 95% interval 89.9 to 95.4)"."""
    return ABSENT if value is None else f"{percent(value.accuracy)} ({interval(value)})"


def figure(value: float | None) -> str:
    """Four significant digits, without an exponent where a reader needs none: 0.8981, 12.35, 1.2e-07."""
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if abs(value) >= 10_000 and abs(value) < 1e15 else f"{value:.4g}"


def count(value: int | None) -> str:
    """11171146 -> "11,171,146"."""
    return ABSENT if value is None else f"{value:,}"


def size(length: int | None) -> str:
    """A length in bytes, in decimal units: 44700000 -> "44.7 MB"."""
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
    """A value of a recipe or of an attack's settings, as TOML would write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(setting(item) for item in value)
    return ABSENT if value is None or value == "" else str(value)


def verdict(data: ReportData) -> str:
    """The whole report in a sentence, and one each about engines that were not measured and gates that failed."""
    weakest, unmeasured = data.evaluations.weakest, data.evaluations.unavailable
    engines = len(data.evaluations.engines) - len(unmeasured)
    failed = [gate.name for gate in data.gates if not gate.passed]
    rest = f" Not measured: {', '.join(unmeasured)}." if weakest and unmeasured else ""
    rest += f" {len(failed)} of {len(data.gates)} gates failed: {'; '.join(failed)}." if failed else ""
    start = f"{data.model.arch} with {percent(data.model.sparsity)} zeros"
    if weakest is None:
        return f"{start}: no exported engine was attacked.{rest}"
    name, _, robust = weakest
    which = f"the exported engine {name}" if engines == 1 else f"the weakest of {engines} engines, {name},"
    dense = data.evaluations.dense
    before = f"; the dense network kept {percent(dense.robust.accuracy)}" if dense and dense.robust else ""
    return (
        f"{start}: {which} classifies {percent(robust.accuracy)} of {robust.total} test images correctly under every "
        f"attack within {data.threat.norm} distance {figure(data.threat.epsilon)}{before}.{rest}"
    )
