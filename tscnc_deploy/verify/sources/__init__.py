"""What can be verified: an engine of a bundle, an ONNX file, a PyTorch checkpoint, a live server."""
