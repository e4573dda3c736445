"""Signals while compiled code runs that Python's own handlers have to wait for."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ctrl_c_reaches_children

# time.sleep would return for a signal; a lock of C's own, as a long call of a library, does not.
STUCK = """
import ctypes, sys, threading
import click
from tscnc_deploy.cli.common.program import Program

class One(Program):
    def list_commands(self, ctx):
        return ["work"]
    def get_command(self, ctx, cmd_name):
        return click.Command("work", callback=work)

def work():
    print("started", flush=True)
    libc = ctypes.CDLL(None)
    end = libc.time(None) + 60
    while libc.time(None) < end if QUICK else not libc.poll(None, 0, 60_000):
        pass

QUICK = sys.argv.pop() == "python"
if not QUICK:
    # Signals go to another thread, so that they do not interrupt poll().
    import signal
    ready = threading.Event()
    threading.Thread(target=lambda: (ready.set(), threading.Event().wait()), daemon=True).start()
    ready.wait()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
One().main(prog_name="x")
"""


def stuck(where):
    with ctrl_c_reaches_children():
        process = subprocess.Popen(
            [sys.executable, "-c", STUCK, "work", where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    assert process.stdout.readline() == "started\n"
    return process


def ended(process, *signals):
    """Exit status, seconds, and what was said, of a process that gets these signals a moment apart."""
    started = time.monotonic()
    for number in signals:
        time.sleep(0.2)
        process.send_signal(number)
    try:
        _, said = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, time.monotonic() - started, said


@pytest.mark.parametrize("where", ["python", "compiled"])
def test_sigterm_ends_within_two_seconds(where):
    status, seconds, said = ended(stuck(where), signal.SIGTERM)
    assert (status, said) == (143, "interrupted; run the same command again to resume\n")
    assert seconds < 2.2  # with the moment before it


def test_a_second_ctrl_c_ends_at_once():
    process = stuck("compiled")
    status, seconds, said = ended(process, signal.SIGINT, signal.SIGINT)
    assert (status, said) == (130, "interrupted; run the same command again to resume\n")
    assert seconds < 1.4


def test_a_signal_of_a_forked_child_is_not_taken_for_the_parents():
    code = (
        "import os, signal, time\n"
        "from tscnc_deploy.cli.common.interrupts import interruptible\n"
        "with interruptible():\n"
        "    for _ in range(3):\n"
        "        child = os.fork()\n"
        "        if child == 0:\n"
        "            try: time.sleep(30)\n"
        "            finally: os._exit(0)\n"
        "        time.sleep(0.1)\n"
        "        os.kill(child, signal.SIGTERM)\n"
        "        os.waitpid(child, 0)\n"
        "    time.sleep(2)\n"
        "print('alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "alive\n")


def test_what_was_there_before_is_there_again():
    from tscnc_deploy.cli.common.interrupts import interruptible

    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    before = signal.getsignal(signal.SIGTERM)
    with interruptible():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    woken = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(woken)
    assert woken == -1
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
