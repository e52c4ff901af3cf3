"""Finds out whether imports give a seed to the shared generators of random numbers.

With a seed, the numbers of the program are determined.  A restored process must then continue
the sequence.
"""

import sys

from cds.image import startup

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from typing import Any

# A Mersenne twister makes this many numbers at once, of 32 bits each.
_NUMBERS = 624
# Without a seed, imports let a generator make new numbers at most this often.
_MOST_ROUNDS = 1000


def _of_random(random: "dict[str, Any]") -> "tuple[Any, Callable[[], Any]]":
    clone = random["Random"]()
    clone.setstate(random["getstate"]())

    def advance() -> "Any":
        clone.getrandbits(32 * _NUMBERS)
        return clone.getstate()[1][:_NUMBERS]

    return random["getstate"]()[1][:_NUMBERS], advance


def _of_numpy(mtrand: "dict[str, Any]") -> "tuple[Any, Callable[[], Any]]":
    clone = mtrand["RandomState"]()
    clone.set_state(mtrand["get_state"]())

    def advance() -> "Any":
        clone.bytes(4 * _NUMBERS)
        return bytes(clone.get_state()[1])

    return bytes(mtrand["get_state"]()[1]), advance


# For each module name, a function that takes the variables of the module.  It returns the current
# numbers of the generator, and a function that returns the next numbers of a copy.  The module
# itself is not asked: it may be a lazy module, which loads when it is asked for an attribute.
_GENERATORS = {"random": _of_random, "numpy.random.mtrand": _of_numpy}


def loaded() -> list[str]:
    """Return the names of modules with such a generator that are loaded now."""
    return [name for name in _GENERATORS if name in sys.modules]


class Watch:
    """Looks at each generator after its module was loaded, and at the end."""

    def __init__(self) -> None:
        self._first: "dict[str, tuple[Any, Callable[[], Any]]]" = {}
        # The complete first states.
        self._states: "dict[str, Any]" = {}
        self._seeded: set[str] = set()
        self.look()

    def look(self) -> None:
        """Note the states of generators whose modules were loaded since the last call."""
        for name in _GENERATORS:
            if name not in self._first and name in sys.modules:
                self._note(name)

    def _note(self, name: str) -> None:
        try:
            self._first[name] = _GENERATORS[name](_variables(name))
            self._states[name] = _state(name)
        except (AttributeError, KeyError, TypeError, ValueError):
            # Another module has this name, or another generator, or the import is not complete.
            self._first.pop(name, None)

    def seeded(self) -> list[str]:
        """Return the names of modules whose generators have a seed."""
        for name in self._changed():
            if name not in self._seeded and _is_seeded(name, *self._first[name]):
                self._seeded.add(name)
        return [*self._seeded]

    def are_used(self) -> bool:
        """Return whether numbers were taken from a generator without a seed."""
        changed = self._changed()
        return not self._seeded.issuperset(changed) and not changed.issubset(self.seeded())

    def begin_anew(self) -> None:
        """Note the states of generators without a seed again, as if they were new."""
        for name in self._changed().difference(self._seeded):
            self._note(name)

    def _changed(self) -> set[str]:
        return {name for name, state in self._states.items() if _state_now(name) != state}


class FindingWatch(Watch):
    """A watch that notes the state of a generator directly after the import of its module."""

    def __init__(self) -> None:
        super().__init__()
        sys.meta_path.insert(0, self)

    def end(self) -> None:
        """Stop watching."""
        sys.meta_path.remove(self)

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "ModuleSpec | None":
        if name not in _GENERATORS:
            return None
        finders = [finder for finder in sys.meta_path if finder is not self]
        specs = (finder.find_spec(name, path, target) for finder in finders)
        spec = next((spec for spec in specs if spec is not None), None)
        loader: "Any" = getattr(spec, "loader", None)
        if loader is None:
            return spec
        exec_module = loader.exec_module

        def exec_and_note(module: object) -> None:
            del loader.exec_module
            exec_module(module)
            self._note(name)

        try:
            loader.exec_module = exec_and_note
        except AttributeError:
            # This loader does not allow the attribute.
            pass
        return spec


def _state_now(name: str) -> "Any":
    try:
        return _state(name)
    except (AttributeError, KeyError, TypeError, ValueError):
        # The module now has another generator.
        return None


def _state(name: str) -> "Any":
    variables = _variables(name)
    if name == "random":
        return variables["getstate"]()
    _, key, position, *rest = variables["get_state"]()
    return bytes(key), position, rest


def _variables(name: str) -> "dict[str, Any]":
    return startup.variables_of(sys.modules.get(name))


def _is_seeded(name: str, made: "Any", advance: "Callable[[], Any]") -> bool:
    if name not in sys.modules:
        return False
    try:
        last, _ = _GENERATORS[name](_variables(name))
    except (AttributeError, KeyError, TypeError, ValueError):
        # The module now has another generator.
        return True
    for _ in range(_MOST_ROUNDS):
        if made == last:
            return False
        made = advance()
    return True
