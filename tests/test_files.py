import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tscnc_deploy.errors import StorageError
from tscnc_deploy.files import cache_folder, open_atomic, write_atomic


def test_text_and_bytes_are_written_with_the_usual_permissions(tmp_path):
    write_atomic(tmp_path / "text", "ü\n")
    write_atomic(tmp_path / "bytes", b"\x00\xff")
    (tmp_path / "plain").touch()
    assert (tmp_path / "text").read_bytes() == b"\xc3\xbc\n"
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert (tmp_path / "text").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError])
def test_what_is_interrupted_leaves_the_old_content_and_nothing_else(tmp_path, kind):
    write_atomic(tmp_path / "a", "old")
    with pytest.raises(kind), open_atomic(tmp_path / "a") as file:
        file.write(b"half")
        raise kind
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_reader_sees_the_old_content_until_the_new_one_is_whole(tmp_path):
    write_atomic(tmp_path / "a", "old")
    with open_atomic(tmp_path / "a") as file:
        file.write(b"new")
        file.flush()
        assert (tmp_path / "a").read_text() == "old"
    assert (tmp_path / "a").read_text() == "new"


def test_a_killed_writer_leaves_the_old_content(tmp_path):
    write_atomic(tmp_path / "a", "old")
    code = f"""
        import os
        from pathlib import Path
        from tscnc_deploy.files import open_atomic

        with open_atomic(Path({str(tmp_path / "a")!r})) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), 9)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)]).returncode == -9
    assert (tmp_path / "a").read_text() == "old"


def test_a_folder_that_is_not_there_and_a_folder_in_the_way_are_named(tmp_path):
    with pytest.raises(StorageError, match=r"absent/a: cannot be written: No such file or directory"):
        write_atomic(tmp_path / "absent" / "a", "")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=r"folder: cannot be written: Is a directory"):
        write_atomic(tmp_path / "folder", "")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_link_is_followed_and_a_pipe_stays_a_pipe(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_atomic(tmp_path / "link", "through")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "through"
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True)
    write_atomic(tmp_path / "pipe", "into")
    assert reader.communicate()[0] == "into"
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "pipe"]


def test_the_longest_names_can_be_written(tmp_path):
    write_atomic(tmp_path / ("x" * 255), "a")
    assert (tmp_path / ("x" * 255)).read_text() == "a"


def test_the_cache_is_where_the_environment_says_or_in_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder("verify") == tmp_path / "cache" / "tscnc-deploy" / "verify"
    assert not (tmp_path / "cache").exists()
    if sys.platform == "linux":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cache_folder("verify") == tmp_path / ".cache" / "tscnc-deploy" / "verify"


NOBODY = 1_234_567  # has no entry in any passwd
HOMELESS = f"""
import os
if os.getuid() == 0:
    os.setgid({NOBODY})
    os.setuid({NOBODY})
else:  # what getpwuid says of a number without an entry
    import pwd
    pwd.getpwuid = lambda number: (_ for _ in ()).throw(KeyError(number))
"""


def run_homeless(code, folder):
    """A Python process of a user without a home: a number without an entry in passwd, and without HOME."""
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_CACHE_HOME")}
    return subprocess.run(
        [
            sys.executable,
            "-c",
            f"import tscnc_deploy.files, tscnc_deploy.verify.share\n{HOMELESS}{textwrap.dedent(code)}",
        ],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_a_user_without_a_home_is_told_what_to_set(tmp_path):
    found = run_homeless(
        """
        from tscnc_deploy.errors import StorageError
        try:
            print(tscnc_deploy.files.cache_folder("engines"))
        except StorageError as error:
            print(error)
        """,
        tmp_path,
    )
    assert found.stdout.endswith("has no home folder for the cache; set XDG_CACHE_HOME to a writable folder\n"), (
        found.stderr
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_user_without_a_home_evaluates_without_a_cache(tmp_path):
    found = run_homeless(
        """
        from types import SimpleNamespace
        from tscnc_deploy.verify.share import shard_store
        with shard_store(SimpleNamespace(digest=lambda: "0" * 64), SimpleNamespace(store=None), leads=True) as folder:
            print(folder)
        """,
        tmp_path,
    )
    assert found.stdout == "None\n", found.stderr
    assert list(tmp_path.iterdir()) == []
