"""Import modules, and write down the objects and the memory of the process.

`compare.py` runs this in processes that must differ only in the answers that these modules get.
So the code here uses the same memory in each process.
"""

import gc
import importlib._bootstrap_external as loaders
import marshal
import os
import sys
import types

from cds.image import startup

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# Stages, which `other_run.c` gets. The number of the first module is the next one.
_NO_STAGE, _BETWEEN_MODULES, _RENEWAL = range(3)

# So many calls use more of the stack of frames than imports.
_FRAMES = 300

# The size of the blocks in which memory is copied.
_CHUNK = 1 << 20

_ATOMS = (bool, int, float, complex, str, bytes, bytearray, range, type(None), type(...))
_ATOM_IDS = frozenset(map(id, _ATOMS))
_SHOWN = 120
_HEAP_TYPE = 1 << 9

# Modules with classes that are made at run time, and whose state is in C code.
_TOLD_BY_REPR = ("_decimal", "_struct", "array", "datetime", "decimal", "itertools", "zoneinfo")

_NOT_WALKED = (types.CodeType, types.FrameType, types.BuiltinFunctionType)


def main() -> None:
    directory, *modules = sys.argv[1:]
    with open(f"{directory}/task", encoding="utf-8") as file:
        task = file.read()
    numbers: dict[str, int] = {}
    failures = []
    if task != "looks":
        _watch_modules(numbers)
        startup.keep_process_id()
        _enter(_BETWEEN_MODULES)
    for name in modules:
        try:
            __import__(name)
        except (Exception, SystemExit) as error:  # noqa: BLE001
            failures.append(f"{name}: {type(error).__name__}: {error}")
    if task == "looks":
        # The tracer stops observing this process when it opens the file.
        open(f"{directory}/record", "rb").close()
    elif task == "renew":
        startup.begins_with()
        _enter(_RENEWAL)
        _renew()
    files = {
        path: name
        for name, module in reversed(sys.modules.items())
        if isinstance(path := _namespace(module).get("__file__"), str)
    }
    lines: list[tuple[str, str]] = []
    places: list[tuple[int, int]] = []
    if task != "looks":
        _enter(_NO_STAGE)
        # The collection frees the objects in free lists, and freed memory is cleared.
        gc.collect()
        _overwrite_frames(_FRAMES)
        _write_memory(directory)
        lines, places = _objects()
    with open(f"{directory}/told", "wb") as told:
        marshal.dump((failures, files, numbers, lines, places), told)
    # No module may run code at the end of the process.
    os._exit(0)


def _enter(stage: int) -> None:
    os.getsid(-1 - stage)


def _watch_modules(numbers: dict[str, int]) -> None:
    """Number the modules when they are imported. Each is a stage while no inner import runs."""
    outer = [_BETWEEN_MODULES]
    plain = loaders._LoaderBasics.exec_module  # type: ignore[attr-defined]

    def exec_module(self: "Any", module: types.ModuleType) -> None:
        stage = len(numbers) + _RENEWAL + 1
        numbers[module.__name__] = stage
        outer.append(stage)
        _enter(stage)
        try:
            plain(self, module)
        finally:
            outer.pop()
            _enter(outer[-1])

    loaders._LoaderBasics.exec_module = exec_module  # type: ignore[attr-defined]


def _renew() -> None:
    """Renew the values that a restored process renews."""
    modules: dict[str, Any] = sys.modules
    if random := modules.get("random"):
        random._inst.seed()
    if threading := modules.get("threading"):
        threading._after_fork()
    startup._renew_memories()
    startup._renew_secrets()


def _overwrite_frames(depth: int) -> None:
    """Overwrite what ended frames have left in memory."""
    _a = _b = _c = _d = _e = _f = _g = _h = _i = _j = _k = _l = _m = _n = _o = _p = None
    if depth > 0:
        _overwrite_frames(depth - 1)


