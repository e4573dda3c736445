"""What the core's loader refuses of the kinds beside convolutions, from layers made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tscnc_deploy.engines.sparse_cpu.library import Core
from tscnc_deploy.engines.sparse_cpu.network import Combine, Function, Kind, Layer, Network, Piece, Shape
from tscnc_deploy.engines.sparse_cpu.program import write_program
from tscnc_deploy.errors import InputError

IMAGE = Shape(4, 2, 3)
LAYERS = {
    "elementwise": Layer(
        Kind.ELEMENTWISE, [0, 0], 1, "", scale=np.ones(4), bias=np.ones(4), combine=Combine.MULTIPLY, alpha=0.5
    ),
    "copy": Layer(Kind.COPY, [0, 0], 1, "", pieces=(Piece(1, 6, 0, ((3, 6, 6), (6, 1, 1))),), fill=2.0),
    "constant": Layer(Kind.CONSTANT, [], 1, "", values=np.arange(24, dtype=np.float32)),
    "softmax": Layer(Kind.SOFTMAX, [0], 1, "", size=2),
    "layer norm": Layer(Kind.LAYER_NORM, [0], 1, "", size=2, scale=np.ones(2), bias=np.zeros(2), epsilon=1e-3),
    "matmul": Layer(Kind.MATMUL, [0, 2], 1, "", groups=2),
}


def _program(layer: Layer, target: Shape = IMAGE) -> bytes:
    """Images of 4 channels and 2 x 3 pixels, a second factor of 4 channels and 2 pixels, the layer, and a mean."""
    ones = np.ones(4)
    second = Layer(Kind.CONSTANT, [], 2, "", values=np.ones(8, np.float32))
    layers = [Layer(Kind.INPUT, [], 0, "", scale=ones, bias=0 * ones), second, layer, Layer(Kind.MEAN, [1], 3, "")]
    return write_program(Network([IMAGE, target, Shape(4, 1, 2), Shape(target.c, 1, 1)], layers, 3))


IMAGES = np.arange(24, dtype=np.float32).reshape(1, 4, 2, 3) / 8


def _run(layer: Layer) -> np.ndarray:
    found = Core(_program(layer), "auto", 1).run(IMAGES, 4)
    np.testing.assert_allclose(Core(_program(layer), "portable", 2).run(IMAGES, 4), found, rtol=1e-6)
    return found[0]


def test_known_answers():
    image = IMAGES[0]
    assert _run(LAYERS["elementwise"]) == pytest.approx(((image + 1) * image).mean((1, 2)))
    copied = np.concatenate([np.full((1, 2, 3), 2), image[:3]])
    assert _run(LAYERS["copy"]) == pytest.approx(copied.mean((1, 2)))
    assert _run(LAYERS["constant"]) == pytest.approx(np.arange(24).reshape(4, 6).mean(1))
    # Both channels of a group differ by 0.75 everywhere.
    share = 1 / (1 + np.exp(0.75))
    assert _run(LAYERS["softmax"]) == pytest.approx([share, 1 - share] * 2)
    normed = 0.375 / np.sqrt(0.375**2 + 1e-3)
    assert _run(LAYERS["layer norm"]) == pytest.approx([-normed, normed] * 2)
    pairs = image.reshape(2, 2, 6).sum(1).mean(1)
    assert _run(LAYERS["matmul"]) == pytest.approx([pairs[0], pairs[0], pairs[1], pairs[1]])


def test_pieces_that_overlap_are_filled_first():
    twice = Piece(0, 0, 0, ((2, 0, 6), (6, 1, 1)))
    found = _run(replace(LAYERS["copy"], pieces=(twice, Piece(0, 12, 12, ((12, 1, 1),)))))
    assert found[1] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("layer", "changes", "message"),
    [
        ("elementwise", {"sources": [0, 2]}, "what is combined has another shape"),
        ("elementwise", {"sources": [0]}, "a combination needs two sources"),
        ("elementwise", {"combine": Combine.NONE}, "a combination needs two sources"),
        ("elementwise", {"sources": [2, 2]}, "an elementwise operation changes the shape"),
        ("elementwise", {"low": 1.0, "high": 0.0}, "its lower bound above its upper one"),
        ("copy", {"sources": []}, "too few or too many sources"),
        ("copy", {"pieces": (Piece(2, 0, 0, ((1, 0, 0),)),)}, "the source of a piece is 2, outside 0 to 1"),
        ("copy", {"pieces": (Piece(0, 24, 0, ((1, 0, 0),)),)}, "a piece leaves the target"),
        ("copy", {"pieces": (Piece(0, 0, 24, ((1, 0, 0),)),)}, "a piece leaves its source"),
        ("copy", {"pieces": (Piece(0, 1, 0, ((24, 1, 1),)),)}, "a piece leaves the target"),
        ("copy", {"pieces": (Piece(0, 0, 0, ((2, 1, 2**28),)),)}, "a piece leaves its source"),
        ("copy", {"pieces": (Piece(0, 0, 0, ((25, 0, 0),)),)}, "a piece is larger than the target"),
        ("copy", {"pieces": (Piece(0, 0, 0, ((2**14, 0, 0),) * 16),)}, "a piece is larger than the target"),
        ("copy", {"pieces": (Piece(0, 0, 0, ((13, 0, 0),)),) * 2}, "the pieces are larger than the target"),
        ("copy", {"pieces": (Piece(0, 0, 0, ()),)}, "the number of dimensions is 0"),
        ("copy", {"pieces": (Piece(0, 0, 0, ((1, 0, 0),) * 17),)}, "the number of dimensions is 17"),
        ("constant", {"values": np.ones(4, np.float32)}, "constants leave the program"),
        ("softmax", {"size": 3}, "the groups of an operation do not divide its channels"),
        ("softmax", {"size": 0}, "a number of channels is 0"),
        ("softmax", {"sources": [2]}, "an operation over channels changes the shape"),
        ("layer norm", {"epsilon": -1.0}, "an epsilon is negative"),
        ("layer norm", {"epsilon": float("nan")}, "an epsilon is negative"),
        ("layer norm", {"size": 2**20}, "a number of channels is"),
        ("matmul", {"sources": [0]}, "too few or too many sources"),
        ("matmul", {"groups": 3}, "the groups of a product do not divide its channels"),
        ("matmul", {"groups": 4}, "the factors of a product do not fit"),
        ("matmul", {"sources": [0, 0]}, "the factors of a product do not fit"),
        ("matmul", {"sources": [2, 0]}, "a product has other positions than its first factor"),
    ],
)
def test_what_does_not_fit_is_refused(layer, changes, message):
    with pytest.raises(InputError, match=message):
        Core(_program(replace(LAYERS[layer], **changes)), "auto", 1)


@pytest.mark.parametrize("field", ["function", "combine"])
def test_unknown_numbers_are_refused(field):
    layer = replace(LAYERS["elementwise"], **{field: Function.ABS if field == "function" else Combine.SMALLEST})
    words = np.frombuffer(_program(layer), np.uint32).copy()
    last = {"function": Function.ABS, "combine": Combine.SMALLEST}[field]
    # The layer's words after kind, target, and two sources: combination, bounds, function.
    begin = 5 + 3 * 4 + (3 + 2) + (3 + 1) + 5
    place = begin + (0 if field == "combine" else 3)
    assert words[place] == last
    words[place] = last + 1
    with pytest.raises(InputError, match=f"a {'function' if field == 'function' else 'combination'} is {last + 1}"):
        Core(words.tobytes(), "auto", 1)


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_an_error_or_another_network_but_never_a_crash(name, data):
    words = np.frombuffer(_program(LAYERS[name]), np.uint32).copy()
    for _ in range(data.draw(st.integers(1, 3))):
        # Behind the shapes: a large tensor would only cost time here.
        place = data.draw(st.integers(17, len(words) - 1))
        word = st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 30), st.sampled_from([2**16, 2**28, 2**31]))
        words[place] = data.draw(word)
    try:
        core = Core(words.tobytes(), data.draw(st.sampled_from(["auto", "portable"])), 1)
    except InputError as error:
        assert str(error)
        return
    assert core.run(np.concatenate([IMAGES] * 3), 4).shape == (3, 4)
