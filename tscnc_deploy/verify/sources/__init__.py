"""Sources that can be verified: engines of bundles, ONNX files, PyTorch checkpoints, live servers."""
