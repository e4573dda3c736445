from __future__ import annotations

import argparse
import io
import os
import pickle
import time
from collections import OrderedDict, defaultdict
from contextlib import suppress
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from tscnc_deploy.models.weights.pickles import Built, Global, Persistent, PickleError, read_pickle


def read(data: bytes) -> object:
    return read_pickle(io.BytesIO(data))


PLAIN = {
    "none": None,
    "flags": [True, False],
    "numbers": (0, 255, 65535, -1, 1 << 40, 1 << 300, 0.5),
    "text": "é猫",
    "bytes": b"\x00\xff",
    "nested": {"a": [{}, [], ()], "b": (1, (2, (3, (4, 5))))},
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_themselves_in_every_protocol(protocol):
    # Before protocol 3, bytes are text that a function encodes.
    content = PLAIN if protocol >= 3 else {name: value for name, value in PLAIN.items() if name != "bytes"}
    assert read(pickle.dumps(content, protocol)) == content


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_dicts_of_the_standard_library_are_dicts(protocol):
    for content in (OrderedDict(a=1, b=[2]), defaultdict(list, a=[1])):
        assert read(pickle.dumps(content, protocol)) == dict(content)


def test_an_ordered_dict_of_python_2():
    data = b"ccollections\nOrderedDict\n((lp0\n(lp1\nS'a'\naI1\naa(lp2\nS'b'\naI2\naatR."
    assert read(data) == {"a": 1, "b": 2}


def test_one_object_in_two_places_stays_one():
    shared = [1]
    first, second = read(pickle.dumps((shared, shared)))
    assert first is second


def test_cyclic_structures():
    cyclic: list = []
    cyclic.append(cyclic)
    found = read(pickle.dumps(cyclic))
    assert found[0] is found


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_objects_are_described_and_not_created(protocol):
    found = read(pickle.dumps(argparse.Namespace(lr=0.1), protocol))
    assert isinstance(found, Built)
    assert found.state == {"lr": 0.1}
    named = [found.callee, *found.args]
    assert Global("argparse.Namespace") in named


def test_numpy_values_dates_and_sets_are_described():
    found = read(
        pickle.dumps({"a": np.float64(1), "b": np.arange(3), "c": date(2026, 1, 31), "d": {1}, "e": Path("x")})
    )
    assert {type(value) for value in found.values()} == {Built}
    assert found["c"].callee == Global("datetime.date")


def test_only_text_and_numbers_are_keys():
    assert read(pickle.dumps({"a": 1, 2: 3, (4, 5): 6, 0.5: 7, None: 8})) == {"a": 1, "2": 3}


def test_references_out_of_the_pickle_are_collected():
    data = b"\x80\x02(U\x07storageK\x05tQ."
    references: list[Persistent] = []
    assert read_pickle(io.BytesIO(data), references) == Persistent(("storage", 5))
    assert references == [Persistent(("storage", 5))]


def test_the_stream_is_behind_the_pickle():
    stream = io.BytesIO(pickle.dumps([1]) + pickle.dumps([2]) + b"rest")
    assert (read_pickle(stream), read_pickle(stream), stream.read()) == ([1], [2], b"rest")


def hostile(tmp_path: Path) -> dict[str, bytes]:
    """Pickles that touch a file when they are loaded."""
    trace = str(tmp_path / "was-run").encode()
    command = b"touch " + trace
    quoted = b"'" + command + b"'"
    return {
        "reduce": b"cos\nsystem\n(S" + quoted + b"\ntR.",
        "inst": b"(S" + quoted + b"\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS" + quoted + b"\no.",
        "newobj": b"\x80\x02csubprocess\nPopen\n((S'touch'\nS'" + trace + b"'\nlt\x81.",
        "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93(S" + quoted + b"\ntR.",
        "getattr": b"c__builtin__\ngetattr\n(c__builtin__\n__import__\n(S'os'\ntRS'system'\ntR(S" + quoted + b"\ntR.",
        "eval": b"cbuiltins\neval\n(S'open(\"" + trace + b'", "w")\'\ntR.',
        "build": b"\x80\x02cbuiltins\nobject\n)\x81}S'__reduce__'\ncos\nsystem\nsb.",
        "as a tensor": b"ctorch._utils\n_rebuild_tensor_v2\n(cos\nsystem\n(S" + quoted + b"\ntRI0\n(I1\nt(I1\nttR.",
        "setstate": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}S'__call__'\ncos\nsystem\nsb.",
        "extension": b"\x80\x02\x82\x01.",
    }


