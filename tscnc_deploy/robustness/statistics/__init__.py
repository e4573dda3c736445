"""Counts of images, and what may be concluded from them: intervals, paired comparisons, sequential tests."""
