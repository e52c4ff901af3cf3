"""Starts an interpreter that takes a startup image of itself."""

import marshal
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cds
from cds import interpreter
from cds.collect import installation
from cds.collect.tracelist import Entry
from cds.image import looks
from cds.inspection.archive import ask

# Each image of a list imports these modules.  So its archive is never empty.
NEEDED = [Entry("linecache", None)]

# The largest number of interpreters that are started, one after the other, for one image.
_MOST_ROUNDS = 5


# The path of the request, the directory of this package, and the looks that do not count.
type _Watch = tuple[str, str, list[looks.Excused]]


class _UnobservedError(Exception):
    """The system calls of the program cannot be watched."""


class Problem(NamedTuple):
    """Why no image was taken: the message of the command, and the reason for the note."""

    message: str
    reason: str


def image_path(archive: str) -> str:
    """Return the path of the image of an archive."""
    return os.fsdecode(ask("image_of", os.fsencode(archive)))


def archive_path(image: str) -> str | None:
    """Return the path of the archive of an image; None if no image has such a name."""
    archive = ask("archive_of", os.fsencode(image))
    return None if archive is None else os.fsdecode(archive)


def take_image(
    archive: str,
    entries: Iterable[Entry],
    path: Sequence[str],
    *,
    strict: bool = False,
    reports: bool = False,
    verbose: bool = False,
) -> Problem | None:
    """Take the image of an interpreter that uses an archive and has imported modules.

    The interpreter is started with the command line options of this process.  It inherits the
    environment variables, and so the options that they set.  With `reports`, it reports what
    imports looked at that differs from run to run.  With `strict`, it then takes no image.
    Return the problem if no image was taken.
    """
    modules = {entry.name: entry.file for entry in entries if _is_to_be_imported(entry)}
    request = {
        "is_of_program": False,
        "modules": list(modules.items()),
        "path": list(path),
        "strict": strict,
        "reports": reports,
    }
    return _Taking(archive, request, (), None, None, verbose, "imports").take(None)


def take_program_image(
    archive: str,
    program: Sequence[str],
    *,
    options: Sequence[str] | None = None,
    terminal: bytes | None = None,
    is_for_any_arguments: bool = True,
    verbose: bool = False,
    seconds: int | None = None,
) -> Problem | None:
    """Take the image of a program, at the point where it is stopped.

    `program` is the end of a command line: a script, `-m` with a module, or `-c` with a text, and
    then the arguments.  With `is_for_any_arguments`, the program is stopped before it looks at an
    argument; otherwise, the image is for these arguments only.  `options` are the options of the
    interpreter; None stands for the options of this process.  `terminal` describes the terminal
    of a recorded run; the program gets a terminal like it.  `seconds` is a time limit.  Return the
    problem if no image was taken.
    """
    request: dict[str, object] = {
        "is_of_program": True,
        "is_for_any_arguments": is_for_any_arguments,
    }
    return _Taking(archive, request, program, options, terminal, verbose).take(seconds)


def take_base_image(
    archive: str,
    *,
    options: Sequence[str] | None = None,
    terminal: bytes | None = None,
    seconds: int | None = None,
) -> Problem | None:
    """Take a base image: of an interpreter before its program.  It is for any program.

    The arguments and the result are those of `take_program_image()`.
    """
    request: dict[str, object] = {"is_of_program": True, "is_base": True}
    # A program from standard input: the interpreter knows no program when it is frozen.
    subject = "the start of the interpreter"
    taking = _Taking(archive, request, ("-",), options, terminal, subject=subject)
    return taking.take(seconds)


def list_program(program: Sequence[str]) -> list[str] | Problem:
    """Return a trace list, as lines, of what a program loads until it is stopped."""
    request: dict[str, object] = {"is_of_program": True, "is_for_any_arguments": True}
    taking = _Taking(None, request, program)
    problem = taking.take(None)
    return taking.lines if problem is None else problem


