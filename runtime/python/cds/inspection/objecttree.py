"""Objects of an archive file as an indented tree."""

import dis
from collections.abc import Iterator
from typing import Any

from cds.inspection.archive import Inspection, walk
from cds.text.terminal import shortened, size

_INDENT = "  "
_VALUE_WIDTH = 60
_MOST_ITEMS = 10
# Keys are addresses, as walk() returns them.
type _Objects = dict[int, dict[str, Any]]

# Fields that the line of a code object already shows.
_TOLD = frozenset({"co_name", "co_qualname", "co_filename"})


class NoSuchObject(Exception):
    """The archive has no object with this name or at this address."""


def tree(archive: Inspection, what: str, depth: int) -> Iterator[str]:
    """Yield lines about a module's code or the object at an address; raise NoSuchObject."""
    address = _address(archive, what)
    objects = walk(archive.path, address)
    if objects[address]["type"] == "unknown":
        raise NoSuchObject(
            f"{archive.path}: there is no object at {address:#x} (--object NAME shows addresses)"
        )
    return _lines(objects, address, depth, "", "", None)


def _address(archive: Inspection, what: str) -> int:
    if what.startswith("0x"):
        try:
            return int(what, 16)
        except ValueError:
            raise NoSuchObject(f"not an address: {what}; write a hexadecimal number") from None
    for module in archive.modules:
        if module.address is not None and what in (module.name, module.origin):
            return module.address
    raise NoSuchObject(f"{archive.path}: no module {what!r} in it (inspect --json lists them)")


def _lines(
    objects: _Objects, address: int, depth: int, indent: str, label: str, file: str | None
) -> Iterator[str]:
    found = objects[address]
    yield f"{indent}{label}{_described(objects, found, file)}"
    if not found["fields"] or _literal(objects, found) is not None:
        return
    inner = indent + _INDENT
    if found["type"] == "code":
        yield f"{inner}{_code_numbers(found)}"
        file = _field(objects, found, "co_filename")
    if depth <= 0:
        if found["type"] != "code":
            yield f"{inner}…"
        return
    items = 0
    for field, to in found["fields"]:
        if field in _TOLD:
            continue
        label = f"{field}: "
        if field == "item":
            label, items = f"[{items}] ", items + 1
        # The tuples of a code object count as the same level as the code object.
        deeper = depth if found["type"] == "code" and objects[to]["type"] == "tuple" else depth - 1
        yield from _lines(objects, to, deeper, inner, label, file)


def _described(objects: _Objects, found: dict[str, Any], file: str | None) -> str:
    """Return what an object is, and its place; `file` is the file of the enclosing code."""
    kind, address = found["type"], found["address"]
    if kind == "code":
        own_file = _field(objects, found, "co_filename")
        of = "" if own_file == file else f" of {own_file}"
        what = f"code {_field(objects, found, 'co_qualname')}{of}, line {found['first_line']}"
    else:
        literal = _literal(objects, found)
        what = kind if literal is None else literal
        if literal is None and kind == "tuple":
            what = f"tuple of {len(found['fields'])}"
    place = found["place"]
    if place == "interpreter":
        where = "in the interpreter"
    else:
        section = f"{found['section']}, {size(found['bytes'])}"
        where = section if place == "archive" else f"{place}: {section}"
    interned = ", interned" if found.get("interned") else ""
    return f"{what}  <{address:#x} {where}{interned}>"


def _field(objects: _Objects, found: dict[str, Any], field: str) -> str:
    value: str = objects[dict(found["fields"])[field]]["value"]
    return value


def _literal(objects: _Objects, found: dict[str, Any]) -> str | None:
    """Return the literal of an object; None if it is long, or if the object contains code."""
    kind: str = found["type"]
    value = found["value"]
    if value is not None:
        return shortened(_value_text(kind, value), _VALUE_WIDTH)
    if kind in ("None", "True", "False", "Ellipsis"):
        return kind
    if kind not in ("tuple", "frozenset"):
        return None
    fields = found["fields"]
    if kind == "frozenset":
        inner = _literal(objects, objects[fields[0][1]]) if fields else "()"
        return None if inner is None else f"frozenset({inner})"
    if len(fields) > _MOST_ITEMS:
        return None
    items = [_literal(objects, objects[to]) for _, to in fields]
    text = f"({', '.join(filter(None, items))}{',' if len(items) == 1 else ''})"
    return None if None in items or len(text) > _VALUE_WIDTH else text


def _code_numbers(found: dict[str, Any]) -> str:
    # Each instruction and each inline cache entry takes two bytes.
    units = found["bytecode_bytes"] // 2
    flags = dis.pretty_flags(found["flags"])
    return f"bytecode: {units} code units; stack: {found['stack_size']}; flags: {flags}"


def _value_text(kind: str, value: Any) -> str:
    """Return the literal of a value from `_cds_archive`, which returns numbers as text."""
    match kind:
        case "int":
            number = int(value, 16)
            return str(number) if len(value) < 1000 else hex(number)
        case "float":
            return repr(float(value))
        case "complex":
            real, imaginary = value.split(" ")
            return repr(complex(float(real), float(imaginary)))
        case _:
            return repr(value)
