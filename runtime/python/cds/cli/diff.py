"""`python -m cds diff`: compare two archives."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cds.cli import command_parser
from cds.inspection.archive import Inspection, InspectionError, Module, inspect
from cds.text.terminal import Style, size, table

EXIT_SAME = 0
EXIT_DIFFERENT = 1
EXIT_TROUBLE = 2

_DESCRIPTION = """\
Compare two archives: the modules that only one of them has, the modules whose code is
different, the interpreters that the archives were made for, and the sizes of sections.

Code is compared by its contents, not by its addresses. If two builds of the interpreter
wrote the archives, their code cannot be compared. Then the modification times and sizes
of the source files are compared.
"""

_EPILOG = """\
exit status, as for diff(1):
  0  the same modules with the same code, made for the same interpreter
  1  different
  2  wrong usage, or an archive cannot be read
"""


class Difference(NamedTuple):
    """How a second archive differs from a first one.  Modules are matched by origin."""

    facts: list[tuple[str, str, str]]
    added: list[Module]
    removed: list[Module]
    changed: list[Module]

    def __bool__(self) -> bool:
        return any(self)


def difference(old: Inspection, new: Inspection) -> Difference:
    """Compare two archives."""
    # The commands that wrote the archives are not a difference between them.
    keys = [key for key in dict.fromkeys([*old.facts, *new.facts]) if key != "command"]
    facts = [
        (key, old.facts.get(key, ""), new.facts.get(key, ""))
        for key in keys
        if old.facts.get(key) != new.facts.get(key)
    ]
    if old.freshness != new.freshness:
        facts.append(("sources are known by", old.freshness, new.freshness))
    olds, news = ({module.origin: module for module in archive.modules} for archive in (old, new))
    return Difference(
        facts,
        [module for origin, module in news.items() if origin not in olds],
        [module for origin, module in olds.items() if origin not in news],
        [
            module
            for origin, module in news.items()
            if origin in olds and not _is_same(olds[origin], module)
        ],
    )


def _is_same(old: Module, new: Module) -> bool:
    if old.digest is None or new.digest is None:
        return (old.mtime_ns, old.size) == (new.mtime_ns, new.size)
    return old.digest == new.digest


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        old, new = inspect(options.old), inspect(options.new)
    except InspectionError as error:
        print(f"cds diff: error: {error}", file=sys.stderr)
        return EXIT_TROUBLE
    found = difference(old, new)
    if options.json:
        print(json.dumps(_as_json(old, new, found), indent=2))
    else:
        for line in _lines(old, new, found):
            print(line)
    return EXIT_DIFFERENT if found else EXIT_SAME


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("diff", _DESCRIPTION, _EPILOG)
    parser.add_argument("old", metavar="OLD")
    parser.add_argument("new", metavar="NEW")
    parser.add_argument("--json", action="store_true", help="print the differences as JSON")
    return parser


def _lines(old: Inspection, new: Inspection, found: Difference) -> Iterator[str]:
    style = Style(sys.stdout)
    for key, before, after in found.facts:
        yield style("yellow", f"! {key}: {before!r} -> {after!r}")
    for mark, look, modules in (
        ("-", "red", found.removed),
        ("+", "green", found.added),
        ("~", "yellow", found.changed),
    ):
        for module in sorted(modules, key=lambda module: module.name):
            yield style(look, f"{mark} {module.name}  {module.origin}")
    counts = [
        f"{len(modules)} {what}"
        for modules, what in (
            (found.added, "added"),
            (found.removed, "removed"),
            (found.changed, "changed"),
        )
        if modules
    ]
    yield f"Modules: {len(old.modules)} -> {len(new.modules)} ({', '.join(counts) or 'the same'})"
    sizes = zip(old.sections, new.sections, strict=False)
    rows: list[tuple[str, str, str]] = [
        (f"  {before.name}", size(before.bytes), size(after.bytes)) for before, after in sizes
    ]
    rows.append(("  file", size(old.bytes), size(new.bytes)))
    yield from table(rows, "<>>")


def _as_json(old: Inspection, new: Inspection, found: Difference) -> dict[str, object]:
    def names(modules: list[Module]) -> list[dict[str, str]]:
        return [{"name": module.name, "origin": module.origin} for module in modules]

    return {
        "facts": [{"key": key, "old": before, "new": after} for key, before, after in found.facts],
        "added": names(found.added),
        "removed": names(found.removed),
        "changed": names(found.changed),
        "sections": [
            {"name": before.name, "old_bytes": before.bytes, "new_bytes": after.bytes}
            for before, after in zip(old.sections, new.sections, strict=False)
        ],
    }
