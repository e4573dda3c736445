"""Workers that evaluate shards: this process, other local processes or a Ray cluster, or processes of torchrun."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tscnc_deploy.errors import InputError, UnavailableError
from tscnc_deploy.robustness.victims import Victim
from tscnc_deploy.threads import configure, thread_count

if TYPE_CHECKING:
    from tscnc_deploy.robustness.evaluation import Evaluation

T = TypeVar("T")

Open = Callable[[str], Victim]
"""Opens the victim on a device, such as "cpu" or "cuda:1".

Pickled to other processes with every task. Copies must compare equal (a function of a module, or an instance of a
frozen dataclass, but not a `functools.partial`), so that a process opens its victim once.
"""

# Ranks wait for the slowest shard and for what the leading process does alone, which may take longer than the 30
# minutes that gloo waits by default. torchrun ends all processes when one fails, so a long wait hides no failure.
_TIMEOUT = timedelta(days=30)

Task = Callable[[Victim], "Evaluation"]
"""Evaluates one shard of a victim; picklable."""


class Workers(Protocol):
    """Evaluates several shards at once."""

    @property
    def count(self) -> int:
        """Number of shards that are evaluated at the same time."""
        ...

    def run(self, victim: Victim, tasks: Sequence[Task]) -> Iterator[Evaluation]:
        """The results of all tasks, in order, in every process."""
        ...

    @property
    def leads(self) -> bool:
        """Whether this process stores and reports."""
        ...

    def share(self, value: T) -> T:
        """Returns the leading process's value in all processes."""
        ...


class InProcess:
    """Evaluates one shard after another in this process."""

    count = 1
    leads = True

    def run(self, victim: Victim, tasks: Sequence[Task]) -> Iterator[Evaluation]:
        """See `Workers.run`."""
        return (task(victim) for task in tasks)

    def share(self, value: T) -> T:
        """See `Workers.share`."""
        return value


class Joblib:
    """Processes started by joblib, each with its own victim.

    Args:
        open_victim: Opens the victim in another process.
        count: Number of processes, at least 1.
        backend: "loky" for local processes, or "ray" for a Ray cluster.
        devices: Devices that the shards use in turns, such as ("cuda:0", "cuda:1").

    Raises:
        InputError: A count below 1, or an unknown backend.
        UnavailableError: joblib or Ray is not installed; the message says how to install it.
    """

    leads = True

    def __init__(
        self, open_victim: Open, count: int, *, backend: str = "loky", devices: Sequence[str] = ("cpu",)
    ) -> None:
        if count < 1 or backend not in ("loky", "ray"):
            msg = f"{count} workers with the backend {backend!r}: use at least 1, and the backend 'loky' or 'ray'"
            raise InputError(msg)
        try:
            import joblib

            if backend == "ray":
                from ray.util.joblib import register_ray

                register_ray()
        except ImportError as error:
            msg = f"{backend} workers need the package {error.name}; run: pip install joblib ray"
            raise UnavailableError(msg) from error
        self.count = count
        self._open = open_victim
        self._devices = tuple(devices)
        self._parallel = joblib.Parallel(n_jobs=count, backend=backend)

    def run(self, victim: Victim, tasks: Sequence[Task]) -> Iterator[Evaluation]:
        """See `Workers.run`; ignores the given victim."""
        threads = max(thread_count() // self.count, 1)
        calls: list[Any] = [
            (_elsewhere, (self._open, self._devices[number % len(self._devices)], threads, task), {})
            for number, task in enumerate(tasks)
        ]
        return iter(self._parallel(calls))

    def share(self, value: T) -> T:
        """See `Workers.share`."""
        return value


class Torchrun:
    """Processes started by torchrun: each runs the same program, evaluates its share and receives the others' results.

    Raises:
        UnavailableError: The processes cannot reach each other.
    """

    def __init__(self) -> None:
        from torch import distributed

        if not distributed.is_initialized():
            try:
                # Results are sent as objects in main memory, so gloo works with GPUs too.
                distributed.init_process_group("gloo")
            except (RuntimeError, ValueError) as error:
                msg = f"the processes of torchrun cannot reach each other: {str(error).splitlines()[0]}"
                raise UnavailableError(msg) from error
            # If left to the interpreter's exit, its threads occasionally abort the process.
            atexit.register(distributed.destroy_process_group)
        # A group of its own for the results, as finding each other keeps the short limit.
        group = distributed.new_group(backend="gloo", timeout=_TIMEOUT)
        assert isinstance(group, distributed.ProcessGroup)  # as every rank belongs to it
        self._group = group
        self.rank: int = distributed.get_rank()
        self.count: int = distributed.get_world_size()

    def run(self, victim: Victim, tasks: Sequence[Task]) -> Iterator[Evaluation]:
        """See `Workers.run`."""
        from torch import distributed

        own = [task(victim) for task in tasks[self.rank :: self.count]]
        everyones: list[Any] = [None] * self.count
        distributed.all_gather_object(everyones, own, group=self._group)
        return (everyones[number % self.count][number // self.count] for number in range(len(tasks)))

    @property
    def leads(self) -> bool:
        """See `Workers.leads`; it is the process of rank 0."""
        return self.rank == 0

    def share(self, value: T) -> T:
        """See `Workers.share`."""
        from torch import distributed

        values = [value]
        distributed.broadcast_object_list(values, group=self._group)
        return values[0]


def started_by_torchrun() -> bool:
    """Whether this process is one of several started by torchrun (or another launcher that sets WORLD_SIZE)."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1") and "RANK" in os.environ


def _elsewhere(open_victim: Open, device: str, threads: int, task: Task) -> Evaluation:
    """Evaluates a shard in another process, which keeps the victim open for the next shard."""
    # Engines ask for the number themselves, so the environment has to tell it, not torch alone.
    configure(threads)
    return task(_opened(open_victim, device))


@lru_cache(maxsize=4)
def _opened(open_victim: Open, device: str) -> Victim:
    return open_victim(device)
