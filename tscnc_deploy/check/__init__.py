"""The gate of a pipeline: whether a bundle is complete, is what it claims, and withstands attacks that are run now.

A bundle may come from someone who wants it to pass and has rewritten its digests and its record to match. So nothing
in it is taken on trust: weights are counted again, evidence is replayed, engines are attacked again. With a recipe or a
baseline of your own, the limits, the threat model and the images are yours too.
"""

from tscnc_deploy.check.policy import Policy, choose_policy
from tscnc_deploy.check.request import CheckRequest
from tscnc_deploy.check.result import CheckReport, CheckResult, Outcome, exit_status
from tscnc_deploy.check.run import check_bundle

__all__ = [
    "CheckReport",
    "CheckRequest",
    "CheckResult",
    "Outcome",
    "Policy",
    "check_bundle",
    "choose_policy",
    "exit_status",
]