class _Taking:
    """The interpreter that takes an image; it can ask for a new interpreter that begins again.

    Without an archive, the interpreter only lists what a program loads.
    """

    def __init__(
        self,
        archive: str | None,
        request: dict[str, object],
        program: Sequence[str],
        options: Sequence[str] | None = None,
        terminal: bytes | None = None,
        verbose: bool = False,
        # The subject of sentences in messages.
        subject: str = "the program",
    ) -> None:
        from _cds_archive import compared_facts

        self.lines: list[str] = []
        self._archive = "" if archive is None else os.path.abspath(archive)
        self._image = image_path(self._archive)
        self._excused = looks.excused(installation.site_directories())
        self._request = request | {
            "excused": self._excused,
            "facts": compared_facts(),
            "lists": archive is None,
            "archive": self._archive,
            "image": self._image,
            "verbose": verbose,
        }
        self._program = program
        self._options = options
        self._terminal = terminal
        self._subject = subject

    def take(self, seconds: int | None) -> Problem | None:
        from _cds_archive import image_options

        options = image_options() if self._options is None else self._options
        if options is None:
            return _problem(
                "the options of this process allow no image; leave out options such as -v, -i or "
                "-X importtime"
            )
        former = _identity(self._image)
        # Files without names: if this process is killed, there is nothing to remove.
        files = tuple(map(os.memfd_create, ("cds_request", "cds_record", "cds_anew")))
        try:
            asked, recorded, left = map(_path_of, files)
            self._request |= {"record": recorded, "anew": left}
            archive = ("-X", f"cds={self._archive}") if self._archive else ()
            wish = ("-X", f"cds_image={asked}")
            command = [sys.executable, *options, *archive, *wish, *self._program]
            watch = self._watch(asked) if self._program else None
            try:
                status, reason = self._run_in_rounds(command, files, watch, seconds)
            except _UnobservedError as error:
                return _problem(f"the program cannot be watched: {error}; allow ptrace(2)")
        finally:
            for descriptor in files:
                os.close(descriptor)
        if status is None:
            return _problem(f"{self._subject} took more than {seconds} seconds")
        if status < 0:
            return _problem(reason or f"{self._subject}: killed by signal {-status}")
        if status > 0:
            reason = reason or f"{self._subject} ended with status {status}"
            return Problem(
                "no startup image was taken, for the reason above; an archive works without one",
                reason,
            )
        if self._archive and _identity(self._image) == former:
            return _problem(f"{self._subject} ended the process before the image was taken")
        return None

    def _watch(self, request: str) -> "_Watch":
        return request, os.path.dirname(cds.__file__), self._excused

    def _run_in_rounds(
        self,
        command: Sequence[str],
        files: tuple[int, ...],
        watch: "_Watch | None",
        seconds: int | None,
    ) -> tuple[int | None, str]:
        """Run the command, and run it again as long as the process asks for that.

        `files` are open files: for the request, for the record, and for the reason to begin
        again.  Return the status of the last process, or None after the time limit.  Also return
        the reason why it took no image; the process writes the reason over the request.
        """
        asked, _, left = files
        request = self._request
        end = None if seconds is None else time.monotonic() + seconds
        reasons = {"changed", "failed", "list", "made"}
        for rounds_left in reversed(range(_MOST_ROUNDS)):
            request["reasons_to_begin_anew"] = tuple(reasons) if rounds_left else ()
            request["started"] = time.time_ns()
            _empty(*files)
            sent = marshal.dumps(request)
            with open(asked, "wb", closefd=False) as file:
                file.write(sent)
            rest = None if end is None else max(1, round(end - time.monotonic()))
            verbose = bool(request["verbose"]) and rounds_left == _MOST_ROUNDS - 1
            record = str(request["record"])
            status, looked_at = _run(command, self._terminal, record, rest, watch, verbose)
            reason = _reason_to_begin_anew(left)
            if status is None or reason is None:
                break
            if reason[0] == "list":
                self.lines = reason[1]
                return 0, ""
            if reason[0] == "made":
                # If the next process makes files, too, imports make new files each time.
                reasons.discard("made")
            elif reason[0] == "failed":
                left_out = set(reason[1])
                request["modules"] = [
                    (module, file)
                    for module, file in request["modules"]  # type: ignore[attr-defined]
                    if not _is_part(module, left_out)
                ]
        answer = os.pread(asked, os.fstat(asked).st_size, 0)
        if answer != sent:
            return status, answer.decode(errors="surrogateescape")
        return (
            status,
            ""
            if looked_at is None
            else f"the program was stopped before it could be frozen, at: {looked_at}",
        )


