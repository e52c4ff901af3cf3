"""Write a report of this process: `report.py FILE all|quick [MODULE ...]`.

The modules are imported first.
"""

import importlib
import sys

path, extent, *modules = sys.argv[1:]
for name in modules:
    importlib.import_module(name)
everything = importlib.import_module("inventory.everything")

SECTIONS = {
    "interpreter": everything.interpreter.report,
    "streams": everything.standard_streams.report,
    "environment": everything.environment.report,
    "memory": everything.mappings.report,
    "proc": everything.proc.report,
    "kernel": everything.kernel.report,
    "library": everything.library.report,
    "fresh": everything.library.report_fresh,
    "place": everything.library.report_places,
}
if extent == "all":
    # This section takes longer than all others together.
    SECTIONS["allocator"] = everything.allocator.report

lines = everything.Lines()
for section, function in SECTIONS.items():
    lines.section(section, function)
with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
    file.write(lines.text())
