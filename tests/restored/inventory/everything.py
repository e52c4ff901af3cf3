"""Imports all modules of the report, and so the modules that most programs import."""

from inventory import (
    allocator,
    environment,
    interpreter,
    kernel,
    library,
    mappings,
    proc,
    standard_streams,
)
from inventory.lines import Lines

__all__ = [
    "Lines",
    "allocator",
    "environment",
    "interpreter",
    "kernel",
    "library",
    "mappings",
    "proc",
    "standard_streams",
]
