"""What can be verified, with what images and at what cost: the values of the options of `tscnc-deploy verify`.

Importing this package imports neither torch nor onnx nor a runtime; opening a source does.
"""

from tscnc_deploy.verification.budget import Budget, parse_budget
from tscnc_deploy.verification.bundle_source import BundleSource
from tscnc_deploy.verification.checkpoint_source import CheckpointSource, checkpoint_source
from tscnc_deploy.verification.images import EvaluationImages, check_fit, draw_images, evaluation_images
from tscnc_deploy.verification.labels import order_of, read_labels, read_names
from tscnc_deploy.verification.onnx_source import OnnxSource
from tscnc_deploy.verification.remote_source import RemoteSource
from tscnc_deploy.verification.source import Form, Source
from tscnc_deploy.verification.values import parse_epsilon, parse_values

__all__ = [
    "Budget",
    "BundleSource",
    "CheckpointSource",
    "EvaluationImages",
    "Form",
    "OnnxSource",
    "RemoteSource",
    "Source",
    "check_fit",
    "checkpoint_source",
    "draw_images",
    "evaluation_images",
    "order_of",
    "parse_budget",
    "parse_epsilon",
    "parse_values",
    "read_labels",
    "read_names",
]
