"""Statistics of image counts: intervals, paired comparisons, sequential tests."""
