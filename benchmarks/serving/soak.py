"""Ten minutes at full load: memory flat, every answer right, and nothing lost when SIGTERM comes.

    python -m benchmarks.serving.soak runs/digits-resnet18-s95/bundle [--seconds 600] [--name amd-epyc]

Clients of tritonclient over HTTP (binary and JSON) and gRPC ask without a pause for 1 to 32 of the bundle's own
images, whose logits the engine gave in this process before. Some requests are malformed, and must be refused; some
clients leave before their answer comes; one sends bytes that are no request. Ends with status 1 if an answer was
wrong, a request failed, or the server did not end well.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import tritonclient.grpc.aio
import tritonclient.http.aio
from scipy.stats import theilslopes

from benchmarks.serving import results
from tests.serving.servers import Server, serving
from tscnc_deploy import open_bundle

# Batches of other sizes are summed in another order.
_TOLERANCE = 1e-4
_LARGEST = 32
_BAD_SHARE = 0.02
_LEAVING_SHARE = 0.02
# What a client is told, or finds, when the server has ended.
_ENDED = ("connect", "Connect", "UNAVAILABLE", "CANCELLED", "closed", "disconnected", "being stopped")


class Soak:
    """The clients, and what they were told."""

    def __init__(self, server: Server, images: np.ndarray, logits: np.ndarray) -> None:
        self.server = server
        self.model = server.document["model"]
        self.images, self.logits = images, logits
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self.largest_difference = 0.0
        self.stopping = False
        self.ending = False

    async def client(self, number: int) -> None:
        """Asks until the end."""
        over_http = number % 2 == 0
        module = tritonclient.http.aio if over_http else tritonclient.grpc.aio
        random_ = random.Random(number)
        async with module.InferenceServerClient(self.server.http if over_http else self.server.grpc) as client:
            while not self.ending:
                draw = random_.random()
                if draw < _BAD_SHARE:
                    await self._refused(client, module)
                elif draw < _BAD_SHARE + _LEAVING_SHARE:
                    await self._left(client, module, random_)
                else:
                    await self._answered(client, module, random_)

    async def noise(self) -> None:
        """A stranger who sends what is no request, and leaves."""
        random_ = random.Random(0)
        host, port = self.server.http.split(":")
        while not self.ending:
            await asyncio.sleep(0.05)
            try:
                _, writer = await asyncio.open_connection(host, int(port))
                writer.write(random_.choice([b"\0" * 100, b"POST /v2 HTTP/1.1\r\nContent-Length: 9\r\n\r\n", b"GET "]))
                await writer.drain()
                writer.close()
                self.counts["noise"] += 1
            except OSError as error:
                self._ended(error)

    def _tensor(self, module, images, **how):
        made = module.InferInput("images", list(images.shape), "FP32")
        made.set_data_from_numpy(images, **(how if module is tritonclient.http.aio else {}))
        return [made]

    def _some(self, random_: random.Random) -> slice:
        count = random_.randint(1, _LARGEST)
        start = random_.randint(0, len(self.images) - count)
        return slice(start, start + count)

    async def _answered(self, client, module, random_) -> None:
        chosen = self._some(random_)
        tensor = self._tensor(module, self.images[chosen], binary_data=random_.random() < 0.8)
        try:
            answer = (await client.infer(self.model, tensor)).as_numpy("logits")
        except Exception as error:
            self._ended(error)
            return
        difference = float(np.abs(answer - self.logits[chosen]).max())
        self.largest_difference = max(self.largest_difference, difference)
        if difference > _TOLERANCE:
            self.failures.append(f"logits differ by {difference}")
        self.counts["answered after SIGTERM" if self.stopping else "answered"] += 1
        self.counts["images"] += len(answer)

    async def _refused(self, client, module) -> None:
        bad = np.full((1, *self.images.shape[1:]), np.nan, np.float32)
        try:
            await client.infer(self.model, self._tensor(module, bad))
        except Exception as error:
            if "must lie in [0, 1]" in str(error):
                self.counts["malformed, refused"] += 1
            else:
                self._ended(error)
        else:
            self.failures.append("NaN was not refused")

    async def _left(self, client, module, random_) -> None:
        asking = asyncio.create_task(client.infer(self.model, self._tensor(module, self.images[self._some(random_)])))
        await asyncio.sleep(random_.random() * 0.05)
        asking.cancel()
        (outcome,) = await asyncio.gather(asking, return_exceptions=True)
        if isinstance(outcome, Exception):
            self._ended(outcome)
        else:
            self.counts["left before the answer"] += isinstance(outcome, asyncio.CancelledError)

    def _ended(self, error: Exception) -> None:
        """Notes a failure, unless the server was told to end and the client may well find it gone."""
        said = f"{type(error).__name__}: {error}"
        if not self.stopping or not any(word in said for word in _ENDED):
            self.failures.append(said)
        self.counts["refused after SIGTERM"] += self.stopping
        self.ending = self.ending or self.server.process.poll() is not None


def memory_mib(pid: int) -> tuple[float, float]:
    """All that is resident, and what of it is the process's own and no file's: that alone can leak."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":") for line in lines)
    return tuple(round(int(found[name].split()[0]) / 1024, 2) for name in ("VmRSS", "RssAnon"))


