"""Shared parts of the commands: options, output, progress, start and exit."""
