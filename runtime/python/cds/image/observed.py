"""Reads the record of what imports have looked at, and decides what the image's key compares.

The process that imports is observed from outside (`_cds_archive.run_observed()`), because C code
also opens files and reads variables.
"""

import os
import stat
import sys

from cds.image import arguments, looks, signals, variables

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

# A path, its kind (`Stamp` in key.rs), the times of modification and of status change, the inode
# and the size.  Numbers that the kind does not use are zero.
Looked = tuple[bytes, str, int, int, int, int]

# These directories contain data of the kernel and devices, not ordinary files.
_NO_FILES = ("/proc", "/sys", "/dev")
_NOTHING: "Mapping[str, Iterable[str]]" = {}

# An entry of a record: its kind (`entries.rs`) and its text.
Entry = tuple[str, bytes]

# Each start repeats what the interpreter does before `site`, so these entries do not count then.
_REPEATED = (
    "status",
    "signals",
    "made",
    "terminal",
    "terminal size",
    "terminal modes",
    "directory",
    "relative",
    "fact",
    "look",
)

# Suffixes of the path of the request.  A look at the path with a suffix tells the observer that
# the imports have ended, or that the program has asked for the number of its arguments.
_END = ".imported"
COUNT = ".count"
# The program has looked at an argument.
ARGUMENTS = ".arguments"

# Files that contain the number of processors.
_ABOUT_PROCESSORS = (
    b"/proc/cpuinfo",
    b"/proc/stat",
    b"/sys/devices/system/cpu/",
    b"/sys/fs/cgroup/",
)


class Record:
    """What the imports have looked at.

    If processes cannot be observed, the record is empty.  The first values then assume the most.
    """

    def __init__(self) -> None:
        self.opened: set[str] = set()
        # Directories that the path finder has listed.
        self.searched: set[str] = set()
        self.looked_at: set[str] = set()
        # Directories whose status is compared, not only whether they are directories.
        self.asked_for_status: set[str] = set()
        # Paths that did not exist before, and may have been made.
        self.made: set[str] = set()
        self.variables: set[bytes] = set()
        # Variables that C code has asked for during the imports; None if some looks were not seen.
        self.variables_of_libraries: set[bytes] | None = None
        # Changes of variables by C code: kinds and texts of `entries.rs`.
        self.changed_variables: list[Entry] = []
        # Whether TZ was changed, and `time.tzset()` was not called after that.
        self.keeps_time_zone = False
        # Whether C code or another program may have looked at all variables.
        self.walks_environment = True
        # Whether looks at variables may have been missed.
        self.is_blind = True
        self.counts_processors = True
        # Whether the process was observed.
        self.is_traced = False
        # Looks at what differs from run to run, and actions that others can see.
        self.looks: set[looks.Look] = set()
        # What the program was stopped at.
        self.ended_by = ""
        # Whether the program has asked for the number of its arguments.
        self.counts_arguments = False
        # Whether the program has looked at an argument.
        self.compares_arguments = False
        # Whether imports have asked for, or changed, the actions of signals.
        self.counts_signals = True
        # The names in `facts.rs` that a program has asked for; None if that is not known.
        self.facts: set[str] | None = None
        # Standard streams that must again be terminals, or not; whether their modes and their
        # size are compared.
        self.terminals = [(number, True, True) for number in range(3)]
        # The number of calls of getcwd(2); None if relative paths were used.
        self.asked_for_directory: int | None = None


def mark_end_of_imports(start: str) -> None:
    """Mark the end of the imports in the record: each restored process repeats what follows."""
    variables.look_for(os.fsencode(start + _END))


