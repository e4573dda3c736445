"""Damage nobody thought of. TSCNC_FUZZ=SECONDS goes on for so long instead of a few examples."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.hostile.box import BYTES
from tests.hostile.mutations import MUTATIONS
from tests.hostile.test_corpus import CHECK

# The box imports everything and checks a bundle before the first test.
pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("TSCNC_FUZZ", 0))
EXAMPLES = 4
# Cheapest first: most of what is refused is refused by the parsers.
COMMANDS = (("everything", ()), ("everything", ()), ("everything", ()), ("inspect", ()), ("check", CHECK))
# A mutation may be none that matters, and then the whole command runs, attack and all.
SECONDS_OF_ALL = 20.0


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_any_damage_ends_in_an_exit_status(box, honest, mutation, tmp_path):
    end = time.monotonic() + SECONDS / len(MUTATIONS)
    executions = 0

    @settings(
        max_examples=25 if SECONDS else EXAMPLES,
        deadline=None,
        derandomize=not SECONDS,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def damage_and_run(data: st.DataObject) -> None:
        nonlocal executions
        executions += 1
        with tempfile.TemporaryDirectory(dir=tmp_path) as place:
            folder = Path(shutil.copytree(honest, Path(place) / "bundle"))
            mutation(folder, data.draw)
            command, options = data.draw(st.sampled_from(COMMANDS))
            outcome = box.run(command, folder, *options)
        outcome.require_civil()
        assert outcome.seconds < SECONDS_OF_ALL, outcome
        assert outcome.bytes < BYTES, outcome

    damage_and_run()
    while time.monotonic() < end:
        damage_and_run()
    print(f"{mutation.__name__}: {executions} executions")
