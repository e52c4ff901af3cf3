"""Imports all that the report needs, and so what most programs have imported."""

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