def growth(samples: list[tuple[float, ...]]) -> dict[str, object]:
    """Of the process's own memory over the second half, when every pool has filled.

    The slope is Theil's and Sen's, the median of those between all pairs of samples: the kernel takes pages back that
    hold only zeros, and a call that needs them again is a step, not a slope.
    """
    half = len(samples) // 2
    seconds, _, own = np.array(samples[half:]).T
    slope, _, low, high = theilslopes(own, seconds / 3600)
    return {
        "mib_per_hour": round(float(slope), 2),
        "interval_95": [round(float(low), 2), round(float(high), 2)],
        "largest_own_mib": {"first half": max(mib for _, _, mib in samples[:half]), "second half": float(own.max())},
    }


async def run(soak: Soak, seconds: float, clients: int) -> list[tuple[float, ...]]:
    """Samples of seconds, resident MiB and own MiB."""
    process, started = soak.server.process, time.monotonic()
    asking = [asyncio.create_task(soak.client(number)) for number in range(clients)]
    asking.append(asyncio.create_task(soak.noise()))
    samples = []
    while (now := time.monotonic() - started) < seconds and process.poll() is None and not soak.failures:
        samples.append((round(now, 1), *memory_mib(process.pid)))
        if len(samples) % 12 == 1:
            print(f"{now:4.0f} s  {samples[-1][1:]} MiB  {dict(soak.counts)}", flush=True)
        await asyncio.sleep(min(5.0, seconds / 20))
    soak.stopping = True
    process.send_signal(signal.SIGTERM)
    await asyncio.get_running_loop().run_in_executor(None, process.wait, 60)
    soak.ending = True
    await asyncio.gather(*asking)
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--engine", default="onnx-cpu")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=16, help="half of them over gRPC")
    parser.add_argument("--name", help="of the machine, to write the results")
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    images = bundle.evidence.images
    logits = bundle.engine(options.engine, threads=1).logits(images)
    before = results.load_average()
    with (
        tempfile.NamedTemporaryFile() as log,
        serving(options.bundle, "--engine", options.engine, log=Path(log.name)) as server,
    ):
        soak = Soak(server, images, logits)
        samples = asyncio.run(run(soak, options.seconds, options.clients))
        status, said = server.process.wait(), Path(log.name).read_text()
    figures = {
        "bundle": bundle.manifest.name,
        "engine": options.engine,
        "seconds": options.seconds,
        "clients": options.clients,
        "load_average": {"before": before, "after": results.load_average()},
        "counts": dict(soak.counts),
        "images_per_second": round(soak.counts["images"] / options.seconds, 1),
        "largest_difference_of_a_logit": soak.largest_difference,
        "failures": soak.failures[:10],
        "exit_status": status,
        "log": said[-2000:],
        "memory": growth(samples) | {"seconds_resident_own_mib": samples},
    }
    print({key: value for key, value in figures.items() if key != "memory"}, growth(samples))
    if options.name:
        results.write("soak", options.name, figures)
    sys.exit(0 if not soak.failures and status == 0 and not said else 1)


if __name__ == "__main__":
    main()
