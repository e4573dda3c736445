from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.sparse_cpu.library import Core
from tscnc_deploy.engines.sparse_cpu.lowering import lower
from tscnc_deploy.engines.sparse_cpu.program import write_program
from tscnc_deploy.errors import InputError

IMAGES = np.zeros((1, 1, 8, 8), np.float32)


@pytest.fixture(scope="module")
def words(small_files) -> np.ndarray:
    """The program of `small_net`: header 5 words, 6 tensors of 3 words, then the layers."""
    return np.frombuffer(write_program(lower(read_onnx(small_files.model), small_files.model)), np.uint32)


def _changed(words, place, value):
    changed = words.copy()
    changed[place] = value
    return changed.tobytes()


def test_the_program_itself_is_taken(words):
    assert Core(words.tobytes(), "auto", 1).run(IMAGES, 3).shape == (1, 3)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, 1, "no program of the sparse CPU engine"),
        (1, 1, "of another version"),
        (2, 0, "the number of tensors is 0"),
        (2, 70000, "the number of tensors is 70000"),
        (3, 0, "the number of operations is 0"),
        (4, 6, "the output tensor is 6, outside 0 to 5"),
        (4, 1, "the output must hold one value a class"),
        (5, 0, "a number of channels is 0"),
        (6, 2**31, "a height is"),
        (23, 10, "the kind of an operation is 10"),
        (23, 1, "the images must come first"),
        (24, 6, "a target is 6"),
        (25, 1, "a source|has too few or too many sources|read before it is written"),
        (26, 2**32 - 1, "leave the program"),
        (27, 2**20, "leave the program"),
    ],
)
def test_a_wrong_word_is_refused(words, place, value, message):
    with pytest.raises(InputError, match=message):
        Core(_changed(words, place, value), "auto", 1)


def test_every_truncation_is_refused(words):
    for count in range(0, len(words), 7):
        with pytest.raises(InputError):
            Core(words[:count].tobytes(), "auto", 1)
    with pytest.raises(InputError, match="no list of 32-bit words"):
        Core(words.tobytes()[:-1], "auto", 1)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_is_an_error_or_another_network_but_never_a_crash(words, data):
    structure = 120
    changed = words.copy()
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.one_of(st.integers(0, structure), st.integers(0, len(words) - 1)))
        word = st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 64), st.sampled_from([2**16, 2**31, 2**32 - 1]))
        changed[place] = data.draw(word)
    try:
        core = Core(changed.tobytes(), "auto", 1)
    except InputError as error:
        assert str(error)
        return
    # The shape of images may have changed with the network: only what the core took for it is run.
    shape = tuple(int(size) for size in changed[5:8])
    classes = int(changed[5 + 3 * changed[4]])
    if np.prod(shape) < 1e6 and changed[24] == 0:
        try:
            assert core.run(np.zeros((1, *shape), np.float32), classes).shape == (1, classes)
        except InputError as error:
            assert "memory" in str(error)