def _problem(reason: str) -> Problem:
    return Problem(f"no startup image: {reason}", reason)


def note_problem(archive: str, reason: str) -> None:
    """Write a note with the reason in the place of the image."""
    from _cds_archive import write_image_note

    try:
        write_image_note(image_path(archive), f"{reason}\n".encode(errors="surrogateescape"))
    except OSError:
        # The command has already printed the reason.
        pass


def _is_part(name: str, packages: set[str]) -> bool:
    """Return whether a module is one of `packages`, or is inside one of them."""
    parts = name.split(".")
    return any(".".join(parts[:count]) in packages for count in range(1, len(parts) + 1))


def _path_of(descriptor: int) -> str:
    """Return a path by which another process of this user can open an open file."""
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _empty(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)


def _reason_to_begin_anew(left: int) -> tuple[str, list[str]] | None:
    """Return the reason of the process if it asks for a new process that begins again.

    The reason has a name and a list: modules that failed and must be left out, files that were
    made, files that have changed, or the lines of a trace list.
    """
    with open(left, "rb", closefd=False) as file:
        data = file.read()
    if not data:
        return None
    reason: tuple[str, list[str]] = marshal.loads(data)
    return reason


def _is_to_be_imported(entry: Entry) -> bool:
    # An import of the __main__.py of a package would run the package as a program.
    is_program = entry.name.endswith(".__main__")
    return entry.is_imported and entry.pattern is None and not is_program


def _run(
    command: Sequence[str],
    terminal: bytes | None,
    record: str,
    seconds: int | None,
    watch: "_Watch | None",
    verbose: bool,
) -> tuple[int | None, str | None]:
    """Run an interpreter, and record what it looks at if that is possible.

    Return its status, or None after the time limit.  Also return what a program was stopped at,
    if it could not be frozen before.  The output of modules goes to standard error, because it
    must not mix with the output of this command.
    """
    from _cds_archive import run_observed

    # The original environment, without the changes of locale coercion or of a program: starts
    # that use the image get the same.
    variables = interpreter.environment()
    try:
        texts = [b"%b=%b" % item for item in variables.items()]
        result: tuple[int | None, str | None] = run_observed(
            [*map(os.fsencode, command)], texts, terminal, record, seconds or 0, watch
        )
        return result
    except OSError as error:
        if watch is not None:
            raise _UnobservedError(str(error)) from error
        if verbose:
            consequence = (
                "system calls are not watched, so each start compares all variables, "
                "but only the files that Python code looked at"
            )
            print(f"cds dump: note: {consequence}: {error}", file=sys.stderr)
    # Seldom needed, and slow to import.
    import subprocess

    # Imports that ask for a terminal must find the terminal of this process.
    stdin = None if os.isatty(0) else subprocess.DEVNULL
    try:
        process = subprocess.run(
            command,
            env=variables,
            stdin=stdin,
            stdout=sys.stderr.fileno(),
            preexec_fn=_stop_ignoring_signals,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, None
    return process.returncode, None


def _stop_ignoring_signals() -> None:
    """Set ignored signals to their default action: nohup and `&` in shells ignore some."""
    for number in signal.valid_signals():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
