"""What a package wants to be done around a startup image.

The names are those of AWS Lambda SnapStart for Python (`snapshot_restore_py`).
"""

from collections.abc import Callable
from typing import Any

_Call = tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]

_before_snapshot: list[_Call] = []
_after_restore: list[_Call] = []


def register_before_snapshot(func: Callable[..., object], /, *args: Any, **kwargs: Any) -> None:
    """Have `func` called before an image is taken; what is registered last comes first."""
    _before_snapshot.append((func, args, kwargs))


def register_after_restore(func: Callable[..., object], /, *args: Any, **kwargs: Any) -> None:
    """Have `func` called in each process that is restored, in the order of registration."""
    _after_restore.append((func, args, kwargs))


def run_before_snapshot() -> None:
    """Call what is registered."""
    for func, args, kwargs in reversed(_before_snapshot):
        func(*args, **kwargs)


def run_after_restore() -> None:
    """Call what is registered."""
    for func, args, kwargs in _after_restore:
        func(*args, **kwargs)
