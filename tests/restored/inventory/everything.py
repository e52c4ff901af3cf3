"""Imports all that the report needs, and so what most programs have imported."""

from inventory import allocator, environment, interpreter, kernel, library, mappings, proc, standard_streams

__all__ = [
    "allocator",
    "environment",
    "interpreter",
    "kernel",
    "library",
    "mappings",
    "proc",
    "standard_streams",
]
