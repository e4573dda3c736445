"""An engine of a bundle, or its twin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tscnc_deploy.digests import digest_of_parts
from tscnc_deploy.verify.sources.base import IOSpec, ready

if TYPE_CHECKING:
    from tscnc_deploy.robustness import Victim


@dataclass(frozen=True)
class BundleSource:
    """See `Source`. An engine is attacked with the gradient of its twin.

    Attributes:
        path: The bundle's folder; every file in it is checked on opening.
        engine: "twin", or the name of a target. It runs on its target's provider, independent of the device.
        threads: CPU threads for one call of the engine; None uses `threads.thread_count`.
        twin_of: With "twin", the engine whose twin it is (see `Bundle.twin_of`); None takes the bundle's.
    """

    path: Path
    engine: str = "twin"
    threads: int | None = None
    twin_of: str | None = None

    @property
    def name(self) -> str:
        """See `Source.name`."""
        return self.engine

    def form(self) -> IOSpec:
        """See `Source.form`."""
        from tscnc_deploy.bundle import open_bundle

        model = open_bundle(self.path).manifest.model
        return IOSpec(model.input_shape, len(model.classes))

    def open(self, device: str) -> Victim:
        """See `Source.open`; raises InputErrors as BundleErrors."""
        from tscnc_deploy.bundle import open_bundle
        from tscnc_deploy.robustness import EngineVictim, ModelVictim

        bundle = open_bundle(self.path)
        if self.engine == "twin":
            return ModelVictim(ready(bundle.twin_of(self.twin_of) if self.twin_of else bundle.twin, device))
        engine = bundle.engine(self.engine, threads=self.threads)
        return EngineVictim(engine, ready(bundle.twin_of(self.engine), device))

    def digest(self) -> str:
        """See `Source.digest`: the engine's files and the twin's, as the manifest lists them and `open` checks them."""
        from tscnc_deploy.bundle import open_bundle
        from tscnc_deploy.bundle.manifest import TWIN

        files = open_bundle(self.path).manifest.files
        inside = f"engines/{self.twin_of or self.engine}/"
        engine = {name.removeprefix(inside): files[name].sha256 for name in files if name.startswith(inside)}
        return digest_of_parts(kind="bundle", engine=engine, twin=files[TWIN].sha256)
