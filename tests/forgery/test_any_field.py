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


def kinds_of(folder: Path) -> dict[str, tuple[str, tuple[str | int, ...]]]:
    """One field of each kind: those that differ only by their place in a list are alike."""
    found: dict[str, tuple[str, tuple[str | int, ...]]] = {}
    for name, document in documents(folder).items():
        for place in fields(document):
            alike = tuple("*" if isinstance(key, int) else key for key in place)
            found.setdefault(dotted(name, alike), (name, place))
    return found


def hold(good: Path, work: Path, name: str, place: tuple[str | int, ...]) -> bool:
    """Whether a change of this field changes the verdict or is of something that is said not to be proved."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(good, work)
    said = any(fnmatch(dotted(name, place), pattern) for pattern in NOT_PROVED)
    return verdict_of_change(work, name, place) in (1, 2) or said


@settings(max_examples=20, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_field_changes_the_verdict_or_is_said_not_to_be_proved(robust_build, tmp_path, data):
    grouped = places_of(robust_build)
    name, place = data.draw(st.sampled_from(grouped[data.draw(st.sampled_from(sorted(grouped)))]))
    assert hold(robust_build, tmp_path / "changed", name, place), dotted(name, place)


@pytest.mark.slow
def test_a_field_of_every_kind_does(robust_build, tmp_path):
    kinds = kinds_of(robust_build)
    assert len(kinds) > 200
    escaped = [kind for kind, place in kinds.items() if not hold(robust_build, tmp_path / "changed", *place)]
    assert not escaped


def test_the_note_names_what_is_not_proved(robust_build):
    (note,) = [result for result in examine(robust_build) if result.name == "not proved: as its maker says"]
    assert all(words in note.message for words in CLAIMS)
