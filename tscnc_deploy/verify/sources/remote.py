"""A model on a live inference server, alone or with the PyTorch model that it was exported from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tscnc_deploy.digests import digest_of_parts
from tscnc_deploy.errors import InputError
from tscnc_deploy.open_inference import TOKEN_VARIABLE
from tscnc_deploy.verify.sources.base import IOSpec, Source

if TYPE_CHECKING:
    from tscnc_deploy.engines.remote.engine import RemoteEngine
    from tscnc_deploy.robustness import Victim


@dataclass(frozen=True)
class RemoteSource:
    """See `Source`. Without a twin there are no gradients, and the server is attacked as a black box.

    The bearer token, if the server requires one, is read from the environment variable TSCNC_SERVE_TOKEN, so that it
    does not appear in files or process lists.

    Attributes:
        url: See `Endpoint`.
        twin: The PyTorch model that the served model was exported from.
        rate: Maximum number of images per second; None means no limit.
        max_queries: Maximum number of images that each process sends; None means no limit.
    """

    url: str
    twin: Source | None = None
    rate: float | None = None
    max_queries: int | None = None

    @property
    def name(self) -> str:
        """See `Source.name`: the name of the model."""
        from tscnc_deploy.engines.remote.endpoint import Endpoint

        return Endpoint.parse(self.url).model

    def engine(self) -> RemoteEngine:
        """The served model; raises what `open` does."""
        from tscnc_deploy.engines.remote.engine import RemoteEngine

        token = os.environ.get(TOKEN_VARIABLE)
        if token == "":
            msg = f"{TOKEN_VARIABLE} is set, but empty; unset it, or set it to the server's token"
            raise InputError(msg)
        return RemoteEngine(self.url, token=token, rate=self.rate, max_queries=self.max_queries)

    def form(self) -> IOSpec:
        """See `Source.form`."""
        spec = self.engine().spec
        return IOSpec(spec.input_shape, spec.classes)

    def open(self, device: str) -> Victim:
        """See `Source.open`; the device is for the twin."""
        from tscnc_deploy.robustness import BlackBoxVictim, EngineVictim, ModelVictim

        engine = self.engine()
        if self.twin is None:
            return BlackBoxVictim(engine)
        form = IOSpec(engine.spec.input_shape, engine.spec.classes)
        if (other := self.twin.form()) != form:
            msg = f"{self.url}: maps {form}, but its twin {self.twin.name} maps {other}"
            raise InputError(msg)
        twin = self.twin.open(device)
        if not isinstance(twin, ModelVictim):
            msg = f"{self.url}: its twin {self.twin.name} has no gradient; a twin must be a PyTorch model"
            raise InputError(msg)
        return EngineVictim(engine, twin.module)

    def digest(self) -> str:
        """See `Source.digest`: the digest of the server's metadata, because its files are not accessible."""
        engine = self.engine()
        return digest_of_parts(
            kind="remote", url=self.url, said=engine.metadata, twin=self.twin.digest() if self.twin else None
        )
