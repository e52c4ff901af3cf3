"""Runs in a worker."""

import os
import sys
from multiprocessing import process, reduction, resource_tracker, spawn
from typing import Any, BinaryIO, NamedTuple, NoReturn

_OPTION = "cds_worker"
_MAIN_PROCESS = type(process.current_process())


class _Parent(NamedTuple):
    """The connection to the parent."""

    pipe: BinaryIO
    sentinel: int


_parent: _Parent | None = None


def main(program: str, common: dict[str, Any]) -> NoReturn:
    """Do what `multiprocessing.spawn.spawn_main()` does, but import the main module first.

    `program` is the first item of the parent's `sys.argv`; the others are on the command line.
    `common` is the preparation data that all workers of the program have in common.
    """
    # The list stays the same object, and nothing looks at its other items: a restored process
    # finds its own arguments in it.
    sys.argv[0] = program
    current = process.current_process()
    current.__class__ = _UnpreparedProcess
    current._config = _UnpreparedConfig(current._config)  # type: ignore[attr-defined]
    resource_tracker._resource_tracker.__class__ = _UnpreparedTracker
    current._inheriting = True  # type: ignore[attr-defined]
    try:
        spawn.prepare(common)
        import _cds_workers.ready  # noqa: F401

        parent = _meet_parent()
        with parent.pipe:
            worker = reduction.pickle.load(parent.pipe)  # type: ignore[attr-defined]
    finally:
        del current._inheriting  # type: ignore[attr-defined]
    sys.exit(worker._bootstrap(parent.sentinel))


def _meet_parent() -> _Parent:
    """Read from the parent which process this is; only the first call does so."""
    global _parent
    if _parent is not None:
        return _parent
    # To look at this list ends the part of the program that can be in an image.
    value = next(text for text in sys.orig_argv if text.startswith(f"{_OPTION}="))
    del sys._xoptions[_OPTION]
    tracker, pipe = map(int, value.partition("=")[2].split(","))
    resource_tracker._resource_tracker.__class__ = resource_tracker.ResourceTracker
    resource_tracker._resource_tracker._fd = tracker  # type: ignore[attr-defined]
    sentinel = os.dup(pipe)
    _parent = _Parent(os.fdopen(pipe, "rb"), sentinel)
    of_this_worker = reduction.pickle.load(_parent.pipe)  # type: ignore[attr-defined]
    current = process.current_process()
    current.__class__ = _MAIN_PROCESS
    current._config = dict(current._config)  # type: ignore[attr-defined]
    current.name = of_this_worker["name"]
    current.authkey = of_this_worker["authkey"]
    return _parent


class _UnpreparedProcess(_MAIN_PROCESS):  # type: ignore[misc,valid-type]
    """The current process, until it knows its name and its key.

    A restored process gets another key first, so `_config` itself must not ask the parent.
    """

    def __repr__(self) -> str:
        _meet_parent()
        return repr(self)

    @property
    def name(self) -> str:
        _meet_parent()
        return process.current_process().name

    @name.setter
    def name(self, value: str) -> None:
        _meet_parent()
        process.current_process().name = value


class _UnpreparedConfig(dict[str, Any]):
    """Its configuration."""

    def __getitem__(self, name: str) -> Any:
        if name == "authkey":
            _meet_parent()
            return process.current_process().authkey
        return super().__getitem__(name)

    def copy(self) -> dict[str, Any]:
        _meet_parent()
        return dict(process.current_process()._config)  # type: ignore[attr-defined]


class _UnpreparedTracker(resource_tracker.ResourceTracker):
    """The resource tracker, until its descriptor is known.

    Handlers of forks and finalizers look at its attributes, so these cannot be replaced.
    """

    def ensure_running(self) -> Any:
        _meet_parent()
        return self.ensure_running()

    def _ensure_running_and_write(self, *arguments: Any) -> Any:
        _meet_parent()
        return self._ensure_running_and_write(*arguments)


_UnpreparedProcess.__name__ = _UnpreparedProcess.__qualname__ = _MAIN_PROCESS.__name__
