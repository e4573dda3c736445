"""Reads a pickle as data: what it would call or build is written down, and nothing is called or built.

A pickle is a program, and `pickle.Unpickler` runs it. Restricting the globals that it finds is not enough: REDUCE
calls, NEWOBJ creates, and BUILD changes whatever lies on the stack, the permitted functions and classes included.
`torch.load(weights_only=True)` refuses a whole file for one `argparse.Namespace` or NumPy scalar beside the weights,
and allocates the sizes that a file declares. So this module has its own interpreter of the opcodes that `pickletools`
parses. It knows dicts, lists, tuples and plain values. Everything else becomes a `Global` (a name, which is not looked
up) or a `Built` (what would have been called with which arguments). There is no callable for a hostile pickle to reach.

Memory and time are proportional to the number of opcodes, which is bounded. Keys of dicts are text, because the hash of
a deeply nested tuple overflows the stack, and numbers can be chosen to collide.
"""

from __future__ import annotations

import pickletools
import warnings
from dataclasses import dataclass
from typing import Any, BinaryIO

# A ResNet-50 with its optimizer takes about 10,000.
_MAX_OPCODES = 1 << 21
_MAX_MEMO = 1 << 32
_MAX_NAME = 1000
_IGNORED = frozenset({"PROTO", "FRAME"})
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_SIZED_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_DICTS = frozenset(
    {
        "collections.OrderedDict",
        "collections.defaultdict",
        "collections.Counter",
        "builtins.dict",
        "__builtin__.dict",
    }
)


class PickleError(ValueError):
    """The bytes are not a pickle, or one that no one has a reason to write."""


@dataclass(frozen=True, slots=True)
class Global:
    """A class or function that a pickle names; it is not imported.

    Attributes:
        path: Its module and name, joined by a dot.
    """

    path: str


@dataclass(slots=True, eq=False)
class Built:
    """An object that a pickle would create; it is not created.

    Attributes:
        callee: What would be called: a `Global`, unless the pickle is damaged or hostile.
        args: With these arguments.
        state: What its `__setstate__` or `__dict__` would be given.
        items: What it would be given as a dict; None if nothing.
    """

    callee: Any
    args: tuple[Any, ...]
    state: Any = None
    items: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Persistent:
    """A reference to something outside of the pickle; PyTorch's are to the bytes of tensors."""

    id: Any


def read_pickle(stream: BinaryIO, persistent: list[Persistent] | None = None) -> Any:
    """Reads one pickle of any protocol; the stream is then behind it.

    Args:
        stream: Where the pickle begins.
        persistent: All references out of the pickle are appended to it.

    Returns:
        None, a bool, number, text or bytes; a list, tuple or dict of such; a `Global`, `Built` or `Persistent`. In a
        dict, integer keys become text, and entries under any other key are left out. Structures may be cyclic.

    Raises:
        PickleError: The pickle is damaged or truncated, has more than two million opcodes, or uses opcodes for
            registered extensions or buffers outside of the file.
        ValueError, LookupError, TypeError, ArithmeticError: Damaged, too.
    """
    machine = _Machine([] if persistent is None else persistent)
    with warnings.catch_warnings():
        # Of invalid escapes in text.
        warnings.simplefilter("ignore")
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count == _MAX_OPCODES:
                msg = f"its pickle has more than {_MAX_OPCODES} opcodes"
                raise PickleError(msg)
            machine.run(opcode.name, argument)
    return machine.stack.pop()


