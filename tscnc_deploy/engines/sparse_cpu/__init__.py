"""The engine kind "sparse-cpu": direct sparse convolution, which turns the zeros of a pruned network into speed.

`lowering` turns an ONNX graph into layers, `program` serialises them, and the compiled core (csrc/) checks, plans and
runs them. The files are those of the kind "onnxruntime", so other runtimes can open them too.
"""
