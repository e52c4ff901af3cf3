"""`python -m cds dump`: the command line of cds.dump, and its report."""

import argparse
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence

from cds import interpreter
from cds.cli import command_parser
from cds.collect import tracelist
from cds.collect.tracelist import Entry
from cds.collect.tracing import trace_imports, trace_program
from cds.dump import (
    DumpError,
    NothingToArchive,
    PackageSizes,
    Selection,
    Skipped,
    Summary,
    dump,
)
from cds.image.imaging import (
    NEEDED,
    Problem,
    image_path,
    list_program,
    note_problem,
    take_image,
    take_program_image,
)
from cds.inspection.image import inspect_image
from cds.text.progress import Progress, ProgressLine
from cds.text.terminal import count, size, table

EXIT_WRITTEN = 0
EXIT_NOT_WRITTEN = 1

_NAMES_SHOWN = 5
_PACKAGES_SHOWN = 10

_DESCRIPTION = """\
Write the code of modules into ARCHIVE. `python -X cds=ARCHIVE` runs it from there.

The LISTs and the options name the modules. Each module is found as an import finds it.
No code of a module is run, except with --import, --script and --image. Modules that
cannot be archived, such as extension modules, are reported; programs import them as
usual.
"""

_EPILOG = """\
A LIST is a trace list: one module name per line, as `python -X cds_trace=LIST` writes
it. `#` starts a comment. LIST `-` is standard input.

examples:
  What a program imports, in one step (--script and its arguments go last):
    python -m cds dump app.cds --script app.py --port 80
    python -m cds dump app.cds --script -m django check
  The same, with a trace list that you keep:
    python -X cds_trace=app.lst app.py
    python -m cds dump app.lst app.cds
    python -X cds=app.cds app.py
  A package with all its submodules, and the modules of a list:
    python -m cds dump --package requests more.lst app.cds
  Two packages in the directory of a script:
    python -m cds dump --path /srv/app --package app,plugins app.cds
  Everything that is installed:
    python -m cds dump --stdlib --site-packages all.cds
  An image of a program, frozen before it first reads its arguments, the clock, ...:
    python -m cds dump --image app.cds --run app.py
    python -m cds dump --image app.cds --run -m app
  An image of a process that has done the imports of a list, for any program:
    python -m cds dump --image app.lst app.cds
  An image of an interpreter that has imported nothing:
    python -m cds dump --image bare.cds
  For a container image, whose files get new timestamps and never change:
    python -m cds dump --freshness unchecked app.lst app.cds

exit status:
  0  ARCHIVE was written, perhaps without some modules, and the image with --image
  1  the archive, or the image, was not written; the message says why
  2  wrong usage
"""


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = _parser()
    own, script, program = _split(arguments)
    options = parser.parse_intermixed_args(own)
    *lists, archive = options.files
    if script == []:
        parser.error("--script needs a program: add a script, -m MODULE or -c CODE")
    if program == []:
        parser.error("--run needs a program: add a script, -m MODULE or -c CODE")
    if program and not options.image:
        parser.error("--run needs --image; to archive what a program loads, use --script")
    if options.with_arguments and not program:
        parser.error("--with-arguments needs --image and --run PROGRAM; add them, or leave it out")
    if program and not program[0].startswith("-") and not os.path.exists(program[0]):
        _complain(f"cannot run {program[0]}: there is no such file; give another PROGRAM")
        return EXIT_NOT_WRITTEN
    which = (lists, options.package, options.stdlib, options.site_packages, script, options.image)
    if not any(which):
        parser.error(
            "name what to archive: a LIST, --package, --stdlib, --site-packages, --script or "
            "--image; the last name is the ARCHIVE"
        )
    if archive in lists:
        parser.error(f"{archive} is both a LIST and the ARCHIVE; give the ARCHIVE another name")

    progress = Progress() if options.quiet else ProgressLine("cds dump", sys.stderr)
    try:
        entries = [entry for path in lists for entry in tracelist.read(path)]
        if script is not None:
            entries += _traced(script)
        if options.do_import:
            entries += _imported(entries, options)
        if program:
            listed = list_program(program)
            if isinstance(listed, Problem):
                progress.clear()
                _complain(listed.message)
                return EXIT_NOT_WRITTEN
            entries += tracelist.parse("\n".join(listed).encode(), "the program")
        elif options.image:
            entries += NEEDED
        selection = Selection(entries, options.package, options.stdlib, options.site_packages)
        summary = dump(
            archive,
            selection,
            path=[*options.path, *sys.path],
            profiles=[_lines(path) for path in options.profile],
            freshness=options.freshness,
            command=interpreter.own_command(),
            progress=progress,
        )
    except NothingToArchive as error:
        progress.clear()
        _complain(str(error))
        for text in _skipped_lines(error.skipped, options.verbose):
            print(text, file=sys.stderr)
        return EXIT_NOT_WRITTEN
    except OSError as error:
        progress.clear()
        _complain(
            f"cannot read {error.filename}: {error.strerror}; check the path and its permissions"
        )
        return EXIT_NOT_WRITTEN
    except (DumpError, tracelist.TraceListError) as error:
        progress.clear()
        _complain(str(error))
        return EXIT_NOT_WRITTEN
    progress.clear()
    if options.image:
        if program:
            problem = take_program_image(
                archive,
                program,
                is_for_any_arguments=not options.with_arguments,
                verbose=options.verbose,
            )
        else:
            problem = take_image(
                archive,
                entries,
                options.path,
                strict=options.strict,
                reports=not options.quiet,
                verbose=options.verbose,
            )
        if problem:
            _complain(problem.message)
            note_problem(archive, problem.reason)
            return EXIT_NOT_WRITTEN
    if options.json:
        print(json.dumps(_as_json(summary), indent=2))
    elif not options.quiet:
        for text in _report(summary, options.verbose):
            print(text)
        if program:
            stopped_at = inspect_image(image_path(archive))["stopped_at"]
            print(f"The program was frozen, and stopped at this: {stopped_at}")
    return EXIT_WRITTEN