def test_hostile_pickles_have_no_effect(tmp_path):
    for data in hostile(tmp_path).values():
        try:
            found = read(data)
        except PickleError:
            continue
        assert isinstance(found, Built)
    assert list(tmp_path.iterdir()) == []
    # To pickle they are what they seem.
    assert pickle.loads(hostile(tmp_path)["reduce"]) == 0
    assert (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"]" + b"}a" * (1 << 20) + b".", "more than 2097152 opcodes", marks=pytest.mark.slow),
        (b"(l000.", "pop from empty list"),
        (b"\x80\x02cos\nsystem\n}b.", "sets attributes of a Global"),
        (b"\x80\x02]K\x01K\x02s.", "sets items of a list"),
        (b"\x80\x02}K\x01a.", "appends to a dict"),
        (b"\x80\x02K\x01\x87.", "more from the stack than there is"),
        (b"\x80\x02cos\nsystem\nK\x01R.", "without a tuple of arguments"),
        (b"\x80\x04\x8c\x02osK\x01\x93.", "names a global by something other than text"),
        (b"\x80\x04X\x00\x10\x00\x00" + b"a" * 4096 + b"\x8c\x01b\x93.", "text of at most 1000 characters"),
        (b"\x80\x05\x97.", "uses the opcode NEXT_BUFFER"),
        (b"\x80\x02K\x01p99999999999\n.", "refers to the memo 99999999999"),
    ],
)
def test_pickles_that_no_one_has_a_reason_to_write(data, message):
    with pytest.raises((PickleError, IndexError), match=message):
        read(data)


def test_deep_nesting_neither_overflows_the_stack_nor_hashes():
    deep = b")" + b"\x85" * 200_000
    assert read(b"\x80\x02}" + deep + b"K\x01s.") == {}
    assert isinstance(read(b"\x80\x02" + deep + b"."), tuple)


def test_repeated_lists_take_no_quadratic_time():
    start = time.process_time()
    # 3,000 times an OrderedDict of the same 3,000 pairs.
    pairs = b"(l" + b"(S'a'\nI1\nla" * 3000 + b"q\x000"
    calls = b"ccollections\nOrderedDict\nh\x00\x85R0" * 3000
    with pytest.raises(PickleError, match="more than 2097152 entries"):
        read(pairs + calls + b"N.")
    assert time.process_time() - start < 30


def test_damaged_pickles_end_in_one_of_few_errors():
    whole = pickle.dumps({"a": [argparse.Namespace(x=np.float64(1))], "b": OrderedDict(c=(1, 2.5, "x"))}, 2)
    generator = np.random.default_rng(0)
    damaged = [whole[:end] for end in range(len(whole))]
    for _ in range(3000):
        changed = bytearray(whole)
        for place in generator.integers(0, len(whole), 3):
            changed[place] = generator.integers(0, 256)
        damaged.append(bytes(changed))
    for data in damaged:
        with suppress(ValueError, LookupError, TypeError, ArithmeticError):
            read(data)


def test_nothing_is_imported(tmp_path, monkeypatch):
    (tmp_path / "surprise.py").write_text(f"open({os.fspath(tmp_path / 'was-run')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    assert read(b"csurprise\nThing\n.") == Global("surprise.Thing")
    assert not (tmp_path / "was-run").exists()
