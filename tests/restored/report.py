"""Writes a report of this process: `report.py FILE all|quick [MODULE ...]` imports the modules first."""

import importlib
import sys

path, extent, *modules = sys.argv[1:]
for name in modules:
    importlib.import_module(name)

from inventory import (  # noqa: E402
    allocator,
    environment,
    interpreter,
    kernel,
    library,
    mappings,
    proc,
    standard_streams,
)
from inventory.lines import Lines  # noqa: E402

SECTIONS = {
    "interpreter": interpreter.report,
    "streams": standard_streams.report,
    "environment": environment.report,
    "memory": mappings.report,
    "proc": proc.report,
    "kernel": kernel.report,
    "library": library.report,
    "fresh": library.report_fresh,
    "place": library.report_places,
}
if extent == "all":
    # It takes longer than all others together.
    SECTIONS["allocator"] = allocator.report

lines = Lines()
for section, function in SECTIONS.items():
    lines.section(section, function)
with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
    file.write(lines.text())
