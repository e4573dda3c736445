"""ONNX files: export, the sparse, half-precision and 8-bit forms, and the engine that onnxruntime runs."""