def _split(
    arguments: Sequence[str],
) -> tuple[Sequence[str], Sequence[str] | None, Sequence[str] | None]:
    """Divide the arguments at --script or --run; the rest is the program and its arguments."""
    options = [option for option in arguments if option in ("--script", "--run")]
    if not options:
        return arguments, None, None
    index = list(arguments).index(options[0])
    own, program = arguments[:index], arguments[index + 1 :]
    return (own, program, None) if options[0] == "--script" else (own, None, program)


def _traced(script: Sequence[str]) -> list[Entry]:
    trace = trace_program(script)
    if trace.status < 0:
        _warn(
            f"the program was killed by {signal.Signals(-trace.status).name}; "
            "the modules that it loaded before are archived"
        )
    elif trace.status:
        _warn(
            f"the program ended with status {trace.status}; "
            "the modules that it loaded before are archived"
        )
    return trace.entries


def _imported(entries: Sequence[Entry], options: argparse.Namespace) -> list[Entry]:
    importable = (entry for entry in entries if entry.is_imported and entry.pattern is None)
    names = [entry.name for entry in importable if entry.file is None]
    imports = trace_imports(dict.fromkeys([*names, *options.package]), options.path)
    for name, reason in imports.failures:
        _warn(f"cannot import {name}: {reason}")
    return imports.entries


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "dump",
        _DESCRIPTION,
        _EPILOG,
        "%(prog)s [options] [LIST ...] ARCHIVE [--script PROGRAM ... | --run PROGRAM ...]",
    )
    parser.add_argument("files", nargs="+", metavar="LIST ... ARCHIVE", help=argparse.SUPPRESS)
    which = parser.add_argument_group("which modules")
    which.add_argument(
        "--package",
        metavar="NAME[,NAME...]",
        action="extend",
        type=_module_names,
        default=[],
        help="a package with all its submodules, or a module; may be repeated",
    )
    which.add_argument(
        "--stdlib",
        action="store_true",
        help="the standard library with its frozen modules, but without test, idlelib, "
        "tkinter, turtledemo and ensurepip",
    )
    which.add_argument(
        "--site-packages",
        action="store_true",
        help="all modules in site-packages of this interpreter or virtual environment",
    )
    which.add_argument(
        "--path",
        metavar="DIR",
        action="append",
        type=_directory,
        default=[],
        help="look for modules in DIR first, as a script in DIR does, or a program with DIR in "
        "PYTHONPATH; may be repeated",
    )
    which.add_argument(
        "--import",
        dest="do_import",
        action="store_true",
        help="import the modules of the LISTs and of --package in a separate process, and add "
        "all modules that these imports load, such as submodules that are chosen at run time",
    )
    which.add_argument(
        "--script",
        nargs=argparse.REMAINDER,
        metavar="PROGRAM ...",
        help="run a program (a script, -m MODULE or -c CODE, with its arguments) and add the "
        "modules that it loads; must be the last option",
    )
    parser.add_argument(
        "--image",
        action="store_true",
        help="also import the modules of the LISTs and of --script in a new process, and freeze "
        "this process into ARCHIVE.image; `-X cds=ARCHIVE` then starts from the image, as long as "
        "nothing that the image depends on has changed",
    )
    parser.add_argument(
        "--run",
        nargs=argparse.REMAINDER,
        metavar="PROGRAM ...",
        help="with --image: freeze the running program itself (a script, -m MODULE or -c CODE, "
        "with its arguments), for later starts of this program; it is stopped before it first "
        "looks at what differs from run to run, or does what others can see; must be the last "
        "option",
    )
    parser.add_argument(
        "--with-arguments",
        action="store_true",
        help="with --run: the program may look at its arguments, and the image is used only for "
        "starts with the same arguments; without this option, the image is for any arguments",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="with --image: write no image if imports look at, or change, what differs from run "
        "to run (the clock, the process id, random bytes, the program's arguments, ...), because "
        "restored processes keep the old values; without this option, the command only reports "
        "the modules that do so",
    )
    parser.add_argument(
        "--freshness",
        choices=["mtime", "hash", "unchecked"],
        default="mtime",
        help="how a start checks that a source file has not changed, as in PEP 552: by "
        "modification time and size, or by a hash of its contents if only the time differs "
        "(default), always by this hash, or not at all, which is for installations that never "
        "change",
    )
    parser.add_argument(
        "--profile",
        metavar="FILE",
        action="append",
        default=[],
        help="group the objects that a run with -X cds_profile=FILE wrote to, so that such "
        "runs share more pages; may be repeated",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print the report as JSON")
    amount = output.add_mutually_exclusive_group()
    amount.add_argument("-v", "--verbose", action="store_true", help="name every module left out")
    amount.add_argument("-q", "--quiet", action="store_true", help="print no progress, no report")
    return parser


def _lines(path: str) -> list[str]:
    with open(path, encoding="ascii") as file:
        return file.read().split()


def _module_names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if not tracelist.is_module_name(name):
            raise argparse.ArgumentTypeError(
                f"not a module name: {name!r}; give names like json.decoder, separated by commas"
            )
    return names


def _directory(text: str) -> str:
    # `site` makes the entries of PYTHONPATH absolute, too; `__file__` begins with such an entry.
    path = os.path.abspath(text)
    if not os.path.isdir(path):
        raise argparse.ArgumentTypeError(f"no such directory: {text}; give another DIR")
    return path


def _warn(text: str) -> None:
    print(f"cds dump: warning: {text}", file=sys.stderr)


def _complain(text: str) -> None:
    print(f"cds dump: error: {text}", file=sys.stderr)


def _report(summary: Summary, verbose: bool) -> Iterator[str]:
    yield (
        f"{summary.archive}: {count(summary.modules, 'module')}, "
        f"{count(summary.directories, 'directory', 'directories')}, {size(summary.bytes)}"
    )
    width = max(map(len, summary.sections), default=0)
    for section, length in summary.sections.items():
        yield f"  {section:{width}}  {size(length):>10}"
    if summary.shared:
        yield f"Already in the standard library's archive: {count(summary.shared, 'module')}"
    yield from _package_lines(summary.packages, verbose)
    yield from _skipped_lines(summary.skipped, verbose)
    python = sys.orig_argv[0] if sys.orig_argv else "python"
    yield f"Use it: {shlex.quote(python)} -X {shlex.quote(f'cds={summary.archive}')} ..."


def _package_lines(packages: Sequence[PackageSizes], verbose: bool) -> Iterator[str]:
    if not packages:
        return
    shown = packages if verbose else packages[:_PACKAGES_SHOWN]
    rows: list[tuple[object, ...]] = [("Packages", "modules", ".pyc", "archive")]
    for package in shown:
        rows.append(
            (
                f"  {package.name}",
                package.modules,
                size(package.pyc_bytes),
                size(package.archive_bytes),
            )
        )
    rest = packages[len(shown) :]
    if rest:
        rows.append(
            (
                f"  {count(len(rest), 'other')} (--verbose)",
                sum(package.modules for package in rest),
                size(sum(package.pyc_bytes for package in rest)),
                size(sum(package.archive_bytes for package in rest)),
            )
        )
    yield from table(rows, "<>>>")


def _skipped_lines(skipped: Iterable[Skipped], verbose: bool) -> Iterator[str]:
    groups: dict[str, list[Skipped]] = {}
    for module in skipped:
        groups.setdefault(module.reason, []).append(module)
    if not groups:
        return
    number = sum(map(len, groups.values()))
    yield f"Not archived, and imported as usual: {count(number, 'module')}"
    for reason, modules in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        if verbose:
            yield f"  {reason}: {len(modules)}"
            for module in modules:
                yield f"    {_with_detail(module)}"
        else:
            names = [_with_detail(module) for module in modules[:_NAMES_SHOWN]]
            more = len(modules) - len(names)
            if more:
                names.append(f"and {more} more (--verbose names them)")
            yield f"  {reason}: {len(modules)}: {', '.join(names)}"


def _with_detail(module: Skipped) -> str:
    return module.name if module.detail is None else f"{module.name} ({module.detail})"


def _as_json(summary: Summary) -> dict[str, object]:
    return {
        "archive": summary.archive,
        "modules": summary.modules,
        "shared": summary.shared,
        "patterns": summary.patterns,
        "extensions": summary.extensions,
        "directories": summary.directories,
        "bytes": summary.bytes,
        "sections": summary.sections,
        "objects": summary.objects,
        "packages": [package._asdict() for package in summary.packages],
        "skipped": [module._asdict() for module in summary.skipped],
    }
