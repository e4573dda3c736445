"""The number of threads: affinity, the quotas of cgroups, what the user sets; and how they wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from tscnc_deploy import threads
from tscnc_deploy.cli import main
from tscnc_deploy.errors import InputError
from tscnc_deploy.threads import Cores, configure, cpu_quota, thread_count

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = "33 32 0:29 {top} /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
OTHER = "25 23 0:22 / /proc rw - proc proc rw\n34 32 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


def machine(root, cgroup, mountinfo, files):
    files = {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo, **files}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_version_2_in_a_container_that_sees_its_own_group_as_the_top(tmp_path):
    files = {"sys/fs/cgroup/cpu.max": "150000 100000\n"}
    assert cpu_quota(machine(tmp_path, "0::/\n", OTHER + V2_MOUNT, files)) == 1.5


def test_version_2_takes_the_least_on_the_way_up(tmp_path):
    files = {
        "sys/fs/cgroup/ci.slice/cpu.max": "200000 100000\n",
        "sys/fs/cgroup/ci.slice/job/cpu.max": "400000 100000\n",
        "sys/fs/cgroup/ci.slice/job/step/cpu.max": "max 100000\n",
        "sys/fs/cgroup/another/cpu.max": "50000 100000\n",
    }
    assert cpu_quota(machine(tmp_path, "0::/ci.slice/job/step\n", V2_MOUNT, files)) == 2.0


def test_version_2_without_a_limit(tmp_path):
    files = {"sys/fs/cgroup/user.slice/cpu.max": "max 100000\n"}
    assert cpu_quota(machine(tmp_path, "0::/user.slice\n", V2_MOUNT, files)) is None


@pytest.mark.parametrize("top", ["/docker/3f2a", "/"])
def test_version_1_whether_the_mount_shows_the_containers_group_or_the_hosts(tmp_path, top):
    group = "sys/fs/cgroup/cpu,cpuacct" + ("" if top != "/" else "/docker/3f2a")
    files = {f"{group}/cpu.cfs_quota_us": "300000\n", f"{group}/cpu.cfs_period_us": "100000\n"}
    cgroup = "5:memory:/docker/9999\n4:cpu,cpuacct:/docker/3f2a\n1:name=systemd:/\n"
    assert cpu_quota(machine(tmp_path, cgroup, OTHER + V1_MOUNT.format(top=top), files)) == 3.0


def test_version_1_without_a_limit(tmp_path):
    folder = "sys/fs/cgroup/cpu,cpuacct"
    files = {f"{folder}/cpu.cfs_quota_us": "-1\n", f"{folder}/cpu.cfs_period_us": "100000\n"}
    assert cpu_quota(machine(tmp_path, "4:cpu,cpuacct:/\n", V1_MOUNT.format(top="/"), files)) is None


def test_a_group_outside_of_what_is_mounted_is_taken_for_the_mounted_one(tmp_path):
    files = {"sys/fs/cgroup/cpu.max": "100000 100000\n"}
    mount = V2_MOUNT.replace("0:26 / ", "0:26 /kubepods/pod1 ")
    assert cpu_quota(machine(tmp_path, "0::/../elsewhere\n", mount, files)) == 1.0


def test_without_proc_there_is_no_quota(tmp_path):
    assert cpu_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("physical", "quota", "usable"),
    [(8, None, 8), (8, 2.0, 2), (2, 4.0, 2), (8, 1.5, 2), (8, 1.4, 1), (8, 0.1, 1), (1, 0.5, 1)],
)
def test_usable_cores(physical, quota, usable):
    assert Cores(machine=16, affinity=8, physical=physical, quota=quota, load=None).usable == usable


def test_two_hardware_threads_of_one_core_are_one_core(tmp_path, monkeypatch):
    for number, listed in enumerate(("0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7")):
        topology = tmp_path / f"sys/devices/system/cpu/cpu{number}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{listed}\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 4, 6}, raising=False)
    assert (threads.find_cores(tmp_path).affinity, threads.find_cores(tmp_path).usable) == (4, 3)


def test_affinity_is_the_operating_systems(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    assert threads.find_cores(tmp_path).affinity == 3
    assert threads.find_cores(tmp_path).usable == 3


@pytest.mark.parametrize(
    ("environ", "count"),
    [
        ({"TSCNC_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
        ({"OMP_NUM_THREADS": "5", "MKL_NUM_THREADS": "6"}, 5),
        ({"MKL_NUM_THREADS": "6"}, 6),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "many"}, 7),
        ({"TSCNC_THREADS": "", "OMP_NUM_THREADS": ""}, 7),
        ({}, 7),
        ({"OMP_NUM_THREADS": "100000"}, 256),
    ],
)
def test_what_wins(monkeypatch, environ, count):
    monkeypatch.setattr(threads, "find_cores", lambda: Cores(16, 14, 7, None, None))
    assert thread_count(environ) == count


@pytest.mark.parametrize("text", ["0", "257", "-1", "two", "1.5"])
def test_a_setting_that_is_no_number_of_threads(text):
    with pytest.raises(InputError, match=f"TSCNC_THREADS = '{text}' is not a number of threads from 1 to 256"):
        thread_count({"TSCNC_THREADS": text})


def test_before_torch_is_loaded_openmps_variables_are_set(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    environ = {"OMP_NUM_THREADS": "9"}
    assert configure(3, environ) == 3
    assert environ == {
        "TSCNC_THREADS": "3", "OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3", "MKL_DYNAMIC": "FALSE",
    }  # fmt: skip


def test_what_mkl_was_told_of_dynamic_threads_stays(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    environ = {"OMP_NUM_THREADS": "2", "MKL_DYNAMIC": "TRUE"}
    configure(None, environ)
    assert environ == {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "MKL_DYNAMIC": "TRUE"}


# proc_stat(5), in ticks: user nice system idle iowait irq softirq steal guest guest_nice
EARLIER = "cpu  99 9 9 99 9 9 9 9 9 9\ncpu0 10 0 0 90 10 0 0 0 5 0\ncpu1 50 5 5 40 0 0 0 0 0 0\nintr 5 6\n"


@pytest.mark.parametrize(
    ("later", "idle"),
    [
        ("cpu0 10 0 0 94 12 0 0 0 5 0\ncpu1 50 5 5 46 0 0 0 0 0 0\n", 2.0),
        ("cpu0 14 0 1 90 10 0 0 1 9 0\ncpu1 50 5 5 46 0 0 0 0 0 0\n", 1.0),
        ("cpu0 13 0 0 93 10 0 0 0 5 0\ncpu1 56 5 5 40 0 0 0 0 0 0\n", 0.5),
        (EARLIER, 2.0),
        ("", 2.0),
    ],
)
def test_idle_cores_are_read_from_the_kernel(tmp_path, monkeypatch, later, idle):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    stat = tmp_path / "proc/stat"
    stat.parent.mkdir()
    stat.write_text(EARLIER)
    monkeypatch.setattr(time, "sleep", lambda seconds: stat.write_text(later))
    assert threads.idle_cores(root=tmp_path) == idle


def test_a_core_that_may_not_be_used_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1}, raising=False)
    stat = tmp_path / "proc/stat"
    stat.parent.mkdir()
    stat.write_text(EARLIER)
    later = "cpu0 10 0 0 99 10 0 0 0 5 0\ncpu1 60 5 5 40 0 0 0 0 0 0\n"
    monkeypatch.setattr(time, "sleep", lambda seconds: stat.write_text(later))
    assert threads.idle_cores(root=tmp_path) == 0.0


@pytest.mark.skipif(not Path("/proc/stat").is_file(), reason="/proc/stat is Linux's")
def test_a_busy_process_is_seen():
    (core, *_) = sorted(os.sched_getaffinity(0))
    code = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code, str(core)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        before = threads._core_times(Path("/"))
        time.sleep(0.3)
        after = threads._core_times(Path("/"))
        process.kill()
    assert after[core][0] - before[core][0] <= 3  # ticks of 10 ms without work, of about 30


@pytest.mark.parametrize(
    ("count", "idle", "chosen"),
    [("2", 2.0, None), ("2", 1.6, None), ("2", 1.0, "PASSIVE"), ("4", 3.0, "PASSIVE"), ("4", 60.0, None)],
)
def test_threads_sleep_where_others_use_the_cores(monkeypatch, count, idle, chosen):
    monkeypatch.setattr(threads, "idle_cores", lambda: idle)
    environ = {"TSCNC_THREADS": count}
    threads.choose_waiting(environ)
    assert environ.get("OMP_WAIT_POLICY") == chosen


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_the_user_says_about_waiting_stays(monkeypatch, name):
    monkeypatch.setattr(threads, "idle_cores", lambda: 0.0)
    environ = {"TSCNC_THREADS": "2", name: "ACTIVE"}
    threads.choose_waiting(environ)
    assert environ == {"TSCNC_THREADS": "2", name: "ACTIVE"}


def test_one_thread_waits_for_none(monkeypatch):
    monkeypatch.setattr(threads, "idle_cores", lambda: 0.0)
    environ = {"TSCNC_THREADS": "1"}
    threads.choose_waiting(environ)
    assert environ == {"TSCNC_THREADS": "1"}


RUN = """
import json, os, sys
from click.testing import CliRunner
from tscnc_deploy.cli import main
done = CliRunner().invoke(main, sys.argv[1:])
import torch
import onnxruntime
print(json.dumps([done.exit_code, torch.get_num_threads(), os.environ.get("OMP_WAIT_POLICY")]))
"""


def run(*arguments, **variables):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MKL_", "TSCNC_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[1])} | variables,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_option_reaches_torch():
    arguments = ("build", "--threads", "3", "--plan", "--set", "model.width=0.125")
    assert run(*arguments, TSCNC_THREADS="2")[:2] == [0, 3]


@pytest.mark.slow
def test_beside_busy_processes_a_build_waits_passively():
    # They leave the build all that it asks for, and only the rest is not idle.
    code = "import os\nos.nice(19)\nwhile True: pass"
    busy = [subprocess.Popen([sys.executable, "-c", code]) for _ in os.sched_getaffinity(0)]
    try:
        # It ends soon, but after the choice.
        build = ("build", "--recipe", "none.toml")
        assert run(*build, TSCNC_THREADS="2") == [2, 2, "PASSIVE"]
        assert run(*build, TSCNC_THREADS="2", OMP_WAIT_POLICY="ACTIVE") == [2, 2, "ACTIVE"]
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_the_variable_reaches_torch_and_wins_over_what_mkl_was_told():
    assert run("recipes", TSCNC_THREADS="3", MKL_NUM_THREADS="1") == [0, 3, None]


@pytest.mark.slow
def test_openmps_own_variable_is_respected():
    assert run("recipes", OMP_NUM_THREADS="3", OMP_WAIT_POLICY="PASSIVE") == [0, 3, "PASSIVE"]


def test_a_wrong_variable_is_bad_input(monkeypatch):
    monkeypatch.setenv("TSCNC_THREADS", "all")
    done = CliRunner().invoke(main, ["recipes"])
    assert (done.exit_code, done.stderr) == (
        2,
        "error: TSCNC_THREADS = 'all' is not a number of threads from 1 to 256\n",
    )


@pytest.mark.parametrize("command", ["build", "verify", "check", "sweep"])
def test_commands_that_compute_take_the_option(command):
    done = CliRunner().invoke(main, [command, "--threads", "0"])
    assert done.exit_code == 2
    assert "0 is not in the range 1<=x<=256" in done.stderr
