from __future__ import annotations

import numpy as np
import pytest

from tests.engines.onnx.differentiable.cases import (
    Case,
    check_gradient,
    check_values,
    examples,
    few_and_many,
    floats,
    some,
    whole,
)


def _matmul(r):
    outer = [r.randint(1, 3) for _ in range(r.randint(0, 2))]
    rows, inner, columns = (r.randint(1, 4) for _ in range(3))
    shapes = r.choice(
        [
            ([*outer, rows, inner], [inner, columns]),
            ([*outer, rows, inner], [*outer, inner, columns]),
            ([rows, inner], [*outer, inner, columns]),
            ([inner], [*outer, inner, columns]),
            ([*outer, rows, inner], [inner]),
        ]
    )
    if r.random() < 0.2:
        return Case("MatMul", [whole(r, *shape, dtype=np.int32) for shape in shapes], live=r.choice([(0,), (0, 1)]))
    return Case("MatMul", [floats(r, *shape) for shape in shapes], opset=r.choice([9, 13]), live=(0, 1))


def _gemm(r):
    rows, inner, columns = (r.randint(1, 4) for _ in range(3))
    attributes = some(r, alpha=0.5, beta=r.choice([0.0, 0.25]), transA=r.choice([0, 1]), transB=r.choice([0, 1]))
    a = [inner, rows] if attributes.get("transA") else [rows, inner]
    b = [columns, inner] if attributes.get("transB") else [inner, columns]
    c = r.choice([None, [columns], [rows, columns], [rows, 1], [1], [1, columns], []])
    opset = 9 if c is not None and r.random() < 0.5 else 13
    operands = [floats(r, *a), floats(r, *b), *([] if c is None else [floats(r, *c)])]
    return Case("Gemm", operands, attributes, opset, live=(0, 1, 2))


EQUATIONS = {
    "ij,jk->ik": ([2, 3], [3, 4]),
    "bij, bjk -> bik": ([2, 2, 3], [2, 3, 4]),
    "...ij,...jk->...ik": ([2, 2, 3], [2, 3, 4]),
    "bhwc,hkc->bhwk": ([2, 3, 2, 4], [3, 5, 4]),
    "ii->i": ([3, 3],),
    "ii": ([3, 3],),
    "ij->ji": ([2, 3],),
    "ij->": ([2, 3],),
    "i,j->ij": ([2], [3]),
    "bn,anm,bm->ba": ([2, 3], [4, 3, 2], [2, 2]),
    "b...,b...->b...": ([2, 3, 2], [2, 3, 2]),
    "ab,cd,ef->fb": ([2, 3], [2, 2], [1, 2]),
}


def _einsum(r):
    equation = r.choice(sorted(EQUATIONS))
    shapes = EQUATIONS[equation]
    return Case("Einsum", [floats(r, *s) for s in shapes], {"equation": equation}, 12, live=tuple(range(len(shapes))))


def _attention(r):
    batch, groups, kv_heads = r.randint(1, 2), r.choice([1, 2]), r.randint(1, 2)
    rows, columns, size, out = (r.randint(1, 4) for _ in range(4))
    attributes = some(r, scale=0.3, is_causal=r.choice([0, 1]))
    if r.random() < 0.5:
        operands = [
            floats(r, batch, kv_heads * groups, rows, size),
            floats(r, batch, kv_heads, columns, size),
            floats(r, batch, kv_heads, columns, out),
        ]
    else:
        attributes |= {"q_num_heads": kv_heads * groups, "kv_num_heads": kv_heads}
        operands = [
            floats(r, batch, rows, kv_heads * groups * size),
            floats(r, batch, columns, kv_heads * size),
            floats(r, batch, columns, kv_heads * out),
        ]
    mask = r.choice(["none", "bool", "float"])
    if mask != "none":
        shape = r.choice([[rows, columns], [batch, 1, rows, columns], [batch, kv_heads * groups, rows, columns]])
        allowed = whole(r, *shape, low=0, high=1).astype(bool)
        # A row without anything to attend to is not a number in some versions.
        allowed[..., 0] = True
        operands.append(allowed if mask == "bool" else floats(r, *shape))
    if r.random() < 0.2:
        attributes["softcap"] = 2.0
    return Case("Attention", operands, attributes, r.choice([23, 24]), live=(0, 1, 2))


CASES = {"Attention": _attention, "Einsum": _einsum, "Gemm": _gemm, "MatMul": _matmul}


@few_and_many(4, 30)
@pytest.mark.parametrize("op", CASES)
def test_values_are_those_of_onnxruntime(op, count):
    examples(CASES[op], check_values, count)


@few_and_many(1, 20)
@pytest.mark.parametrize("op", CASES)
def test_gradients_are_those_of_finite_differences(op, count):
    def check(case):
        if case.inputs[0].dtype == np.float32:
            check_gradient(case)

    examples(CASES[op], check, count)
