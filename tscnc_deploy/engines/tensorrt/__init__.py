"""The engine kinds "tensorrt" and "tensorrt-rtx"."""
