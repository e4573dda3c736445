"""The state that HTTP and gRPC share: the model being served, and whether the server is ready."""

from __future__ import annotations

import asyncio
import hmac
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from tscnc_deploy.errors import TscncError
from tscnc_deploy.open_inference import INPUT, OUTPUT
from tscnc_deploy.serving.batching import Batcher
from tscnc_deploy.serving.errors import Reason, RequestError
from tscnc_deploy.serving.metrics import Metrics
from tscnc_deploy.serving.model import Model
from tscnc_deploy.serving.request import InferRequest
from tscnc_deploy.serving.response import InferResponse
from tscnc_deploy.serving.validation import InputValidator, shown
from tscnc_deploy.versions import own_version

T = TypeVar("T")
_log = logging.getLogger(__name__)

# An engine that is faster than this runs in the event loop: the round trip to its thread takes 0.1 ms.
_IN_PLACE_SECONDS = 1e-4
OPENING = "opening"
"""Name of a thread that opens or warms up a model."""
EXTENSIONS = ("binary_tensor_data", "classification")


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        max_batch: Largest number of images in an engine call and in a request; None uses the engine's largest batch.
        max_delay: Longest time in seconds that a request waits for others to join its batch.
        max_queue: Largest number of waiting images; None uses four times the largest batch.
        max_body: Largest request in bytes; None uses what the largest batch needs as JSON.
        timeout: Seconds after which a request fails, even if its client would wait longer.
        body_timeout: Seconds within which the body of a request must arrive.
        max_connections: Largest number of HTTP connections, and of gRPC connections, of which there are at most 512.
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
    """A model with its validator and its batcher."""

    model: Model
    validator: InputValidator
    batcher: Batcher


class Service:
    """The state of a server; lives in one event loop.

    Args:
        open_model: Opens the model under the given version; called again for each reload.
        limits: Limits of the server.
        metrics: Counts requests and engine calls.
        token: Bearer token that clients must send; None accepts every client.
        allow_failed: Whether the user allowed a model that did not pass; shown to clients.
        allow_unsigned: Whether the user allowed a bundle without the required signature; shown to clients.
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
        self._token = None if token is None else token.encode()
        self._allowed = {"allow_failed": allow_failed, "allow_unsigned": allow_unsigned}
        self._loaded: LoadedModel | None = None
        self._reloading = asyncio.Lock()
        self._stopping = False

    @property
    def ready(self) -> bool:
        """Whether the server accepts new requests."""
        return self._loaded is not None and not self._stopping

    @property
    def current(self) -> LoadedModel:
        """The model being served.

        Raises:
            RequestError: No model is loaded yet.
        """
        if self._loaded is None:
            msg = "the model is not loaded yet"
            raise RequestError(msg, Reason.UNAVAILABLE)
        return self._loaded

    async def start(self) -> None:
        """Opens and warms up the model.

        Raises:
            TscncError: The model cannot be served.
        """
        await self._replace("1")

    async def reload(self) -> None:
        """Opens the bundle again and switches to the new version; the old one finishes the requests it has accepted.

        If the bundle cannot be served, the old version stays and the log says why.
        """
        async with self._reloading:
            old = self.current
            try:
                replaced = await self._replace(str(int(old.model.version) + 1))
            except TscncError as error:
                _log.error("the bundle was not reloaded: %s", error)
                return
            except Exception:  # a third-party engine may raise anything while it warms up
                _log.exception("the bundle was not reloaded")
                return
            if not replaced:
                return
            _log.info("reloaded: version %s, bundle %s", self.current.model.version, self.current.model.digest)
            # Lets a request that has just found the old version enter its queue before the queue closes.
            await asyncio.sleep(0)
            await old.batcher.close()

    def report_not_ready(self) -> None:
        """Reports "not ready" from now on; requests are still processed."""
        self._stopping = True

    async def stop(self) -> None:
        """Finishes the accepted requests and stops."""
        self.report_not_ready()
        if self._loaded:
            await self._loaded.batcher.close()

    def find(self, name: str, version: str = "") -> LoadedModel:
        """The model with a name and, unless it is empty, a version.

        Raises:
            RequestError: There is no such model.
        """
        loaded = self.current
        model = loaded.model
        if name != model.name or version not in ("", model.version):
            what = f"model {shown(name)}" + (f", version {shown(version)}" if version else "")
            msg = f"{what} is not served here; this server has {model.name}, version {model.version}"
            raise RequestError(msg, Reason.NOT_FOUND)
        return loaded

    async def infer(self, loaded: LoadedModel, request: InferRequest, deadline: float | None = None) -> InferResponse:
        """Runs a request.

        Args:
            loaded: The model, from `find`.
            request: A validated request.
            deadline: When the client gives up, in the event loop's time.

        Raises:
            RequestError: See `Batcher.logits`.
        """
        seconds = min(request.timeout or self.limits.timeout, self.limits.timeout)
        latest = asyncio.get_running_loop().time() + seconds
        logits = await loaded.batcher.logits(request.images, latest if deadline is None else min(deadline, latest))
        model = loaded.model
        return InferResponse(model.name, model.version, request.id, logits, request.output, model.classes)

    @property
    def requires_token(self) -> bool:
        """Whether clients must send a token."""
        return self._token is not None

    def check_token(self, authorization: bytes | None) -> None:
        """Rejects a client without the token.

        Args:
            authorization: Value of the header "authorization".

        Raises:
            RequestError: The server requires a token, and the header does not contain it.
        """
        if self._token is None:
            return
        scheme, _, token = (authorization or b"").partition(b" ")
        # Compared before the scheme is, so that the time says nothing about the token.
        if not (hmac.compare_digest(token.strip(b" "), self._token) and scheme.lower() == b"bearer"):
            msg = "this server requires a bearer token: send the header Authorization: Bearer TOKEN"
            raise RequestError(msg, Reason.UNAUTHENTICATED)

    def server_metadata(self) -> dict[str, Any]:
        """Name, version and extensions of the server, and whether it may serve models that failed or are not signed."""
        extensions = [*EXTENSIONS, *(name for name, allowed in self._allowed.items() if allowed)]
        return {"name": "tscnc-deploy", "version": own_version(), "extensions": extensions} | self._allowed

    def model_metadata(self, loaded: LoadedModel) -> dict[str, Any]:
        """Inputs and outputs of the model, its bundle, and its measured robustness."""
        model, spec = loaded.model, loaded.model.spec
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
                "max_batch": loaded.validator.max_images,
                "input_range": {"FP32": [0, 1], "UINT8": [0, 255]},
                "classes": list(model.classes),
                **model.facts,
            },
        }

    async def _replace(self, version: str) -> bool:
        """Opens a version and switches to it, unless the server is being stopped by then; whether it switched."""
        model = await _in_thread(self._open_model, version)
        limits, largest = self.limits, model.spec.batch_max
        max_batch = min(limits.max_batch or largest, largest)
        seconds = await _in_thread(model.warm_up, max_batch)
        # Nothing is awaited from here on, so that `stop` closes either the batcher of this version or knows of none.
        if self._stopping:
            return False
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
        self._loaded = LoadedModel(model, InputValidator(model.spec.input_shape, max_batch), batcher)
        self.metrics.show_model(model, lambda: batcher.waiting)
        return True


async def _in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Runs the function in a thread that is abandoned if the server stops; an executor's thread would be waited for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast(T, result))

    def run() -> None:
        result, error = None, None
        try:
            result = work(*arguments)
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(finish, result, error)

    threading.Thread(target=run, name=OPENING, daemon=True).start()
    return await done
