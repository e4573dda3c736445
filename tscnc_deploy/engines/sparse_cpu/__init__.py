"""The engine kind "sparse-cpu": a direct sparse convolution engine that turns the zeros of a pruned network into speed.

`lowering` turns an ONNX graph into layers, `program` writes them down, and the compiled core (csrc/) checks, plans and
runs them. The files are those of the kind "onnxruntime": nothing is stored that another runtime could not open.
"""