def read(entries: "Iterable[Entry]", start: str) -> Record:
    """Evaluate the entries of a record; the imports began when the file `start` was opened."""
    record = Record()
    found = _Found()
    environment = _Environment()
    asked_before = 0
    of_libraries: set[bytes] | None = None
    early: set[looks.Look] = set()
    own = os.fsencode(start)
    for kind, text in entries:
        record.is_traced = True
        is_of_request = kind in ("opened", "looked at") and text.startswith(own)
        mark = os.fsdecode(text[len(own) :]) if is_of_request else None
        if environment.notices(kind, text, mark):
            continue
        if kind == "opened" and mark == "":
            asked_before = len(found["variable"])
        elif kind != "looked at" or mark is None:
            found[kind].append(text)
        elif mark == variables.START:
            # The interpreter reads PATH to find its own file, and the key compares this file.
            found["variable"] = [name for name in found["variable"] if name != b"PATH"]
            # Each start repeats the looks so far.  Later, `.pth` files and `sitecustomize` run,
            # and the image contains their results.
            found["looked at"] += found["status"]
            for repeated in _REPEATED:
                found[repeated] = []
        elif mark == _END:
            of_libraries = {*found["variable"][asked_before:]}
            record.looks = early | looks.of_record(found["look"])
            record.counts_signals = bool(found["signals"])
            record.facts = {os.fsdecode(name) for name in found["fact"]}
            record.asked_for_status = _absolute(found["status"])
            modes, sizes = found["terminal modes"], found["terminal size"]
            record.terminals = [
                (int(number), number in modes, number in sizes)
                for number in sorted({*found["terminal"], *modes, *sizes})
            ]
            asked = len(found["directory"])
            record.asked_for_directory = None if found["relative"] else asked
        elif mark.startswith(arguments.EARLY):
            what = mark.removeprefix(arguments.EARLY)
            early.add((what, looks.BEFORE, (looks.BEFORE,)))
        elif mark == COUNT:
            record.counts_arguments = True
        elif mark == ARGUMENTS:
            record.compares_arguments = True
        elif mark == signals.ASKED:
            found["signals"].append(b"")
        else:
            found[kind].append(text)
    if not record.is_traced:
        return record
    # A path that the imports have created and removed again does not count.
    created = {path for path in found["created"] if not os.path.lexists(path)}
    record.opened = _absolute({*found["opened"]} - created)
    record.searched = _absolute(found["searched"])
    record.ended_by = "".join(map(os.fsdecode, found["ended"]))
    record.looked_at = _absolute({*found["looked at"], *found["status"]} - created)
    record.made = _absolute(found["made"])
    record.changed_variables = environment.changes
    record.keeps_time_zone = environment.keeps_time_zone
    record.walks_environment = bool(environment.walkers)
    record.is_blind = environment.is_blind or not environment.is_watched
    if of_libraries is not None and not (record.is_blind or record.walks_environment):
        record.variables_of_libraries = of_libraries | environment.asked
    record.variables = environment.asked | {
        name for name in found["variable"] if not name.startswith((b"PYTHON_CDS", b"PYCDS"))
    }
    record.counts_processors = bool(found["processors"]) or any(
        path.startswith(_ABOUT_PROCESSORS) for path in found["opened"]
    )
    return record


class _Found(dict[str, list[bytes]]):
    """The texts of entries by kind: a defaultdict without an import of `collections`."""

    def __missing__(self, kind: str) -> list[bytes]:
        texts: list[bytes] = []
        self[kind] = texts
        return texts


class _Environment:
    """The items of a record about changes of the environment, and looks at all of it."""

    def __init__(self) -> None:
        self.changes: list[Entry] = []
        self.keeps_time_zone = False
        # Variables that C code has set only if they were not set (setenv(3) without overwrite),
        # and variables that a forked process has asked for.
        self.asked: set[bytes] = set()
        # Files of code that has looked at all variables.
        self.walkers: list[bytes] = []
        # Whether the watchpoint works.
        self.is_watched = False
        # Whether there was a look or a change that is not recorded.
        self.is_blind = False
        self._is_imported = False
        self._interpreter = os.fsencode(os.readlink("/proc/self/exe"))

    def notices(self, kind: str, text: bytes, mark: str | None) -> bool:
        """Evaluate an entry; return whether it is only about the environment.

        `mark` follows the path of the request, if the text begins with this path.
        """
        if kind in ("set", "set default", "removed", "cleared"):
            if not self._is_imported:
                self.changes.append((kind, text))
                is_cleared = kind == "cleared"
                self.keeps_time_zone |= is_cleared or text.partition(b"=")[0] == b"TZ"
                if kind == "set default":
                    self.asked.add(text.partition(b"=")[0])
                self.is_blind |= is_cleared
            return True
        if kind == "zone set":
            if not self._is_imported:
                self.keeps_time_zone = False
            return True
        if kind == "walked":
            # After the imports, the interpreter itself reads the environment, as each restored
            # process does.
            if text != self._interpreter or not self._is_imported:
                self.walkers.append(text)
            self.is_blind |= not text
            return True
        if kind == "opened" and text.startswith(b"/proc/") and text.endswith(b"/environ"):
            self.is_blind = True
        elif kind != "looked at" or mark is None:
            return False
        elif mark == variables.START:
            # The interpreter itself has read all variables into `posix.environ`.
            self.is_watched = self._interpreter in self.walkers
            self.walkers = [walker for walker in self.walkers if walker != self._interpreter]
            self.is_blind = not all(self.walkers)
        elif mark == _END:
            self._is_imported = True
        elif not self._is_imported and mark.startswith(variables.ASKED):
            self.asked.add(os.fsencode(mark.removeprefix(variables.ASKED)))
        elif not self._is_imported and mark == variables.WALKED:
            self.walkers.append(text)
        return False


