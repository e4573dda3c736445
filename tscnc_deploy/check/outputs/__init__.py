"""Output for CI systems: JUnit XML, GitHub annotations and step summaries."""
