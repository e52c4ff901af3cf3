"""Chooses the handlers of `os.register_at_fork()` that are called when an image is taken.

The process forks then, but the program must not notice that it is a forked child.  So only the
handlers of the standard library are called; they renew locks and random number generators.
"""

import sys

from cds.image import startup

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    _Handler = Callable[[], object]

# Modules, and the functions that they register.
_STANDARD = (
    ("asyncio.events", "on_fork"),
    ("concurrent.futures.thread", "_global_shutdown_lock.acquire"),
    ("concurrent.futures.thread", "_global_shutdown_lock._at_fork_reinit"),
    ("concurrent.futures.thread", "_global_shutdown_lock.release"),
    ("concurrent.futures.thread", "_threads_queues.clear"),
    ("logging", "_prepareFork"),
    ("logging", "_after_at_fork_child_reinit_locks"),
    ("logging", "_afterFork"),
    # Newer releases of 3.13 (gh-146313).
    ("multiprocessing.resource_tracker", "_resource_tracker._after_fork_in_child"),
    ("random", "_inst.seed"),
    ("threading", "_after_fork"),
)


def known(handlers: "list[_Handler]") -> "list[_Handler]":
    """Return the handlers of the standard library in their order; the same list if that is all."""
    # A program may replace a function in its module, but the old function stays registered.
    functions = {f"{module}.{name}" for module, name in _STANDARD}
    others = [handler for name in _STANDARD if (handler := _find(*name)) is not None]
    chosen = [
        handler
        for handler in handlers
        if (isinstance(handler, type(known)) and _name(handler) in functions) or handler in others
    ]
    return handlers if len(chosen) == len(handlers) else chosen


def _name(function: "_Handler") -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _find(module: str, name: str) -> "_Handler | None":
    first, *rest = name.split(".")
    found: object = startup.variables_of(sys.modules.get(module)).get(first)
    for part in rest:
        found = getattr(found, part, None)
    return found if callable(found) else None
