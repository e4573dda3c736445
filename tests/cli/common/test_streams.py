"""Standard output that is closed, full, or without a reader: one line and status 2, or 141, for every command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.serving.bundles import write_served
from tscnc_deploy.cli.common.program import COMMANDS

RUN = f"{sys.executable} -c 'from tscnc_deploy.cli import main; main(prog_name=\"tscnc-deploy\")'"
CLOSED = "error: standard output cannot be written: it is closed; redirect it to /dev/null to run without\n"
FULL = "error: standard output cannot be written: No space left on device\n"


def shell(line, **environment):
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=os.environ | environment, timeout=120)


# One of them by each way in which something is printed; the rest below, in one process each.
@pytest.mark.parametrize("words", ["--help", "--version", "recipes", "recipes --json", "build --help"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_goes_nowhere(words, unbuffered):
    closed, full = (shell(f"{RUN} {words} {to}", PYTHONUNBUFFERED=unbuffered) for to in (">&-", ">/dev/full"))
    assert [(closed.returncode, closed.stderr), (full.returncode, full.stderr)] == [(2, CLOSED), (2, FULL)]


@pytest.mark.parametrize("words", ["--help", "recipes"])
def test_a_reader_that_has_gone_is_no_error(words):
    # The reader may end after the last byte was written, so the status is 0 or 141, but nothing is said.
    assert shell(f"{{ {RUN} {words}; echo $? >&2; }} | true").stderr in ("141\n", "0\n")


ALL = """
import os, sys
from tscnc_deploy.cli import main
from tscnc_deploy.cli.common.program import COMMANDS

for arguments in [[command, "--help"] for command in COMMANDS] + [["targets"], ["doctor"], ["doctor", "--json"]]:
    child = os.fork()
    if child == 0:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        try:
            main(arguments, prog_name="tscnc-deploy")
        except SystemExit as end:
            sys.stderr.flush()
            os._exit(end.code)
        os._exit(99)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(f"{' '.join(arguments)}: {status}", file=sys.stderr, flush=True)
"""


@pytest.mark.slow
def test_every_command():
    done = subprocess.run([sys.executable, "-c", ALL], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    asked = [f"{command} --help" for command in COMMANDS] + ["targets", "doctor", "doctor --json"]
    assert done.stderr == "".join(f"{FULL}{words}: 2\n" for words in asked)


@pytest.mark.parametrize(
    "words", ["inspect BUNDLE", "inspect BUNDLE --json", "check BUNDLE --json", "serve BUNDLE --port 0 --grpc-port 0"]
)
@pytest.mark.slow
def test_commands_on_a_bundle(tmp_path, words):
    bundle = write_served(tmp_path / "bundle")
    for to, said in ((">&-", CLOSED), (">/dev/full", FULL)):
        done = shell(f"{RUN} {words.replace('BUNDLE', str(bundle))} {to}")
        assert (done.returncode, done.stderr.splitlines()[-1:]) == (2, [said.strip()])
        assert "Traceback" not in done.stderr


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    code = (
        "import os, sys\nfrom tscnc_deploy.cli.common.streams import OutputError, checked_streams\n"
        "try:\n with checked_streams(): pass\nexcept OutputError: pass\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w')\n"
        f"open({str(tmp_path / 'number')!r}, 'w').write(str(file.fileno()))\n"
        "os.write(1, b'out')\nos.write(2, b'err')\n"
    )
    done = shell(f'{sys.executable} -c "$CODE" <&- >&- 2>&-', CODE=code)
    assert done.returncode == 0
    assert int((tmp_path / "number").read_text()) > 2
    assert (tmp_path / "file").read_text() == ""
