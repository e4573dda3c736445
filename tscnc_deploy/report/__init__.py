"""The report of a build, as an HTML page and as a model card."""
