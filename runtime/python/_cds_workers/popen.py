"""Starts workers."""

import os
import sys
from multiprocessing import popen_spawn_posix, spawn, util
from typing import Any

# The parts of the preparation data (Lib/multiprocessing/spawn.py) that differ from worker to
# worker, and those that a worker has by itself: it inherits the working directory, and its command
# line has the arguments.
_OF_ONE_WORKER = ("authkey", "name")
_INHERITED = ("dir", "sys_argv")


class Popen(popen_spawn_posix.Popen):
    """A worker, as its parent sees it."""

    method = "image"

    def _get_command_line(
        self, prep_data: dict[str, Any], *, tracker_fd: int, pipe_handle: int
    ) -> list[str]:
        plain = spawn.get_command_line(tracker_fd=tracker_fd, pipe_handle=pipe_handle)
        if obstacle := _obstacle(prep_data):
            util.info("the process is spawned, and not restored from an image: %s", obstacle)
            return plain
        left_out = (*_OF_ONE_WORKER, *_INHERITED)
        common = {name: value for name, value in prep_data.items() if name not in left_out}
        program, *arguments = prep_data["sys_argv"]
        text = f"from _cds_workers.child import main; main({program!r}, {common!r})"
        options = ["-X", "cds=auto", "-X", f"cds_worker={tracker_fd},{pipe_handle}"]
        command = [*plain[: plain.index("-c")], *options, "-c", text, *arguments]
        if not _is_cached(command):
            util.info("the process is spawned: the cache cannot be used (python -m cds status)")
            return plain
        return command


def _obstacle(prep_data: dict[str, Any]) -> str | None:
    """Return why the command line of a worker cannot say what its parent wants."""
    if sys._xoptions.get("cds", os.environ.get("PYTHON_CDS")) == "off":
        return "-X cds=off, or PYTHON_CDS=off"
    if getattr(sys, "frozen", False):
        return "the program is frozen (sys.frozen)"
    texts = (*prep_data["sys_argv"], *prep_data["sys_path"])
    if not prep_data["sys_argv"] or not all(type(text) is str for text in texts):
        return "sys.argv is empty, or it or sys.path has other items than texts"
    return None


def _is_cached(command: list[str]) -> bool:
    from _cds_archive import entries_of

    return entries_of([*map(os.fsencode, command)]) is not None
