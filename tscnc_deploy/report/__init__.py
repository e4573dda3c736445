"""The report: what a build measured, as an HTML page and as a model card."""
