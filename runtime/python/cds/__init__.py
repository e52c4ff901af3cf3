"""Archives of ready-made code objects, mapped and run in place.

`python -m cds dump LIST ARCHIVE` writes an archive; `python -X cds=ARCHIVE`
uses it; `python -m cds --help` tells the rest.  This module imports nothing,
so that importing it costs nothing.

The functions are those of PyPI's code-data-share 0.1.0.
"""


def trace(class_list: str) -> None:
    """Append the name of each module that is loaded from source to a list."""
    from cds.environment import trace

    trace(class_list)


def share(archive: str) -> None:
    """Take modules from an archive; `-X cds=ARCHIVE` takes those of start-up too."""
    from cds.environment import share

    share(archive)


def init_from_env() -> None:
    """Do nothing: the interpreter has looked at the environment when it started."""
    from cds.environment import tell

    tell("cds.init_from_env re-entered", 2)
