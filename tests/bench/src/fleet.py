"""Import pandas, print 0, or with an argument the size of code objects, and wait."""

import gc
import sys
import types

import pandas  # noqa: F401

# The addresses of archives, whose objects are not counted here, but by the pages of the archives.
ARCHIVES = range(0x2800_0000_0000, 0x2830_0000_0000)


def code_bytes() -> int:
    """Return the size of all code objects of functions, with their constants and names."""
    pending = [function.__code__ for function in gc.get_objects() if type(function) is types.FunctionType]
    seen = set()
    total = 0
    while pending:
        found = pending.pop()
        if id(found) in seen or id(found) in ARCHIVES:
            continue
        seen.add(id(found))
        total += sys.getsizeof(found)
        if type(found) is types.CodeType:
            pending += (found.co_consts, found.co_names, found.co_varnames, found.co_freevars)
            pending += (found.co_name, found.co_qualname, found.co_filename)
            pending += (found.co_linetable, found.co_exceptiontable)
        elif type(found) in (tuple, frozenset):
            pending += found
    return total


print(code_bytes() if len(sys.argv) > 1 else 0, flush=True)
sys.stdin.readline()
