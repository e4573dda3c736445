"""Serves an engine of a bundle over the Open Inference Protocol, and writes configurations for Triton and KServe.

How a request travels: `http` or `grpc` reads it into an `InferRequest` (request), whose tensor `validation` checks;
`service` finds the model and hands the images to `batching`, which calls the engine; the logits travel back as an
`InferResponse` (response). Whatever is wrong with a request is a `RequestError` (errors).

`loading` opens the model from a bundle, `page` renders what browsers see at `/`, `server` runs it all.

Serving needs the extra "serve"; importing this package alone imports none of it.
"""
