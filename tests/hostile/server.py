"""Runs commands in forked children, so that each case starts with everything imported and cannot harm the next one.

A request is one line of JSON on standard input: {"argv": [...], "scratch": DIR}. The answer is one line on standard
output: how the child ended and what it cost. What the child wrote is in DIR/stdout and DIR/stderr.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEMORY = 1 << 30
"""Bytes of address space that a child may ask for on top of what it starts with."""
SECONDS = 60
"""CPU time that a child may take."""
PATIENCE = 300
"""Seconds until one that waits for something is ended; long, as the machine may be busy."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
_NEVER = {"pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect"}


def main() -> None:
    import tscnc_deploy.check.attack
    import tscnc_deploy.cli.common.verify_results
    import tscnc_deploy.verify.run  # noqa: F401
    from tests.hostile.everything import use_everything

    # Libraries import the larger half of themselves when they are first used.
    if use_everything(["everything", sys.argv[1]]) != 0:
        sys.exit("the honest bundle is refused")
    with tempfile.TemporaryDirectory() as scratch:
        idle = _child(lambda argv: 0, [], Path(scratch))["bytes"]
    for line in sys.stdin:
        request = json.loads(line)
        argv = request["argv"]
        run = use_everything if argv[0] == "everything" else _command
        found = _child(run, argv, Path(request["scratch"]))
        print(json.dumps(found | {"bytes": found["bytes"] - idle}), flush=True)


def _command(argv: list[str]) -> int:
    from tscnc_deploy.cli import main

    try:
        main(argv, prog_name="tscnc-deploy")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _child(run: Callable[[list[str]], int], argv: list[str], scratch: Path) -> dict[str, Any]:
    child = os.fork()
    if child == 0:
        status = 70
        try:
            _confine(scratch)
            status = run(argv)
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(status)
    end = time.monotonic() + PATIENCE
    done, status, usage = os.wait4(child, os.WNOHANG)
    while not done:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
        done, status, usage = os.wait4(child, os.WNOHANG)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "seconds": usage.ru_utime + usage.ru_stime,
        "bytes": usage.ru_maxrss * 1024,
    }


def _confine(scratch: Path) -> None:
    # Bytecode of what is imported only now, which any process may write beside its sources.
    sys.dont_write_bytecode = True
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
        os.environ[name] = str(scratch)
    os.chdir(scratch)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(scratch / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    inside = (str(scratch), "/dev/null")

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[0], str | bytes) and (arguments[2] or 0) & _WRITING
        if event in _NEVER or ((writes or event in _CHANGES) and not is_inside(arguments[0])):
            # Not an exception, which the command might take for a refusal of its own.
            os.write(2, f"ESCAPED: {event} {arguments!r}\n".encode())
            os._exit(99)

    def is_inside(place: Any) -> bool:
        return isinstance(place, str | bytes | os.PathLike) and str(Path(os.fsdecode(place)).absolute()).startswith(
            inside
        )

    sys.addaudithook(watch)


if __name__ == "__main__":
    main()
