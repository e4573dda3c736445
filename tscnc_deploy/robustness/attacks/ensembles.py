"""Ensembles: names that stand for several attacks, to be run as a cascade."""

from __future__ import annotations

# In the order in which they are run: first what breaks most for its cost.
ENSEMBLES: dict[str, tuple[str, ...]] = {
    # For everyday use, at about a seventh of the cost of the standard one: both kinds of loss, and enough of a search
    # without gradients to find out where they are masked.
    "fast": ("apgd-ce-50", "apgd-t-30", "square-500"),
    # Croce and Hein, arXiv 2003.01690: one run each, the targeted ones towards 9 classes.
    "autoattack-standard": ("apgd-ce-100", "apgd-t-100", "fab-t-100", "square-5000"),
    "autoattack-plus": ("apgd-ce-100x5", "apgd-dlr-100x5", "fab-100x5", "square-5000", "apgd-t-100", "fab-t-100"),
}
