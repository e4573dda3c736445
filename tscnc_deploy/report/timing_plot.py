"""The figure of `tscnc-deploy bench`: latency over batch size, pruned against dense."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from tscnc_deploy.report import svg
from tscnc_deploy.report.axes import LOOKS, WIDTH


def timing_plot(rows: Sequence[Mapping[str, Any]], form: str) -> bytes:
    """Median latency per image over batch size, with whiskers up to the 95th percentile, per engine and network.

    Args:
        rows: The results of a bench: "engine", "network" ("pruned", "dense" or "file"), "batch", "p50_ms", "p95_ms".
        form: "svg" or "png".

    Returns:
        The file's bytes; equal rows give equal bytes.
    """
    with svg.style():
        figure = Figure(figsize=(WIDTH, 4.2))
        axes = figure.add_subplot()
        for place, engine in enumerate(dict.fromkeys(row["engine"] for row in rows)):
            colour, marker = LOOKS[1:][place % (len(LOOKS) - 1)]
            for network, line in (("pruned", "-"), ("dense", ":"), ("file", "-")):
                mine = [row for row in rows if (row["engine"], row["network"]) == (engine, network)]
                if not mine:
                    continue
                batches = [row["batch"] for row in mine]
                median, upper = ([row[key] / row["batch"] for row in mine] for key in ("p50_ms", "p95_ms"))
                whiskers = [[0.0] * len(mine), [high - low for low, high in zip(median, upper, strict=True)]]
                axes.errorbar(
                    # Shifted, so that whiskers of equally fast engines are distinguishable.
                    [batch * 1.05 ** (2 * place + (network == "dense")) for batch in batches],
                    median,
                    yerr=whiskers,
                    fmt=line,
                    color=colour,
                    marker=marker,
                    markerfacecolor="white" if network == "dense" else colour,
                    elinewidth=1,
                    capsize=2.5,
                    label=f"{engine}, {network}",
                )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(
            sorted({row["batch"] for row in rows}), [str(b) for b in sorted({row["batch"] for row in rows})]
        )
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("images per call")
        axes.set_ylabel("ms per image, median to p95")
        figure.legend(loc="outside lower center", ncols=2)
        if form == "svg":
            title = "Latency per image over batch size"
            return svg.render(figure, "timing", title, "Solid: pruned; dotted: dense, exported the same way.").encode()
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150, metadata={"Software": None})
        return stream.getvalue()
