"""What the imports of a startup image have looked at: what its key compares.

The process that imports is watched from outside (`_cds_archive.run_observed()`), for C code
opens files and reads variables, too.
"""

import os
import stat
import sys

from cds.image import arguments, looks, signals, variables

# As in `startup`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

# A path, its kind (`Stamp` in key.rs), when it was modified and when its status was changed, its
# inode and its size, as far as the kind has them.
Looked = tuple[bytes, str, int, int, int, int]

# They tell of the kernel and its devices, not of files.
_NO_FILES = ("/proc", "/sys", "/dev")
_NOTHING: "Mapping[str, Iterable[str]]" = {}

# What a path has behind that of the request, by which the end of the imports is told; and that a
# program has asked how many arguments it has.
_END = ".imported"
COUNT = ".count"
# And that it has looked at one.
ARGUMENTS = ".arguments"

# There it says how many processors there are.
_ABOUT_PROCESSORS = (
    b"/proc/cpuinfo",
    b"/proc/stat",
    b"/sys/devices/system/cpu/",
    b"/sys/fs/cgroup/",
)


class Record:
    """What the imports have looked at.

    There is none where processes cannot be watched: then all counts that might.
    """

    def __init__(self) -> None:
        self.opened: set[str] = set()
        # Directories that the path finder has listed.
        self.searched: set[str] = set()
        self.looked_at: set[str] = set()
        # Of these more counts than what kind they are.
        self.asked_for_status: set[str] = set()
        # What was not there before, and may have been made.
        self.made: set[str] = set()
        self.variables: set[bytes] = set()
        # Those that C code has asked for during the imports; none if not all of that was seen.
        self.variables_of_libraries: set[bytes] | None = None
        # What C code has changed of them: kinds and texts of `breakpoints.rs`.
        self.changed_variables: list[tuple[bytes, bytes]] = []
        # Whether TZ was changed, and `time.tzset()` was not called since.
        self.keeps_time_zone = False
        # Whether C code or another program may have looked at all of them, and whether that was not
        # seen.
        self.walks_environment = True
        self.is_blind = True
        self.counts_processors = True
        # Whether there is one.
        self.is_traced = False
        # What differs from run to run, or can be seen by others.
        self.looks: set[looks.Look] = set()
        # What the program was stopped at, and whether it has asked how many arguments it has.
        self.ended_by = ""
        self.counts_arguments = False
        # Whether it has looked at one of them.
        self.compares_arguments = False
        # Whether it was asked, or changed, what is done at signals.
        self.counts_signals = True
        # What of `facts.rs` a program has asked for, by name; none if that is not known.
        self.facts: set[str] | None = None
        # Standard streams of which it counts whether they are terminals, and whether their modes and
        # their size do.
        self.terminals = [(number, True, True) for number in range(3)]
        # How often it was asked for the working directory; none if relative paths were used.
        self.asked_for_directory: int | None = None


def tell_end_of_imports(start: str) -> None:
    """Have the record tell that what follows is asked again in each restored process."""
    variables.look_for(os.fsencode(start + _END))


def read(name: str, start: str) -> Record:
    """Read the record that ends now; the imports began with opening the file `start`."""
    record = Record()
    with open(name, "rb") as file:
        data = file.read()
    if not data:
        return record
    record.is_traced = True
    items = data.split(b"\0")
    kinds = (
        b"o",
        b"a",
        b"f",
        b"g",
        b"c",
        b"l",
        b"m",
        b"v",
        b"p",
        b"t",
        b"s",
        b"h",
        b"d",
        b"r",
        b"n",
        b"x",
        b"e",
    )
    found: dict[bytes, list[bytes]] = {kind: [] for kind in kinds}
    environment = _Environment()
    asked_before = 0
    of_libraries: set[bytes] | None = None
    early: set[looks.Look] = set()
    for item in items:
        if environment.notices(item, start):
            continue
        if item == b"l" + os.fsencode(start + variables.START):
            # With it the interpreter finds itself, and what it found is compared.
            found[b"v"] = [variable for variable in found[b"v"] if variable != b"PATH"]
            # So far each start does the same; what `.pth` files and `sitecustomize` do is in the image.
            found[b"l"] += found.pop(b"a")
            for kind in (b"a", b"g", b"m", b"t", b"s", b"h", b"d", b"r", b"n", b"x"):
                found[kind] = []
        elif item == b"o" + os.fsencode(start):
            asked_before = len(found[b"v"])
        elif item == b"l" + os.fsencode(start + _END):
            of_libraries = {*found[b"v"][asked_before:]}
            record.looks = early | looks.of_record(found[b"x"])
            record.counts_signals = bool(found[b"g"])
            record.facts = {os.fsdecode(name) for name in found[b"n"]}
            record.asked_for_status = _absolute(found[b"a"])
            modes, sizes = found[b"h"], found[b"s"]
            record.terminals = [
                (int(number), number in modes, number in sizes)
                for number in sorted({*found[b"t"], *modes, *sizes})
            ]
            record.asked_for_directory = None if found[b"r"] else len(found[b"d"])
        elif item.startswith(b"l" + os.fsencode(start + arguments.EARLY)):
            what = os.fsdecode(item).rpartition(arguments.EARLY)[2]
            early.add((what, looks.BEFORE, (looks.BEFORE,)))
        elif item == b"l" + os.fsencode(start + COUNT):
            record.counts_arguments = True
        elif item == b"l" + os.fsencode(start + ARGUMENTS):
            record.compares_arguments = True
        elif item == b"l" + os.fsencode(start + signals.ASKED):
            found[b"g"].append(b"")
        elif item:
            found[item[:1]].append(item[1:])
    # What the imports have created and removed again was never there.
    created = {path for path in found[b"c"] if not os.path.lexists(path)}
    record.opened = _absolute({*found[b"o"]} - created)
    record.searched = _absolute(found[b"f"])
    record.ended_by = "".join(map(os.fsdecode, found[b"e"]))
    record.looked_at = _absolute({*found[b"l"], *found[b"a"]} - created)
    record.made = _absolute(found[b"m"])
    record.changed_variables = environment.changes
    record.keeps_time_zone = environment.keeps_time_zone
    record.walks_environment = bool(environment.walkers)
    record.is_blind = environment.is_blind or not environment.is_watched
    if of_libraries is not None and not (record.is_blind or record.walks_environment):
        record.variables_of_libraries = of_libraries | environment.asked
    record.variables = environment.asked | {
        variable for variable in found[b"v"] if not variable.startswith((b"PYTHON_CDS", b"PYCDS"))
    }
    record.counts_processors = bool(found[b"p"]) or any(
        path.startswith(_ABOUT_PROCESSORS) for path in found[b"o"]
    )
    return record


