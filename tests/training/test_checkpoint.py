import io
import math
from pathlib import Path

import pytest
import torch

from tscnc_deploy.errors import StorageError
from tscnc_deploy.training.checkpoint import load_checkpoint, save_checkpoint


def test_checkpoints_hold_plain_values_and_tensors(tmp_path):
    state = {"epoch": 3, "weights": torch.arange(3.0), "best": None, "history": [{"kappa": {"a": math.pi}}]}
    save_checkpoint(tmp_path / "c.pt", state)
    loaded = load_checkpoint(tmp_path / "c.pt")
    assert loaded["epoch"] == 3
    assert loaded["weights"].tolist() == [0, 1, 2]
    assert loaded["history"] == [{"kappa": {"a": math.pi}}]
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_a_checkpoint_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(StorageError, match="cannot write the checkpoint"):
        save_checkpoint(tmp_path / "missing" / "c.pt", {"epoch": 1})


class Interrupted(io.BytesIO):
    """A file during whose second write Ctrl-C is pressed."""

    def write(self, data):
        if self.tell():
            raise KeyboardInterrupt
        return super().write(data)


def test_an_interrupt_while_a_checkpoint_is_written_is_no_full_disk(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "c.pt", {"epoch": 1})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "open", lambda path, mode: Interrupted())
        save_checkpoint(tmp_path / "c.pt", {"epoch": 2, "weights": torch.zeros(1000)})
    assert load_checkpoint(tmp_path / "c.pt") == {"epoch": 1}


@pytest.mark.parametrize("share", [0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999])
def test_a_truncated_checkpoint_is_none(tmp_path, share):
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"epoch": 3, "weights": torch.arange(3000.0), "history": [{"kappa": {"a": math.pi}}] * 50})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert load_checkpoint(path) is None
    padded = whole[: int(len(whole) * share)].ljust(len(whole), b"\0")
    path.write_bytes(padded)
    assert (load_checkpoint(path) is None) == (padded != whole)


@pytest.mark.parametrize("content", [b"garbage", b"PK\x03\x04" + bytes(100), b"\x80\x02K\x01.", b"{}"])
def test_what_is_no_checkpoint_is_none(tmp_path, content):
    (tmp_path / "c.pt").write_bytes(content)
    assert load_checkpoint(tmp_path / "c.pt") is None