class _Machine:
    """The stack machine of https://docs.python.org/3/library/pickletools.html."""

    def __init__(self, persistent: list[Persistent]) -> None:
        self._persistent = persistent
        self.stack: list[Any] = []
        self._outer: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._entries = 0
        names = [name for name in dir(self) if name.startswith("_op_")]
        self._methods = {name.removeprefix("_op_").upper(): getattr(self, name) for name in names}

    def run(self, name: str, argument: Any) -> None:
        if name in _IGNORED or name == "STOP":
            return
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif method := self._methods.get(name):
            method(argument)
        elif name in _SIZED_TUPLES:
            self.stack.append(self._last(_SIZED_TUPLES[name]))
        elif name.endswith("PUT") or name == "MEMOIZE":
            self._remember(len(self._memo) if argument is None else argument)
        elif name.endswith("GET"):
            self.stack.append(self._memo[argument])
        elif name.startswith(("BIN", "SHORT_BIN", "LONG", "INT", "FLOAT", "STRING", "UNICODE", "BYTEARRAY")):
            self.stack.append(argument)
        else:
            msg = f"its pickle uses the opcode {name}"
            raise PickleError(msg)

    def _last(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            msg = "its pickle takes more from the stack than there is"
            raise PickleError(msg)
        taken = tuple(self.stack[-count:])
        del self.stack[-count:]
        return taken

    def _since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self._outer.pop()
        return items

    def _remember(self, place: int) -> None:
        if not 0 <= place < _MAX_MEMO:
            msg = f"its pickle refers to the memo {place}"
            raise PickleError(msg)
        self._memo[place] = self.stack[-1]

    def _op_mark(self, _: Any) -> None:
        self._outer.append(self.stack)
        self.stack = []

    def _op_pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._since_mark()

    def _op_pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _op_dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _op_empty_list(self, _: Any) -> None:
        self.stack.append([])

    def _op_empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def _op_empty_set(self, _: Any) -> None:
        self.stack.append(Built(Global("builtins.set"), ()))

    def _op_frozenset(self, _: Any) -> None:
        self.stack.append(Built(Global("builtins.frozenset"), (self._since_mark(),)))

    def _op_tuple(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append(tuple(items))

    def _op_list(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append(items)

    def _op_dict(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append({})
        self._set(items)

    def _op_append(self, _: Any) -> None:
        self._add(list(self._last(1)))

    def _op_appends(self, _: Any) -> None:
        self._add(self._since_mark())

    def _op_additems(self, _: Any) -> None:
        self._add(self._since_mark())

    def _op_setitem(self, _: Any) -> None:
        self._set(list(self._last(2)))

    def _op_setitems(self, _: Any) -> None:
        self._set(self._since_mark())

    def _op_global(self, argument: str) -> None:
        self._name(*argument.split(" ", 1))

    def _op_stack_global(self, _: Any) -> None:
        self._name(*self._last(2))

    def _op_inst(self, argument: str) -> None:
        args = self._since_mark()
        self._name(*argument.split(" ", 1))
        self._call(self.stack.pop(), tuple(args))

    def _op_obj(self, _: Any) -> None:
        callee, *args = self._since_mark()
        self.stack.append(Built(callee, tuple(args)))

    def _op_reduce(self, _: Any) -> None:
        self._call(*self._last(2))

    def _op_newobj(self, _: Any) -> None:
        self._call(*self._last(2))

    def _op_newobj_ex(self, _: Any) -> None:
        callee, args, _keywords = self._last(3)
        self._call(callee, args)

    def _op_build(self, _: Any) -> None:
        (state,) = self._last(1)
        target = self.stack[-1]
        if isinstance(target, Built):
            target.state = state
        elif not isinstance(target, dict):
            # The attributes of an OrderedDict are not needed; nothing else has any.
            msg = f"its pickle sets attributes of a {type(target).__name__}"
            raise PickleError(msg)

    def _op_persid(self, argument: str) -> None:
        self._refer(argument)

    def _op_binpersid(self, _: Any) -> None:
        self._refer(*self._last(1))

    def _refer(self, id: Any) -> None:
        self._persistent.append(Persistent(id))
        self.stack.append(self._persistent[-1])

    def _name(self, module: Any, name: Any) -> None:
        # The length is bounded because the parts of a name may be repeated from the memo.
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > _MAX_NAME:
            msg = f"its pickle names a global by something other than text of at most {_MAX_NAME} characters"
            raise PickleError(msg)
        self.stack.append(Global(f"{module}.{name}"))

    def _call(self, callee: Any, args: Any) -> None:
        if not isinstance(args, tuple):
            msg = "its pickle calls something without a tuple of arguments"
            raise PickleError(msg)
        if not isinstance(callee, Global) or callee.path not in _DICTS:
            self.stack.append(Built(callee, args))
            return
        self.stack.append({})
        # As Python 2 wrote an OrderedDict.
        if callee.path == "collections.OrderedDict" and args and isinstance(args[0], list):
            self._set([part for pair in args[0] if isinstance(pair, list | tuple) for part in pair[:2]])

    def _add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Built):
            msg = f"its pickle appends to a {type(target).__name__}"
            raise PickleError(msg)

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Built):
            target.items = target.items or {}
            target = target.items
        if not isinstance(target, dict) or len(items) % 2:
            msg = f"its pickle sets items of a {type(target).__name__}"
            raise PickleError(msg)
        # Only a list of pairs that is repeated from the memo has more entries than there are opcodes.
        self._entries += len(items)
        if self._entries > 2 * _MAX_OPCODES:
            msg = f"its pickle has more than {_MAX_OPCODES} entries"
            raise PickleError(msg)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, str):
                target[key] = value
            elif type(key) is int and abs(key) < 1 << 63:
                target[str(key)] = value
