"""Archives of ready-made code objects, mapped and run in place.

`python -m cds dump LIST ARCHIVE` writes an archive; `python -X cds=ARCHIVE`
uses it; `python -m cds --help` tells the rest.  This module imports nothing,
so that importing it costs nothing.

The functions are those of PyPI's code-data-share 0.1.0, and those with which a
package has something done around a startup image.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def trace(class_list: str) -> None:
    """Append the name of each module that is loaded from source to a list."""
    from cds.code_data_share.environment import trace

    trace(class_list)


def share(archive: str) -> None:
    """Take modules from an archive; `-X cds=ARCHIVE` takes those of start-up too."""
    from cds.code_data_share.environment import share

    share(archive)


def init_from_env() -> None:
    """Do nothing: the interpreter has looked at the environment when it started."""
    from cds.code_data_share.environment import tell

    tell("cds.init_from_env re-entered", 2)


def register_before_snapshot(
    func: "Callable[..., object]", /, *args: object, **kwargs: object
) -> None:
    """Have `func` called before a startup image is taken; what is registered last comes first."""
    from cds.image.hooks import before_snapshot

    before_snapshot.append((func, args, kwargs))


def register_after_restore(
    func: "Callable[..., object]", /, *args: object, **kwargs: object
) -> None:
    """Have `func` called in each restored process, in the order of registration."""
    from cds.image.hooks import after_restore

    after_restore.append((func, args, kwargs))
