"""A model on a live inference server, alone or beside the PyTorch model that it was made from."""

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
    """See `Source`. Without a twin there is no gradient, and the server is attacked as a black box.

    The bearer token, if the server asks for one, is read from the environment variable TSCNC_SERVE_TOKEN, so that it
    is in no file and in no list of processes.

    Attributes:
        url: See `Endpoint`.
        twin: The PyTorch model that the served one was made from.
        rate: Most images per second; None does not hold back.
        max_queries: Most images that each process sends; None is no bound.
    """

    url: str
    twin: Source | None = None
    rate: float | None = None
    max_queries: int | None = None

    @property
    def name(self) -> str:
        """See `Source.name`: the model's."""
        from tscnc_deploy.engines.remote.endpoint import Endpoint

        return Endpoint.parse(self.url).model

    def engine(self) -> RemoteEngine:
        """The served model; raises what `open` does."""
        from tscnc_deploy.engines.remote.engine import RemoteEngine

        token = os.environ.get(TOKEN_VARIABLE) or None
        return RemoteEngine(self.url, token=token, rate=self.rate, max_queries=self.max_queries)

    def form(self) -> IOSpec:
        """See `Source.form`."""
        spec = self.engine().spec
        return IOSpec(spec.input_shape, spec.classes)

    def open(self, device: str) -> Victim:
        """See `Source.open`; the device is the twin's."""
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
            msg = f"{self.url}: its twin {self.twin.name} gives no gradient; a twin is a PyTorch model"
            raise InputError(msg)
        return EngineVictim(engine, twin.module)

    def digest(self) -> str:
        """See `Source.digest`: of what the server says of itself, as its bytes are out of reach."""
        engine = self.engine()
        return digest_of_parts(
            kind="remote", url=self.url, said=engine.metadata, twin=self.twin.digest() if self.twin else None
        )