def is_read(flags: int) -> bool:
    """Return whether a file that is opened with these flags can be read for its old contents."""
    if flags & (os.O_TRUNC | os.O_EXCL):
        return False
    return flags & os.O_ACCMODE != os.O_WRONLY


def _absolute(paths: "Iterable[bytes]") -> set[str]:
    return {_normal(os.fsdecode(path)) for path in paths}


def _normal(path: str) -> str:
    """Return a path without `.` and `..`, unless it then leads elsewhere (symbolic links)."""
    normal = os.path.abspath(path)
    if "/../" in path:
        try:
            return normal if os.path.samefile(normal, path) else path
        except OSError:
            pass
    return normal


def compared(
    contents: "Iterable[str]",
    looked_at: "Iterable[str]",
    own: "Iterable[str]",
    status: "Container[str]" = (),
    searched: "Mapping[str, Iterable[str]]" = _NOTHING,
) -> tuple[list[Looked], dict[str, set[str]]]:
    """Return what each start compares; each path costs a system call.

    `contents` are files that were read, and directories that were listed.  For `looked_at`, a
    directory must exist but may change, unless it is in `status`.  For `searched`, only entries
    with the searched names count; such directories and names are the second result.  Paths below
    `own` are left out.
    """
    own = (*_NO_FILES, *own)
    devices = _devices(_NO_FILES) - _devices(["/"])
    mapped = _mapped_files()
    entries: dict[str, Looked] = {}
    names: dict[str, set[str]] = {}
    directories = []
    missing = []
    read = {path for path in contents if not _is_below(path, own) and path not in mapped}
    others = {*looked_at, *searched}
    others = {path for path in others if not _is_below(path, own) and path not in mapped}
    for path in read | others:
        try:
            found = os.stat(path)
        except OSError:
            missing.append(path)
            continue
        if found.st_dev in devices:
            # A symbolic link leads to a device of the kernel, as /etc/mtab does.
            continue
        if not stat.S_ISDIR(found.st_mode):
            identity = found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
            entries[path] = os.fsencode(path), "contents", *identity
        elif path in status:
            entries[path] = os.fsencode(path), "status", 0, found.st_ctime_ns, found.st_ino, 0
        elif path in read:
            identity = found.st_mtime_ns, 0, found.st_ino, 0
            entries[path] = os.fsencode(path), "contents", *identity
        elif path in searched:
            names[path] = {*searched[path]}
        else:
            directories.append(path)
    for path in missing:
        highest = _highest_missing(path)
        above_it, name = os.path.split(highest)
        if os.path.lexists(highest):
            # A broken symbolic link: the times of the directories here do not show its repair.
            entries[highest] = os.fsencode(highest), "missing", 0, 0, 0, 0
        elif above_it in names:
            names[above_it].add(name)
        # If the directory is compared, no entry is needed: a new file changes its time.
        elif above_it not in entries:
            entries[highest] = os.fsencode(highest), "missing", 0, 0, 0, 0
    # The directories above an existing path exist, and need no entry.
    above = {"/", *names}
    for path in names:
        _add_parents(path, above)
    for path, entry in entries.items():
        _add_parents(os.path.dirname(path) if entry[1] == "missing" else path, above)
    for path in sorted(directories, reverse=True):
        if os.path.islink(path):
            entries[path] = os.fsencode(path), "link", 0, os.lstat(path).st_ctime_ns, 0, 0
        elif path not in above:
            entries[path] = os.fsencode(path), "directory", 0, 0, 0, 0
        _add_parents(path, above)
    return sorted(entries.values()), names


def _devices(directories: "Iterable[str]") -> set[int]:
    devices = set()
    for directory in directories:
        try:
            devices.add(os.stat(directory).st_dev)
        except OSError:
            pass
    return devices


def _is_below(path: str, directories: "Iterable[str]") -> bool:
    return any(path == top or path.startswith(f"{top}/") for top in directories)


def _mapped_files() -> set[str]:
    """Return the files that the process maps; an image compares the files that it maps anyway."""
    with open(
        "/proc/self/maps", encoding=sys.getfilesystemencoding(), errors="surrogateescape"
    ) as file:
        return {line.rstrip("\n").split(" ", 5)[5].lstrip() for line in file}


def _highest_missing(path: str) -> str:
    while (parent := os.path.dirname(path)) != path and not os.path.exists(parent):
        path = parent
    return path


def _add_parents(path: str, above: set[str]) -> None:
    while (path := os.path.dirname(path)) not in above:
        above.add(path)
