"""Starting this interpreter again, with the options on which it depends whether an archive fits."""

import os
import sys
from collections.abc import Iterator


def options() -> Iterator[str]:
    """Yield those options of this process."""
    flags = sys.flags
    if flags.optimize:
        yield "-" + "O" * flags.optimize
    for option, is_set in (
        ("-I", flags.isolated),
        ("-E", flags.ignore_environment),
        ("-s", flags.no_user_site),
        ("-S", flags.no_site),
    ):
        if is_set:
            yield option
    for name in ("pycache_prefix", "no_debug_ranges", "frozen_modules"):
        value = sys._xoptions.get(name)
        if value is not None:
            yield f"-X{name}" if value is True else f"-X{name}={value}"


def environment() -> dict[str, str]:
    """Return the environment without settings for archives."""
    return {name: os.environ[name] for name in os.environ if not _is_ours(name)}


def _is_ours(name: str) -> bool:
    return name.startswith(("PYTHON_CDS", "PYCDS"))
