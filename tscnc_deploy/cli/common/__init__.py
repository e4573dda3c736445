"""What several commands share: options, output, progress, and how a command starts and ends."""
