from __future__ import annotations

import pytest

from tscnc_deploy.errors import InputError
from tscnc_deploy.report.files import check_suffix


def test_a_name_of_another_kind_is_refused(tmp_path):
    check_suffix(tmp_path / "a.PNG", (".png",))
    with pytest.raises(InputError, match=r"a.txt: the name of this file must end in .csv or .parquet"):
        check_suffix(tmp_path / "a.txt", (".csv", ".parquet"))
