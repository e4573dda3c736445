"""The gate of a pipeline: whether a bundle is whole, is what it says, and still stands attacks made now.

A bundle may come from whoever wants it to pass, digests and record rewritten to match. So nothing that it says decides
anything: it is recounted, replayed and attacked again; with a recipe or a baseline of the user's own, the bounds, the
threat model and the images are theirs.
"""

from tscnc_deploy.check.policy import Policy, choose_policy
from tscnc_deploy.check.request import CheckReport, Request
from tscnc_deploy.check.result import CheckResult, Outcome, exit_status
from tscnc_deploy.check.run import check_bundle

__all__ = [
    "CheckReport",
    "CheckResult",
    "Outcome",
    "Policy",
    "Request",
    "check_bundle",
    "choose_policy",
    "exit_status",
]
