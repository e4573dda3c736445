"""Models on inference servers as engines, over the Open Inference Protocol (HTTP and gRPC)."""