class _Environment:
    """What a record tells of the environment as a whole."""

    def __init__(self) -> None:
        self.changes: list[tuple[bytes, bytes]] = []
        self.keeps_time_zone = False
        # Variables that were set only if there were none, or that a forked process has asked for.
        self.asked: set[bytes] = set()
        # Files of code that has looked at it.
        self.walkers: list[bytes] = []
        # Whether the watchpoint works, and whether there was something that it does not tell.
        self.is_watched = False
        self.is_blind = False
        self._is_imported = False
        self._interpreter = os.fsencode(os.readlink("/proc/self/exe"))

    def notices(self, item: bytes, start: str) -> bool:
        """Take notice of an item; say whether it was about the environment only."""
        kind, text = item[:1], item[1:]
        if kind in (b"S", b"D", b"U", b"C"):
            if not self._is_imported:
                self.changes.append((kind, text))
                self.keeps_time_zone |= kind == b"C" or text.partition(b"=")[0] == b"TZ"
                if kind == b"D":
                    self.asked.add(text.partition(b"=")[0])
                self.is_blind |= kind == b"C"
            return True
        if kind == b"Z":
            if not self._is_imported:
                self.keeps_time_zone = False
            return True
        if kind == b"W":
            # What runs then is the interpreter's own way to a restored process.
            if text != self._interpreter or not self._is_imported:
                self.walkers.append(text)
            self.is_blind |= not text
            return True
        if kind == b"o" and text.startswith(b"/proc/") and text.endswith(b"/environ"):
            self.is_blind = True
        elif item == b"l" + os.fsencode(start + variables.START):
            # The interpreter itself has read all of it into `posix.environ`.
            self.is_watched = self._interpreter in self.walkers
            self.walkers = [walker for walker in self.walkers if walker != self._interpreter]
            self.is_blind = not all(self.walkers)
        elif item == b"l" + os.fsencode(start + _END):
            self._is_imported = True
        elif not self._is_imported:
            asked = b"l" + os.fsencode(start + variables.ASKED)
            if item.startswith(asked):
                self.asked.add(item[len(asked) :])
            elif item == b"l" + os.fsencode(start + variables.WALKED):
                self.walkers.append(text)
        return False


def is_read(flags: int) -> bool:
    """Say whether a file is opened with these flags for what is in it already."""
    if flags & (os.O_TRUNC | os.O_EXCL):
        return False
    return flags & os.O_ACCMODE != os.O_WRONLY


def _absolute(paths: "Iterable[bytes]") -> set[str]:
    return {_normal(os.fsdecode(path)) for path in paths}


def _normal(path: str) -> str:
    """Return a path without `.` and `..`, unless it leads elsewhere then, by a symbolic link."""
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
    """Return what to compare at each start, which costs a system call for each path.

    `contents` are files that were read, and directories that were listed; of what was only
    looked at, directories need not stay the same, but be there, unless `status` has them. Of
    directories that were only searched count entries of the names that were searched for; these
    come second, with names. What is below `own` is left out.
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
            # A symbolic link leads there (/etc/mtab).
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
            # A symbolic link that leads nowhere: no directory tells when it does.
            entries[highest] = os.fsencode(highest), "missing", 0, 0, 0, 0
        elif above_it in names:
            names[above_it].add(name)
        # A directory's time changes when something is created in it.
        elif above_it not in entries:
            entries[highest] = os.fsencode(highest), "missing", 0, 0, 0, 0
    # What is there has directories above it.
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
    """Return files that are a part of the image: these are compared as such."""
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
