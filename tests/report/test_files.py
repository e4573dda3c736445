from __future__ import annotations

import pytest

from tscnc_deploy.errors import InputError, StorageError
from tscnc_deploy.report.files import check_suffix, written


def test_the_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "a.csv"
    with written(path) as file:
        file.write(b"all")
        assert not path.exists()
    assert path.read_bytes() == b"all"
    assert list(tmp_path.iterdir()) == [path]


def test_what_stood_there_stays_when_writing_fails(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), written(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with (
        pytest.raises(StorageError, match=r"absent/a\.csv: cannot be written: No such file"),
        written(tmp_path / "absent" / "a.csv"),
    ):
        pass
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(StorageError, match=r"b\.csv: cannot be written"), written(tmp_path / "b.csv"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["b.csv"]


def test_a_name_of_another_kind_is_refused(tmp_path):
    check_suffix(tmp_path / "a.PNG", (".png",))
    with pytest.raises(InputError, match=r"a.txt: the name of this file must end in .csv or .parquet"):
        check_suffix(tmp_path / "a.txt", (".csv", ".parquet"))
