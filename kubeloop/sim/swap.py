"""Has a builtin function call something else, whoever holds it and however it was imported.

`from time import monotonic` copies a reference: to set `time.monotonic` does not reach it. But all
references lead to one object, which holds a C function and its first argument. Here both are
exchanged: the C function for one of the interpreter's own that calls its first argument, the first
argument for the Python function to be called. So arguments, results and exceptions pass as ever,
and no C code of ours is needed. Class methods of C types (`datetime.now`) are exchanged in the
type's own dictionary.

Why not a library: freezegun exchanges `datetime` for a class of its own and looks through all
modules each time. time-machine 3 works like this module, in C, but leaves `monotonic`, `sleep` and
`urandom` alone, which need all of this anyway; and it shows its time to every thread.

CPython only. Where an object does not look as expected it is refused, not touched.
Source: CPython's Include/methodobject.h, Include/cpython/methodobject.h.
"""

import ctypes
import gc
from collections.abc import Callable
from types import BuiltinFunctionType
from typing import Any, Final, Protocol

_NAME: Final = ctypes.sizeof(ctypes.c_void_p)
_CALLERS: Final = {  # By calling convention: what calls its first argument with the others.
    0x01: "PyObject_CallObject",  # METH_VARARGS: (self, tuple)
    0x04: "PyObject_CallObject",  # METH_NOARGS: (self, NULL)
    0x08: "PyObject_CallOneArg",  # METH_O: (self, argument)
    0x01 | 0x02: "PyObject_Call",  # METH_VARARGS | METH_KEYWORDS: (self, tuple, dict)
    0x80 | 0x02: "PyObject_Vectorcall",  # METH_FASTCALL | METH_KEYWORDS: (self, …, n, names)
}


class _MethodDef(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


Make = Callable[[Callable[..., Any]], Any]
"""(the function as it was) → its stand-in."""


class Swappable(Protocol):
    """Something and its stand-in."""

    def enter(self) -> None:
        """Have the stand-in called."""

    def leave(self) -> None:
        """Have everything as it was."""


class Swap:
    """A builtin function. Raises: TypeError if it cannot be exchanged."""

    def __init__(self, builtin: Any, make: Make) -> None:
        definition = _definition(builtin)
        function = _CALLERS.get(definition.flags)
        if function is None:
            raise TypeError(f"{builtin!r}: its calling convention {definition.flags} is not known")
        self._builtin = builtin  # And so its definition stays where it is.
        copy = _MethodDef(definition.name, definition.function, definition.flags, definition.doc)
        self._stand_in = make(_new_function(ctypes.byref(copy), builtin.__self__, None))
        for kept in (copy, self._stand_in):  # For ever: the new function leads to the one, and
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))  # the builtin will own the other.
        held = ctypes.c_void_p.from_address(id(builtin) + object.__basicsize__ + _NAME)
        called = ctypes.c_void_p.from_address(ctypes.addressof(definition) + _NAME)
        caller = ctypes.cast(getattr(ctypes.pythonapi, function), ctypes.c_void_p)
        self._cells = held, called
        self._ours = id(self._stand_in), caller.value
        self._theirs = held.value, called.value

    def enter(self) -> None:
        """Have the stand-in called."""
        held, called = self._cells
        held.value, called.value = self._ours

    def leave(self) -> None:
        """Have everything as it was."""
        held, called = self._cells
        held.value, called.value = self._theirs


class MethodSwap:
    """A class method of a C type. What was bound before (`now = datetime.now`) is not reached."""

    def __init__(self, type_: type, name: str, make: Make) -> None:
        (self._attributes,) = gc.get_referents(type_.__dict__)
        self._type, self._name = type_, name
        theirs = self._theirs = self._attributes[name]
        self._ours: classmethod[Any, ..., Any] = classmethod(
            make(lambda kind, *args, **options: theirs.__get__(None, kind)(*args, **options))
        )

    def enter(self) -> None:
        """Have the stand-in called."""
        self._set(self._ours)

    def leave(self) -> None:
        """Have everything as it was."""
        self._set(self._theirs)

    def _set(self, value: Any) -> None:
        self._attributes[self._name] = value
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(self._type))


class AttributeSwap:
    """An attribute of a module or of a class."""

    def __init__(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        self._owner, self._name = owner, name
        self._inherited = name not in vars(owner)
        self._theirs = getattr(owner, name)
        self._ours = make(self._theirs)

    def enter(self) -> None:
        """Have the stand-in called."""
        setattr(self._owner, self._name, self._ours)

    def leave(self) -> None:
        """Have everything as it was."""
        if self._inherited:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._theirs)


def exchange(owner: Any, name: str, make: Make) -> Swappable:
    """Return a function of a module or class, and its stand-in; of a builtin, all references."""
    function = getattr(owner, name)
    if isinstance(function, BuiltinFunctionType):
        return Swap(function, make)
    return AttributeSwap(owner, name, make)


def _definition(builtin: Any) -> _MethodDef:
    """Return where a builtin function is defined. Raises: TypeError if it is no such thing."""
    if not isinstance(builtin, BuiltinFunctionType):
        raise TypeError(f"{builtin!r} is not a builtin function")
    place = ctypes.c_void_p.from_address(id(builtin) + object.__basicsize__).value
    held = ctypes.c_void_p.from_address(id(builtin) + object.__basicsize__ + _NAME).value
    if place is None or held != id(builtin.__self__):
        raise TypeError(f"{builtin!r} is not laid out as CPython does")
    definition = _MethodDef.from_address(place)
    if definition.name != builtin.__name__.encode():
        raise TypeError(f"{builtin!r} is not laid out as CPython does")
    return definition


_new_function = ctypes.pythonapi.PyCFunction_NewEx
_new_function.argtypes = (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
_new_function.restype = ctypes.py_object
