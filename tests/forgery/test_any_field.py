"""Whoever changes one field of a good bundle and seals it again changes the verdict, or a thing that is said to be
their word only."""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.forgery.examining import examine
from tests.forgery.mutating import change, documents, dotted, fields
from tscnc_deploy.check import exit_status
from tscnc_deploy.check.claims import CLAIMS
from tscnc_deploy.errors import InputError

# Times, versions, hardware, training curves, settings of attacks, ...: all that the note lists.
NOT_PROVED = tuple(pattern for patterns in CLAIMS.values() for pattern in patterns)


def places_of(folder: Path) -> dict[str, list[tuple[str, tuple[str | int, ...]]]]:
    """The fields by the document and the section that they are in, so that long lists are not drawn more often."""
    grouped: dict[str, list[tuple[str, tuple[str | int, ...]]]] = {}
    for name, document in documents(folder).items():
        for place in fields(document):
            grouped.setdefault(dotted(name, place[:1]), []).append((name, place))
    return grouped


def verdict_of_change(folder: Path, name: str, place: tuple[str | int, ...]) -> int:
    try:
        change(folder, name, place)
        return exit_status(examine(folder))
    except (InputError, ValueError):
        return 2


def hold(good: Path, work: Path, data: st.DataObject) -> None:
    grouped = places_of(good)
    name, place = data.draw(st.sampled_from(grouped[data.draw(st.sampled_from(sorted(grouped)))]))
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(good, work)
    status = verdict_of_change(work, name, place)
    said = any(fnmatch(dotted(name, place), pattern) for pattern in NOT_PROVED)
    assert status in (1, 2) or said, dotted(name, place)


@settings(max_examples=20, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_field_changes_the_verdict_or_is_said_not_to_be_proved(robust_build, tmp_path, data):
    hold(robust_build, tmp_path / "changed", data)


@pytest.mark.slow
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_many_fields_do(robust_build, tmp_path, data):
    hold(robust_build, tmp_path / "changed", data)


def test_the_note_names_what_is_not_proved(robust_build):
    (note,) = [result for result in examine(robust_build) if result.name == "not proved: as its maker says"]
    assert all(words in note.message for words in CLAIMS)
