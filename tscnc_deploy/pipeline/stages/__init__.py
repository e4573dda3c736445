"""The stages of a build, in order."""

from tscnc_deploy.pipeline.stages.base import Stage
from tscnc_deploy.pipeline.stages.export import Export
from tscnc_deploy.pipeline.stages.finetune import Finetune
from tscnc_deploy.pipeline.stages.package import Package
from tscnc_deploy.pipeline.stages.prune import Prune
from tscnc_deploy.pipeline.stages.reverify import Reverify
from tscnc_deploy.pipeline.stages.train import Train
from tscnc_deploy.pipeline.stages.trial import Trial
from tscnc_deploy.pipeline.stages.verify import Verify

STAGES: tuple[Stage, ...] = (Trial(), Train(), Prune(), Finetune(), Verify(), Export(), Reverify(), Package())

__all__ = ["STAGES", "Stage"]
