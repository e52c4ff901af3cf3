"""Objects whose end can be seen, and code that is suspended while modules are imported."""

from generation.kinds import Kind

# Replaced by a module that is imported at this place.
MODULE = "@M"

_LOCAL = """\
def local@N():
    resource = saw.Resource("local @N")
    import @M
    saw.note("before the end of the function")
local@N()
saw.note("after the function")"""

_GENERATOR = """\
def steps@N():
    try:
        yield 1
        import @M
        yield @M.value
    finally:
        saw.note("the generator ends @N")
steps@N = steps@N()
saw.note(next(steps@N), next(steps@N))
"""

_CONTEXT = """\
import contextlib
@contextlib.contextmanager
def context@N():
    saw.note("enters @N")
    try:
        yield
    finally:
        saw.note("leaves @N")
with context@N():
    import @M"""

_ASYNC = """\
import asyncio
async def main@N():
    await asyncio.sleep(0)
    import @M
    await asyncio.sleep(0)
    return @M.value
saw.note(asyncio.run(main@N()))"""

_CYCLE = """\
import gc
cycle@N = saw.Resource("cycle @N")
cycle@N.self = cycle@N
import @M
del cycle@N
saw.note(gc.collect() > 0)"""

LIFETIMES = (
    Kind(
        "finalizers",
        in_main=(
            "resource@N = saw.Resource('@N')",
            "resource@N = saw.Resource('@N')\nimport @M\ndel resource@N\nsaw.note('deleted')",
            "resource@N = saw.Resource('@N')\nimport @M\nresource@N = None",
            _LOCAL,
            _CYCLE,
        ),
        at_import=(
            "resource = saw.Resource('@N')",
            "resource = saw.Resource('@N')\ndel resource",
            "held = [saw.Resource('@N')]",
        ),
    ),
    Kind(
        "weak references",
        "weakref",
        in_main=(
            (
                "watched@N = saw.Watched('@N')\nimport @M\n"
                "reference@N = weakref.ref(watched@N, lambda of: saw.note('dead @N'))\n"
                "del watched@N\nsaw.note(reference@N() is None)"
            ),
            (
                "watched@N = saw.Watched('@N')\nsaw.WATCHED['@N'] = watched@N\nimport @M\n"
                "saw.note(sorted(saw.WATCHED))\ndel watched@N\nsaw.note(sorted(saw.WATCHED))"
            ),
            "watched@N = saw.Watched('@N')\nweakref.finalize(watched@N, saw.note, 'finalized @N')",
        ),
        at_import=(
            "watched = saw.Watched('@N')\nsaw.WATCHED['@N'] = watched",
            "watched = saw.Watched('@N')\nweakref.finalize(watched, saw.note, 'finalized @N')",
        ),
        looks=("sorted(saw.WATCHED)",),
    ),
    Kind(
        "locks",
        "threading, weakref",
        in_main=(
            (
                "lock@N = threading.Lock()\nreference@N = weakref.ref(lock@N)\nimport @M\n"
                "del lock@N\nsaw.note(reference@N() is None)"
            ),
            "lock@N = threading.RLock()\nwith lock@N:\n    import @M\nsaw.note(lock@N.acquire(timeout=0))",
        ),
        at_import=("lock = threading.Lock()\nsaw.at_end('lock', lambda: lock.acquire(timeout=0))",),
    ),
    Kind(
        "suspended",
        in_main=(_GENERATOR, _GENERATOR + "steps@N.close()", _CONTEXT, _ASYNC),
        at_import=(
            (
                "suspended = (number for number in range(3))\nnext(suspended)\n"
                "saw.at_end('suspended', lambda: list(suspended))"
            ),
        ),
    ),
    Kind(
        "open files",
        "os",
        in_main=("file@N = open(saw.__file__)\nimport @M\nsaw.note(file@N.readline())",),
        at_import=(
            "file = open(__file__)\nsaw.at_end('line', file.readline)",
            "with open(__file__) as file: saw.note(len(file.read()))",
            (
                "saw.at_end('inode', lambda inode=os.stat(__file__).st_ino: "
                "inode == os.stat(__file__).st_ino)"
            ),
        ),
    ),
)
