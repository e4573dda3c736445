"""How many CPU threads compute, and how they wait for each other: one setting for training, attacks and engines.

The number is `--threads`, else TSCNC_THREADS, else OMP_NUM_THREADS, else the cores that this process may really use.
Containers and CI runners often see all cores of a machine and are given the time of two: threads beyond that are
stopped by the kernel in the middle of their work, and all others wait for them.

OpenMP reads its environment once, when it is loaded with torch, so `configure` and `choose_waiting` have to run before
torch is imported.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tscnc_deploy.errors import InputError

VARIABLE = "TSCNC_THREADS"
MOST = 256
# Torch takes the second over the first where it was built with MKL.
_NUMBERS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# How threads wait is the user's choice where one of these is set.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
# Seconds; the kernel counts the time of cores in steps of 10 ms.
SAMPLE = 0.06


@dataclass(frozen=True)
class Cores:
    """What this process may compute on.

    Attributes:
        machine: Hardware threads of the machine, as the operating system tells them.
        affinity: Those that the process may run on (taskset, cpuset).
        physical: Cores that these belong to: two threads of one core share the units that multiply.
        quota: Cores' worth of time that its cgroups grant it, such as 1.5; None without a limit.
        load: Processes that were running or waiting for a core, on average over the last minute; None where the system
            does not say.
    """

    machine: int
    affinity: int
    physical: int
    quota: float | None
    load: float | None

    @property
    def usable(self) -> int:
        """The smaller of physical cores and quota, at least 1; half a core of a quota and more counts as one."""
        if self.quota is None:
            return self.physical
        return max(min(self.physical, int(self.quota + 0.5)), 1)


def find_cores(root: Path = Path("/")) -> Cores:
    """What this process may compute on now.

    Args:
        root: Under which /proc and the cgroup file systems are read.
    """
    machine = os.cpu_count() or 1
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(machine))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return Cores(machine, len(allowed), _physical(allowed, root), cpu_quota(root), load)


def _physical(allowed: set[int], root: Path) -> int:
    """Number of cores that hardware threads belong to; each counts as a core where the system does not say."""
    folder = root / "sys/devices/system/cpu"
    siblings = (_read(folder / f"cpu{number}/topology/thread_siblings_list").strip() for number in allowed)
    return len({listed or number for listed, number in zip(siblings, allowed, strict=True)})


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Cores' worth of time that the cgroups of this process grant it, the least along the way up; None without limit.

    Reads cpu.max of cgroup version 2, and cpu.cfs_quota_us and cpu.cfs_period_us of version 1.

    Args:
        root: Under which /proc and the cgroup file systems are read.
    """
    paths = _cgroup_paths(_read(root / "proc/self/cgroup"))
    quotas: list[float] = []
    for kind, top, mount in _cgroup_mounts(_read(root / "proc/self/mountinfo")):
        own = paths.get(kind)
        if own is None:
            continue
        # Within a container the mount shows the container's own group as its top.
        below = own.relative_to(top) if own.is_relative_to(top) else PurePosixPath()
        base = root / mount.relative_to("/")
        for part in (below, *below.parents):
            read = _quota_v2 if kind == "v2" else _quota_v1
            if (quota := read(base / part)) is not None:
                quotas.append(quota)
    return min(quotas, default=None)


def _cgroup_paths(text: str) -> dict[str, PurePosixPath]:
    """The process's group by version, "v1" for the hierarchy that has the controller of the CPU."""
    paths = {}
    for line in text.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            paths["v2"] = PurePosixPath(path)
        elif "cpu" in controllers.split(","):
            paths["v1"] = PurePosixPath(path)
    return paths


