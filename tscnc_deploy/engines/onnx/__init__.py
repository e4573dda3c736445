"""ONNX files: export, their sparse, half-precision and 8-bit forms, and the engine that onnxruntime runs."""
