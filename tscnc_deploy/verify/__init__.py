"""Verification of artifacts.

`resolve` finds the artifacts of a request, `run` attacks them, and `stop` and `share` limit and distribute the work.

Importing this package imports neither torch nor onnx nor a runtime; opening a source does.
"""

from tscnc_deploy.verify.budget import Budget, parse_budget
from tscnc_deploy.verify.images import EvaluationImages, check_fit, draw_images, evaluation_images
from tscnc_deploy.verify.labels import order_of, read_names
from tscnc_deploy.verify.request import VerifyRequest
from tscnc_deploy.verify.sources.base import IOSpec, Source
from tscnc_deploy.verify.sources.bundle import BundleSource
from tscnc_deploy.verify.sources.checkpoint import CheckpointSource, checkpoint_source
from tscnc_deploy.verify.sources.onnx import OnnxSource
from tscnc_deploy.verify.sources.remote import RemoteSource
from tscnc_deploy.verify.values import parse_epsilon, parse_values

__all__ = [
    "Budget",
    "BundleSource",
    "CheckpointSource",
    "EvaluationImages",
    "IOSpec",
    "OnnxSource",
    "RemoteSource",
    "Source",
    "VerifyRequest",
    "check_fit",
    "checkpoint_source",
    "draw_images",
    "evaluation_images",
    "order_of",
    "parse_budget",
    "parse_epsilon",
    "parse_values",
    "read_names",
]
