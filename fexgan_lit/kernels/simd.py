"""Vectors of sixteen lanes for loops that numba compiles.

numba does not vectorise a loop over more than a few arrays, since any of them might overlap. These types are LLVM
vectors, which map to the registers of the processor: sixteen pairs of bf16 (`pairs`), or sixteen float32 (`lanes`), the
lower or upper half of every pair. Operations are neither contracted nor reordered: each one rounds once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload, register_model

#: Number of uint32 or float32 in a vector; loop lengths n must be a multiple of it.
LANES = 16
_FLOATS, _BITS = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.IntType(32), LANES)
_HIGH, _HALF = 0xFFFF0000, 0x7FFF


class _Vector(types.Type):
    """Type of a vector in compiled code."""


class _Pairs(_Vector):
    """Sixteen pairs of bf16, as uint32."""


class _Lanes(_Vector):
    """Sixteen float32."""


@register_model(_Pairs)
class _PairsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _BITS)


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


pairs, lanes = _Pairs("pairs"), _Lanes("lanes")


def _operation(result: Any, arguments: tuple[Any, ...], emit: Callable[..., Any]) -> Any:
    """Return a function for compiled code; `emit` gets the builder and the values, with arrays as pointers to data."""

    def body(typing: Any, *given: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            plain = [
                context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
                for kind, value in zip(signature.args, values, strict=True)
            ]
            made = emit(builder, *plain)
            return context.get_dummy_value() if result is types.void else made

        return result(*arguments), generate

    with_arguments = {  # numba requires the exact number of arguments
        1: lambda typing, a: body(typing, a),
        2: lambda typing, a, b: body(typing, a, b),
        3: lambda typing, a, b, c: body(typing, a, b, c),
        4: lambda typing, a, b, c, d: body(typing, a, b, c, d),
    }
    return intrinsic(with_arguments[len(arguments)])


# ---------------------------------------------------------------------- LLVM


def _constant(value: int) -> Any:
    return ir.Constant(_BITS, [value] * LANES)


def _load(builder: Any, data: Any, index: Any, kind: Any = _BITS) -> Any:
    vector = builder.load(builder.bitcast(builder.gep(data, [index]), kind.as_pointer()))
    vector.align = 4
    return vector


def _store(builder: Any, vector: Any, data: Any, index: Any) -> None:
    stored = builder.store(vector, builder.bitcast(builder.gep(data, [index]), vector.type.as_pointer()))
    stored.align = 4


def _broadcast(builder: Any, scalar: Any, kind: Any) -> Any:
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), _constant(0))


def _low(builder: Any, bits: Any) -> Any:
    return builder.bitcast(builder.shl(bits, _constant(16)), _FLOATS)


def _high(builder: Any, bits: Any) -> Any:
    return builder.bitcast(builder.and_(bits, _constant(_HIGH)), _FLOATS)


def _rounded(builder: Any, floats: Any) -> Any:
    """Return bits whose upper half is the value in bf16, rounded to nearest even as in torch."""
    bits = builder.bitcast(floats, _BITS)
    odd = builder.and_(builder.lshr(bits, _constant(16)), _constant(1))
    return builder.add(bits, builder.add(odd, _constant(_HALF)))


def _packed(builder: Any, low: Any, high: Any) -> Any:
    lower = builder.lshr(_rounded(builder, low), _constant(16))
    return builder.or_(lower, builder.and_(_rounded(builder, high), _constant(_HIGH)))


def _in_pairs(name: str) -> Callable[[Any, Any, Any], Any]:
    def emit(builder: Any, a: Any, b: Any) -> Any:
        low, high = (getattr(builder, name)(half(builder, a), half(builder, b)) for half in (_low, _high))
        return _packed(builder, low, high)

    return emit


def _shuffled(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(_BITS, order))


def _take_floats(builder: Any, data: Any, index: Any) -> Any:
    later = builder.add(index, ir.Constant(index.type, LANES))
    first, second = _load(builder, data, index, _FLOATS), _load(builder, data, later, _FLOATS)
    even, odd = (_shuffled(builder, first, second, list(range(start, 2 * LANES, 2))) for start in (0, 1))
    return _packed(builder, even, odd)


def _store_in_turn(builder: Any, low: Any, high: Any, data: Any, index: Any) -> None:
    order = [lane for i in range(LANES) for lane in (i, LANES + i)]
    later = builder.add(index, ir.Constant(index.type, LANES))
    _store(builder, _shuffled(builder, low, high, order[:LANES]), data, index)
    _store(builder, _shuffled(builder, low, high, order[LANES:]), data, later)


def _where_positive(builder: Any, z: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", z, ir.Constant(_FLOATS, [0.0] * LANES)), a, b)


# ---------------------------------------------------------------------- operations for loops

_UINTS, _FLOAT_ARRAY, _INDEX = types.uint32[::1], types.float32[::1], types.int64

#: take(array, index) and put(vector, array, index): access to uint32.
take = _operation(pairs, (_UINTS, _INDEX), _load)
put = _operation(types.void, (pairs, _UINTS, _INDEX), _store)
#: take_masked(array, index, mask): each uint32 of the vector AND the mask.
take_masked = _operation(
    pairs, (_UINTS, _INDEX, types.uint32),
    lambda builder, data, index, mask: builder.and_(_load(builder, data, index), _broadcast(builder, mask, _BITS)),
)  # fmt: skip
#: take_floats(array, index): 32 float32, rounded to bf16.
take_floats = _operation(pairs, (_FLOAT_ARRAY, _INDEX), _take_floats)
#: either(condition, a, b)
either = _operation(pairs, (types.boolean, pairs, pairs), lambda builder, which, a, b: builder.select(which, a, b))
#: low(pairs), high(pairs), and packed(low, high), which rounds.
low, high = _operation(lanes, (pairs,), _low), _operation(lanes, (pairs,), _high)
packed = _operation(pairs, (lanes, lanes), _packed)
#: load(array, index) and store(lanes, array, index): float32; store_in_turn(low, high, array, index): 32 of them.
load = _operation(lanes, (_FLOAT_ARRAY, _INDEX), lambda builder, data, index: _load(builder, data, index, _FLOATS))
store = _operation(types.void, (lanes, _FLOAT_ARRAY, _INDEX), _store)
store_in_turn = _operation(types.void, (lanes, lanes, _FLOAT_ARRAY, _INDEX), _store_in_turn)
#: full(scalar); where_positive(z, a, b): a where z > 0, else b.
full = _operation(lanes, (types.float32,), lambda builder, value: _broadcast(builder, value, _FLOATS))
where_positive = _operation(lanes, (lanes, lanes, lanes), _where_positive)


def _operator(symbol: Any, in_lanes: str) -> None:
    """Define `a + b` for vectors in compiled code: pairs in bf16, lanes in float32."""
    of_pairs = _operation(pairs, (pairs, pairs), _in_pairs(in_lanes))
    of_lanes = _operation(lanes, (lanes, lanes), lambda builder, a, b: getattr(builder, in_lanes)(a, b))

    @overload(symbol)
    def choose(a, b):  # noqa: ANN001, ANN202  # numba would compare annotations, too
        if isinstance(a, _Pairs) and isinstance(b, _Pairs):
            return lambda a, b: of_pairs(a, b)
        if isinstance(a, _Lanes) and isinstance(b, _Lanes):
            return lambda a, b: of_lanes(a, b)
        return None


for _symbol, _name in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _operator(_symbol, _name)
