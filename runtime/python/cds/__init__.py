"""Archives of code objects: the interpreter maps an archive and runs the code in place.

`python -m cds dump LIST ARCHIVE` writes an archive.  `python -X cds=ARCHIVE` uses it.
`python -m cds --help` lists all commands.  This module imports nothing, so that
importing it costs nothing.

The first three functions are the interface of PyPI's code-data-share 0.1.0.  With the
`register` functions, a package registers what it does before an image is taken, and
after a restore.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def trace(class_list: str) -> None:
    """Append the name of each module that is loaded from source to the file `class_list`."""
    from cds.code_data_share.environment import trace

    trace(class_list)


def share(archive: str) -> None:
    """Load modules from an archive from now on; `-X cds=ARCHIVE` does so from the start."""
    from cds.code_data_share.environment import share

    share(archive)


def init_from_env() -> None:
    """Do nothing: the interpreter has read the environment variables when it started."""
    from cds.code_data_share.environment import say

    say("cds.init_from_env re-entered", 2)


def register_before_snapshot(
    func: "Callable[..., object]", /, *args: object, **kwargs: object
) -> None:
    """Register `func`, which is called before an image is taken; the last one is called first."""
    from cds.image.hooks import before_snapshot

    before_snapshot.append((func, args, kwargs))


def register_after_restore(
    func: "Callable[..., object]", /, *args: object, **kwargs: object
) -> None:
    """Register `func`, which is called in each restored process, in the order of registration."""
    from cds.image.hooks import after_restore

    after_restore.append((func, args, kwargs))