def _write_memory(directory: str) -> None:
    """Copy all writable memory of the process, except its stack."""
    with open("/proc/self/maps", encoding="utf-8") as file:
        mappings = file.read().splitlines()
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    copy = os.open(f"{directory}/memory", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with open(f"{directory}/maps", "w", encoding="utf-8") as file:
        for mapping in mappings:
            addresses, access, _, _, _, *name = mapping.split(None, 5)
            if not access.startswith("rw") or name == ["[stack]"]:
                is_copied = False
            else:
                start, end = (int(address, 16) for address in addresses.split("-"))
                is_copied = _copy(memory, copy, start, end)
            file.write(f"{'+' if is_copied else '-'} {mapping}\n")


def _copy(memory: int, copy: int, start: int, end: int) -> bool:
    for place in range(start, end, _CHUNK):
        length = min(_CHUNK, end - place)
        try:
            chunk = os.pread(memory, length, place)
        except OSError:
            # The page is beyond the end of a file, or of a device.
            chunk = bytes(length)
        os.write(copy, chunk)
    return True


def _objects() -> "tuple[list[tuple[str, str]], list[tuple[int, int]]]":
    """Return the path, text, address and size of each object that can be reached.

    Objects get the shortest path.  The modules that were loaded last come first: an object is then
    named by the module that has made it, and not by a module that has imported it.
    """
    seen = {id(vars(sys.modules["__main__"])), id(sys.modules["__main__"]), id(sys.modules)}
    # Keep objects made here alive: otherwise, other objects could get the same ids.
    kept: list[Any] = []
    lines = []
    places = []
    gc.disable()
    level: list[tuple[str, Any]] = [
        (name, module)
        for name, module in reversed([*sys.modules.items()])
        if name != "__main__" and _is(module, types.ModuleType)
    ]
    while level:
        following = []
        for path, found in level:
            if _is_atom(found):
                lines.append((path, _text(found)))
                places.append((id(found), sys.getsizeof(found)))
                continue
            if id(found) in seen:
                continue
            seen.add(id(found))
            kept.append(found)
            lines.append((path, _state(found)))
            places.append((id(found), object.__sizeof__(found)))
            for step, part in _parts(found):
                kept.append(part)
                following.append((path + step, part))
        level = following
    return lines, places


def _text(atom: "Any") -> str:
    return _shortened(repr(atom))


def _shortened(text: str) -> str:
    text, *others = text.split(" at 0x")
    # Addresses are removed, because they differ between runs.
    text += "".join(f" at …{other.lstrip('0123456789abcdef')}" for other in others)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… (hash {hash(text):x})"


def _is(found: "Any", *kinds: type) -> bool:
    """Return whether an object's type is one of these classes. Its `__class__` may be false."""
    return issubclass(type(found), kinds)


def _is_atom(found: "Any") -> bool:
    return id(type(found)) in _ATOM_IDS


def _namespace(found: "Any") -> "dict[str, Any]":
    try:
        namespace = object.__getattribute__(found, "__dict__")
    except AttributeError:
        return {}
    return namespace if _is(namespace, dict) else {}


def _state(found: "Any") -> str:
    """Return the class of an object, and its state if C code has the state."""
    kind = type(found)
    name = f"<{kind.__module__}.{kind.__qualname__}>"
    try:
        state = _state_in_c(kind, found)
    except Exception as error:  # noqa: BLE001
        return f"{name} ({type(error).__name__})"
    return name if state is None else f"{name} {state}"


def _state_in_c(kind: type, found: "Any") -> str | None:
    if issubclass(kind, _ATOMS):
        atom: Any = next(atom for atom in _ATOMS if issubclass(kind, atom))
        return _shortened(atom.__repr__(found))
    if (random := sys.modules.get("random")) and issubclass(kind, random.Random):
        return _text(found.getstate())
    if kind.__module__.startswith("numpy.random") and "state" in dir(kind):
        return _text(found.state)
    if (kind.__module__, kind.__name__) == ("numpy", "ndarray"):
        return _text(found.tobytes())
    # The state that Python code has added is in the parts of the object.
    base: Any = next(base for base in kind.__mro__ if _is_of_c(base))
    is_told = base.__module__ in _TOLD_BY_REPR
    if base.__repr__ is object.__repr__ or not (is_told or _has_no_parts(found)):
        return None
    return _shortened(base.__repr__(found))


def _is_of_c(kind: type) -> bool:
    return not kind.__flags__ & _HEAP_TYPE or kind.__module__ in _TOLD_BY_REPR


def _has_no_parts(found: "Any") -> bool:
    known = (type(found), _namespace(found))
    return not any(all(part is not one for one in known) for part in gc.get_referents(found))


def _parts(found: "Any") -> "Iterator[tuple[str, Any]]":
    """Yield the parts of an object, each with its step of the path."""
    if _is(found, *_NOT_WALKED):
        return
    if _is(found, types.FunctionType):
        yield from _parts_of_function(found)
        return
    if _is(found, type):
        for name, value in [*type.__dict__["__dict__"].__get__(found).items()]:
            if name not in ("__doc__", "__dict__", "__weakref__", "__module__"):
                yield f".{name}", value
        return
    if _is(found, dict):
        yield from _parts_of_dict(found)
    elif _is(found, list, tuple):
        for number, item in enumerate(_iterate(found)):
            yield f"[{number}]", item
    elif _is(found, set, frozenset):
        kind = set if _is(found, set) else frozenset
        number = 0
        for item in [*kind.__iter__(found)]:
            if _is_atom(item):
                yield f"{{{_text(item)}}}", item
            else:
                yield f"{{#{number}}}", item
                number += 1
    else:
        yield from _parts_by_collector(found)
    for name, value in [*_namespace(found).items()]:
        if not (_is(found, types.ModuleType) and name in ("__builtins__", "__doc__")):
            yield f".{name}", value
    yield from _parts_of_slots(found)


def _iterate(found: "Any") -> "Iterator[Any]":
    kind = list if _is(found, list) else tuple
    return iter([*kind.__iter__(found)])


def _parts_of_function(found: types.FunctionType) -> "Iterator[tuple[str, Any]]":
    for number, value in enumerate(found.__defaults__ or ()):
        yield f".__defaults__[{number}]", value
    for name, value in (found.__kwdefaults__ or {}).items():
        yield f".__kwdefaults__[{name!r}]", value
    names = found.__code__.co_freevars
    for name, cell in zip(names, found.__closure__ or (), strict=False):
        yield f".<{name}>", cell
    for name, value in [*found.__dict__.items()]:
        yield f".{name}", value


def _parts_of_dict(found: "dict[Any, Any]") -> "Iterator[tuple[str, Any]]":
    for number, (key, value) in enumerate([*dict.items(found)]):
        if _is_atom(key):
            yield f"[{_text(key)}]", value
        else:
            yield f"[#{number}]", value
            yield f".<key {number}>", key


def _parts_of_slots(found: "Any") -> "Iterator[tuple[str, Any]]":
    for name, slot in _slots(type(found)):
        try:
            yield f".{name}", slot.__get__(found)
        except AttributeError:
            # The slot has no value.
            pass


def _slots(kind: type) -> "list[tuple[str, Any]]":
    slots = _KNOWN_SLOTS.get(id(kind))
    if slots is None:
        slots = _KNOWN_SLOTS[id(kind)] = [
            (name, slot)
            for base in type.__dict__["__mro__"].__get__(kind)
            if base.__flags__ & _HEAP_TYPE
            for name, slot in type.__dict__["__dict__"].__get__(base).items()
            if type(slot) is types.MemberDescriptorType
        ]
    return slots


# By the id of the class.
_KNOWN_SLOTS: "dict[int, list[tuple[str, Any]]]" = {}


def _parts_by_collector(found: "Any") -> "Iterator[tuple[str, Any]]":
    """Yield the objects that C code holds and reports to the garbage collector."""
    namespace = _namespace(found)
    # Parts whose names are known.
    known = {id(namespace), id(type(found)), *map(id, namespace.values())}
    known.update(id(part) for _, part in _parts_of_slots(found))
    for number, part in enumerate(gc.get_referents(found)):
        if id(part) not in known:
            yield f".<{number}>", part


if __name__ == "__main__":
    main()
