"""Opens everything in a bundle that any command opens; a refusal of one part does not keep the others from it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tscnc_deploy.errors import TscncError, UnavailableError

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle


def use_everything(argv: list[str]) -> int:
    """Exit status 0 if all of it could be used, 2 if something was refused; what else is raised is a defect."""
    from tscnc_deploy.bundle import open_bundle

    try:
        bundle = open_bundle(Path(argv[1]))
    except TscncError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    refused = [use for use in _uses(bundle) if not _passes(use)]
    return 2 if refused else 0


def _passes(use: Callable[[], Any]) -> bool:
    try:
        use()
    except UnavailableError:
        return True  # what this machine lacks is nothing that the bundle did
    except TscncError as error:
        print(f"error: {error}", file=sys.stderr)
        return False
    return True


def _uses(bundle: Bundle) -> list[Callable[[], Any]]:
    from tscnc_deploy.report.html import render_report
    from tscnc_deploy.serving.loading import open_model
    from tscnc_deploy.serving.triton import describe
    from tscnc_deploy.verify import BundleSource

    return [
        lambda: render_report(bundle.record),
        *(lambda stage=stage: _check(bundle, stage) for stage in _stages(bundle)),
        lambda: _answers(bundle.twin, bundle),
        *(lambda name=name: BundleSource(bundle.path, name, threads=1).open("cpu") for name in bundle.engines),
        *(lambda name=name: describe(bundle, name) for name in bundle.engines),
        *(lambda name=name: _run(bundle, name) for name in bundle.engines),
        lambda: open_model(bundle, threads=1).warm_up(16),
    ]


def _stages(bundle: Bundle) -> list[str]:
    from tscnc_deploy.check.run import checks_without_running

    policy: Any = None  # used by the checks, which do not run yet
    return list(checks_without_running(bundle, policy))


def _check(bundle: Bundle, stage: str) -> None:
    from tscnc_deploy.check.policy import choose_policy
    from tscnc_deploy.check.run import checks_without_running

    list(checks_without_running(bundle, choose_policy(bundle))[stage]())


def _answers(model: Any, bundle: Bundle) -> None:
    import torch

    with torch.no_grad():
        model(torch.from_numpy(bundle.evidence.images))


def _run(bundle: Bundle, name: str) -> None:
    engine = bundle.engine(name, threads=1)
    engine.logits(np.zeros((3, *engine.spec.input_shape), np.float32))
