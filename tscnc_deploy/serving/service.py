"""What HTTP and gRPC share: the model that is served now, and whether the server is ready."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tscnc_deploy import __version__
from tscnc_deploy.errors import TscncError
from tscnc_deploy.open_inference import INPUT, OUTPUT
from tscnc_deploy.serving.batching import Batcher
from tscnc_deploy.serving.errors import Reason, RequestError
from tscnc_deploy.serving.metrics import Metrics
from tscnc_deploy.serving.model import Model
from tscnc_deploy.serving.request import InferRequest
from tscnc_deploy.serving.response import InferResponse
from tscnc_deploy.serving.validation import InputValidator, shown

_log = logging.getLogger(__name__)

# An engine that is quicker with one image answers in the event loop: the way to its thread and back takes 0.1 ms.
_IN_PLACE_SECONDS = 1e-4
EXTENSIONS = ("binary_tensor_data", "classification")


@dataclass(frozen=True)
class Limits:
    """How much a server takes on.

    Attributes:
        max_batch: Most images of one call and of one request; None takes the engine's largest batch.
        max_delay: Most seconds that a request waits for others to share its call.
        max_queue: Most images that wait; None takes four times the largest batch.
        max_body: Most bytes of a request; None takes what the largest batch needs as JSON.
        timeout: Seconds after which a request is given up, whatever the client says.
        body_timeout: Seconds within which the body of a request must have come.
        max_connections: Most connections of HTTP, and of gRPC.
        idle_timeout: Seconds after which a connection without a request is closed.
    """

    max_batch: int | None = None
    max_delay: float = 0.002
    max_queue: int | None = None
    max_body: int | None = None
    timeout: float = 60.0
    body_timeout: float = 30.0
    max_connections: int = 4096
    idle_timeout: float = 75.0


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model with its guards and its batches."""

    model: Model
    door: InputValidator
    batcher: Batcher


