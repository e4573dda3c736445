"""Serves an engine of a bundle over the Open Inference Protocol, and writes what larger servers need to do the same.

Needs the extra "serve"; importing this package alone imports none of it.
"""