def _cgroup_mounts(text: str) -> Iterable[tuple[str, PurePosixPath, PurePosixPath]]:
    """Version, the group that is its top, and the mount point, of each mounted cgroup file system."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        top, mount = PurePosixPath(fields[3]), PurePosixPath(fields[4].replace("\\040", " "))
        if kind[0] == "cgroup2":
            yield "v2", top, mount
        elif kind[0] == "cgroup" and "cpu" in kind[2].split(","):
            yield "v1", top, mount


def _quota_v2(group: Path) -> float | None:
    quota, _, period = _read(group / "cpu.max").partition(" ")
    return _share(quota, period)


def _quota_v1(group: Path) -> float | None:
    return _share(_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"))


def _share(quota: str, period: str) -> float | None:
    """Both in microseconds; "max" and -1 are no limit."""
    try:
        granted, each = int(quota), int(period)
    except ValueError:
        return None
    return granted / each if granted > 0 and each > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def thread_count(environ: MutableMapping[str, str] | None = None) -> int:
    """The number of CPU threads that torch and the engines of this process are to use.

    Raises:
        InputError: TSCNC_THREADS is not a number from 1 to 256.
    """
    environ = os.environ if environ is None else environ
    if asked := environ.get(VARIABLE):
        if not asked.isdecimal() or not 1 <= int(asked) <= MOST:
            msg = f"{VARIABLE} = {asked!r} is not a number of threads from 1 to {MOST}"
            raise InputError(msg)
        return int(asked)
    for name in _NUMBERS:
        # A list is of nested levels, the first of which counts. OpenMP ignores what is not a number too.
        first = environ.get(name, "").split(",")[0].strip()
        if first.isdecimal() and int(first) >= 1:
            return min(int(first), MOST)
    return min(find_cores().usable, MOST)


def configure(threads: int | None = None, environ: MutableMapping[str, str] | None = None) -> int:
    """Makes torch, the engines and child processes use that many threads.

    Without torch in the process yet, OpenMP's variables are set. With it, they would come too late: torch is told the
    number, if one was asked for.

    Args:
        threads: From 1 to 256; None takes `thread_count`.
        environ: Where variables are set and read; by default those of the process.

    Returns:
        The number of threads.

    Raises:
        InputError: See `thread_count`.
    """
    environ = os.environ if environ is None else environ
    if threads is not None:
        environ[VARIABLE] = str(threads)
    count = thread_count(environ)
    torch = sys.modules.get("torch")
    if torch is not None:
        if VARIABLE in environ:
            torch.set_num_threads(count)
        return count
    for name in _NUMBERS:
        environ[name] = str(count)
    # Otherwise MKL limits torch to the number of physical cores, whatever was requested.
    environ.setdefault("MKL_DYNAMIC", "FALSE")
    return count


def choose_waiting(environ: MutableMapping[str, str] | None = None) -> None:
    """Makes OpenMP's threads sleep while they wait for each other, if other processes use the cores that they need.

    By default they spin, which is fastest alone. Beside another busy process, the time that they spin is taken from the
    thread that all others wait for: benchmarks/threads.py measures both, and bounded spinning, which was worse in both
    situations. Results do not depend on it. What the user has set about waiting stays. For processes that have not
    loaded torch yet; takes 60 ms.

    Args:
        environ: Where variables are set and read; by default those of the process.
    """
    environ = os.environ if environ is None else environ
    count = thread_count(environ)
    if count == 1 or any(name in environ for name in WAITING):
        return
    if idle_cores() < count - 0.5:
        environ["OMP_WAIT_POLICY"] = "PASSIVE"


def idle_cores(seconds: float = SAMPLE, root: Path = Path("/")) -> float:
    """Cores' worth of time that nobody uses, of those that this process may run on.

    Cores count as idle where the system does not tell.

    Args:
        seconds: How long to look.
        root: Under which /proc is read.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    before = _core_times(root)
    time.sleep(seconds)
    after = _core_times(root)
    idle = 0.0
    for core in allowed:
        (idle_before, all_before), (idle_after, all_after) = before.get(core, (0, 0)), after.get(core, (0, 0))
        passed = all_after - all_before
        idle += (idle_after - idle_before) / passed if passed > 0 else 1.0
    return idle


def _core_times(root: Path) -> dict[int, tuple[int, int]]:
    """By number of the core: ticks without work, and all ticks, since the machine started; see proc_stat(5)."""
    times = {}
    for line in _read(root / "proc/stat").splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdecimal() and len(fields) >= 5:
            # The ninth and tenth, of guests, are contained in the first and second.
            ticks = [int(field) for field in fields[:8]]
            times[int(name[3:])] = ticks[3] + ticks[4], sum(ticks)
    return times
