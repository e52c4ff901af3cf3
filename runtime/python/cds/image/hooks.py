"""Functions that packages register, for before an image is taken and after a restore.

Packages call `cds.register_before_snapshot()` and `cds.register_after_restore()`.  The names are
those of AWS Lambda SnapStart for Python (`snapshot_restore_py`).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    _Call = tuple[Callable[..., object], tuple[object, ...], dict[str, object]]

before_snapshot: "list[_Call]" = []
after_restore: "list[_Call]" = []


def run_before_snapshot() -> None:
    """Call the registered functions; the last one comes first."""
    for func, args, kwargs in reversed(before_snapshot):
        func(*args, **kwargs)


def run_after_restore() -> None:
    """Call the registered functions in the order of registration."""
    for func, args, kwargs in after_restore:
        func(*args, **kwargs)