class Service:
    """The state of a server; lives in one event loop.

    Args:
        open_model: Opens the model as the version it is given; called again for each reload.
        limits: How much is taken on.
        metrics: Are told of everything.
        token: Clients must show it; None lets everybody in.
        allow_failed: Whether the user asked to serve what did not pass; clients are told.
        allow_unsigned: Whether the user asked to serve what is not signed as asked for; clients are told.
    """

    def __init__(
        self,
        open_model: Callable[[str], Model],
        limits: Limits,
        metrics: Metrics,
        *,
        token: str | None = None,
        allow_failed: bool = False,
        allow_unsigned: bool = False,
    ) -> None:
        self._open_model = open_model
        self.limits = limits
        self.metrics = metrics
        self._token = None if token is None else f"Bearer {token}".encode()
        self._allowed = {"allow_failed": allow_failed, "allow_unsigned": allow_unsigned}
        self._running: LoadedModel | None = None
        self._reloading = asyncio.Lock()
        self._stopping = False

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome."""
        return self._running is not None and not self._stopping

    @property
    def current(self) -> LoadedModel:
        """What is served now.

        Raises:
            RequestError: Nothing yet.
        """
        if self._running is None:
            msg = "the model is not loaded yet"
            raise RequestError(msg, Reason.UNAVAILABLE)
        return self._running

    async def start(self) -> None:
        """Opens and warms up the model.

        Raises:
            TscncError: It cannot be served.
        """
        await self._replace("1")

    async def reload(self) -> None:
        """Opens the bundle again and lets the new version take over; the old one answers what it has taken.

        A bundle that cannot be served changes nothing, and is said in the log.
        """
        async with self._reloading:
            old = self.current
            try:
                await self._replace(str(int(old.model.version) + 1))
            except TscncError as error:
                _log.error("the bundle was not reloaded: %s", error)
                return
            except Exception:  # an engine may be anybody's, and fail to warm up in any way
                _log.exception("the bundle was not reloaded")
                return
            _log.info("reloaded: version %s, bundle %s", self.current.model.version, self.current.model.digest)
            # A request that found the old version in this very moment enters its queue before that closes.
            await asyncio.sleep(0)
            await old.batcher.close()

    def stop_welcoming(self) -> None:
        """Says "not ready" from now on; requests are still answered."""
        self._stopping = True

    async def stop(self) -> None:
        """Answers what has been taken, and ends."""
        self.stop_welcoming()
        if self._running:
            await self._running.batcher.close()

    def find(self, name: str, version: str = "") -> LoadedModel:
        """The model of a name, and of a version unless that is empty.

        Raises:
            RequestError: There is none.
        """
        running = self.current
        model = running.model
        if name != model.name or version not in ("", model.version):
            what = f"model {shown(name)}" + (f", version {shown(version)}" if version else "")
            msg = f"{what} is not served here; {model.name}, version {model.version}, is"
            raise RequestError(msg, Reason.NOT_FOUND)
        return running

    async def infer(self, running: LoadedModel, request: InferRequest, deadline: float | None = None) -> InferResponse:
        """Answers a request.

        Args:
            running: What `find` gave.
            request: Checked by its door.
            deadline: When the client gives up, in the event loop's time.

        Raises:
            RequestError: See `Batcher.logits`.
        """
        seconds = min(request.timeout or self.limits.timeout, self.limits.timeout)
        latest = asyncio.get_running_loop().time() + seconds
        logits = await running.batcher.logits(request.images, latest if deadline is None else min(deadline, latest))
        model = running.model
        return InferResponse(model.name, model.version, request.id, logits, request.output, model.classes)

    @property
    def asks_token(self) -> bool:
        """Whether clients must show a token."""
        return self._token is not None

    def check_token(self, shown_token: bytes | None) -> None:
        """Refuses a client without the token.

        Args:
            shown_token: Value of the header "authorization".

        Raises:
            RequestError: A token is needed, and this is not it.
        """
        if self._token is not None and not hmac.compare_digest(shown_token or b"", self._token):
            msg = "this server asks for a bearer token: send the header Authorization: Bearer TOKEN"
            raise RequestError(msg, Reason.UNAUTHENTICATED)

    def server_metadata(self) -> dict[str, Any]:
        """Name, version and extensions, and whether models are served that did not pass or are not signed."""
        extensions = [*EXTENSIONS, *(name for name, allowed in self._allowed.items() if allowed)]
        return {"name": "tscnc-deploy", "version": __version__, "extensions": extensions} | self._allowed

    def model_metadata(self, running: LoadedModel) -> dict[str, Any]:
        """Form of the model, where it comes from, and what protects it."""
        model, spec = running.model, running.model.spec
        return {
            "name": model.name,
            "versions": [model.version],
            "platform": f"tscnc-deploy_{spec.kind}",
            "inputs": [{"name": INPUT, "datatype": "FP32", "shape": [-1, *spec.input_shape]}],
            "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, spec.classes]}],
            "parameters": {
                "bundle_sha256": model.digest,
                "passed": model.passed,
                "signed": model.signed,
                "engine": spec.name,
                "kind": spec.kind,
                "provider": spec.provider,
                "precision": spec.precision,
                "instances": len(model.engines),
                "max_batch": running.door.max_images,
                "input_range": {"FP32": [0, 1], "UINT8": [0, 255]},
                "classes": list(model.classes),
                **model.facts,
            },
        }

    async def _replace(self, version: str) -> None:
        loop = asyncio.get_running_loop()
        model = await loop.run_in_executor(None, self._open_model, version)
        limits, largest = self.limits, model.spec.batch_max
        max_batch = min(limits.max_batch or largest, largest)
        seconds = await loop.run_in_executor(None, model.warm_up, max_batch)
        batcher = Batcher(
            model.engines,
            max_batch=max_batch,
            max_delay=limits.max_delay,
            max_queue=limits.max_queue or 4 * max_batch,
            in_place_seconds=_IN_PLACE_SECONDS,
            single_seconds=seconds,
            observe=self.metrics.count_call,
        )
        batcher.start()
        self._running = LoadedModel(model, InputValidator(model.spec.input_shape, max_batch), batcher)
        self.metrics.show_model(model, lambda: batcher.waiting)
