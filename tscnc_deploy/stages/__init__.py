"""The stages of a build, in order."""

from tscnc_deploy.stages.base import Stage
from tscnc_deploy.stages.export import Export
from tscnc_deploy.stages.finetune import Finetune
from tscnc_deploy.stages.package import Package
from tscnc_deploy.stages.prune import Prune
from tscnc_deploy.stages.reverify import Reverify
from tscnc_deploy.stages.train import Train
from tscnc_deploy.stages.verify import Verify

STAGES: tuple[Stage, ...] = (Train(), Prune(), Finetune(), Verify(), Export(), Reverify(), Package())

__all__ = ["STAGES", "Stage"]
