"""Long evaluations in shards: stored, resumed, and shared between processes and machines."""
