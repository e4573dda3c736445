import pytest
import torch

from tscnc_deploy.devices import choose_device
from tscnc_deploy.errors import UnavailableError


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_exit_status_3():
    with pytest.raises(UnavailableError, match="torch finds no GPU") as caught:
        choose_device("cuda")
    assert caught.value.exit_status == 3
