"""What packages want to be done around a startup image.

They say so with functions whose names are those of AWS Lambda SnapStart for Python
(`snapshot_restore_py`): `cds.register_before_snapshot()`, `cds.register_after_restore()`.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    _Call = tuple[Callable[..., object], tuple[object, ...], dict[str, object]]

before_snapshot: "list[_Call]" = []
after_restore: "list[_Call]" = []


def run_before_snapshot() -> None:
    """Call what is registered, the last first."""
    for func, args, kwargs in reversed(before_snapshot):
        func(*args, **kwargs)


def run_after_restore() -> None:
    """Call what is registered, in that order."""
    for func, args, kwargs in after_restore:
        func(*args, **kwargs)
