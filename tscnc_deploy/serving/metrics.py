"""Metrics of a server in Prometheus' format."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from tscnc_deploy.serving.batching import Call
from tscnc_deploy.serving.model import Model

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics of one server, in their own registry."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def histogram(name: str, help_text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"tscnc_{name}", help_text, buckets=buckets, registry=self._registry)

        self._requests = Counter(
            "tscnc_requests", "Requests by transport, call and status.", ("transport", "call", "status"),
            registry=self._registry,
        )  # fmt: skip
        self._request_seconds = histogram("request_seconds", "Duration of inference requests in seconds.", _SECONDS)
        self._queue_seconds = histogram(
            "queue_seconds", "Time that requests waited for their batch, in seconds.", _SECONDS
        )
        self._inference_seconds = histogram("inference_seconds", "Duration of engine calls in seconds.", _SECONDS)
        self._batch_images = histogram("batch_images", "Images per engine call.", _IMAGES)
        self._waiting = Gauge("tscnc_queue_images", "Images waiting for a batch.", registry=self._registry)
        self._model = Gauge(
            "tscnc_model", "1 for the model being served.", ("model", "version", "engine", "provider", "digest"),
            registry=self._registry,
        )  # fmt: skip

    def show_model(self, model: Model, waiting: Callable[[], float]) -> None:
        """Sets the model that is served from now on, and the function that reads the length of its queue."""
        self._model.clear()
        spec = model.spec
        self._model.labels(model.name, model.version, spec.name, spec.provider, model.digest).set(1)
        self._waiting.set_function(waiting)

    def count_request(self, transport: str, call: str, status: str, seconds: float) -> None:
        """Counts a finished request."""
        self._requests.labels(transport, call, status).inc()
        if call == "infer":
            self._request_seconds.observe(seconds)

    def count_call(self, call: Call) -> None:
        """Counts an engine call."""
        for seconds in call.waited:
            self._queue_seconds.observe(seconds)
        self._inference_seconds.observe(call.seconds)
        self._batch_images.observe(call.images)

    def to_text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
