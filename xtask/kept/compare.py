"""Find out which values of the clock, random bytes, process id, host and limits imports keep.

The modules are imported by processes that differ only in these values (`hold.py`, `other_run.c`).
"""

import argparse
import bisect
import marshal
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import _cds_archive
from cds.image import looks

_HERE = os.path.dirname(os.path.abspath(__file__))
# Stages of `other_run.c`.
_ALL_STAGES = -1
_NO_STAGE, _RENEWAL = 0, 2

# The bits of `other_run.c`.
_KINDS = {
    looks._CLOCK: 1,
    looks._RANDOM: 2,
    looks._PROCESS: 4,
    looks._SYSTEM: 8,
    looks._LIMITS: 16,
}
_EVERYTHING = sum(_KINDS.values())
_CONSTANTS = {
    value: name for name, value in vars(looks).items() if isinstance(value, str) and name[0] == "_"
}

# A forked child keeps these values, too. The modules use them to distinguish what is made before
# the fork from what is made after the fork.
_KEPT_BY_CHILDREN = {("sqlfluff.core.helpers.identity", looks._RANDOM)}

# The standard library.
_STANDARD = "standard"

_WORD = 8
_PAGE = 4096
# How many differences of each kind are shown.
_FEW = 12
_PATIENCE = 2.0


# Freed memory is cleared, and no memory contains the processor on which a thread runs.
_TUNABLES = (
    "glibc.malloc.tcache_count=0",
    "glibc.malloc.perturb=85",
    "glibc.pthread.rseq=0",
)


class ImportsError(Exception):
    """The modules cannot be imported and examined."""


class Mapping(NamedTuple):
    """Memory that a process may write to, and its place in the copy."""

    start: int
    end: int
    offset: int
    name: str


class Run:
    """The results that a process has written before its end."""

    def __init__(self, directory: str, number: int) -> None:
        with open(f"{directory}/told", "rb") as file:
            failures, names, stages, lines, places = marshal.load(file)
        self.failures: list[str] = failures
        # Modules by their files.
        self.names: dict[str, str] = names
        # The stages in which modules are imported.
        self.stages: dict[str, int] = stages
        self.objects: dict[str, str] = dict(lines)
        found = sorted(
            (start, start + size, path)
            for (start, size), (path, _) in zip(places, lines, strict=True)
        )
        self._starts = [start for start, _, _ in found]
        self._places: list[tuple[int, int, str]] = found
        self.bases: dict[str, int] = {}
        self.memory = f"{directory}/memory.{number}"
        self.mappings: list[Mapping] = []

    def read_maps(self, directory: str) -> None:
        """Read the mappings of the process, and move the copy of its memory."""
        os.replace(f"{directory}/memory", self.memory)
        offset = 0
        with open(f"{directory}/maps", encoding="utf-8") as file:
            lines = file.read().splitlines()
        last, is_library = Mapping(0, 0, 0, ""), False
        for line in lines:
            is_copied, addresses, _, _, _, _, *rest = line.split(None, 6)
            start, end = (int(address, 16) for address in addresses.split("-"))
            name = rest[0] if rest else ""
            self.bases.setdefault(name, start)
            if not name and start == last.end and is_library:
                # Variables of the library that are not in its file (.bss).
                name = last.name
            last = Mapping(start, end, offset, name)
            is_library = is_copied == "+" and name.startswith("/")
            if is_copied == "+":
                self.mappings.append(last)
                offset += end - start

    def object_at(self, address: int) -> str | None:
        """Return the path of the object at an address."""
        place = bisect.bisect_right(self._starts, address) - 1
        if place < 0 or address >= self._places[place][1]:
            return None
        return self._places[place][2]


class Comparison(NamedTuple):
    """The differences between two runs."""

    # By the path of the object: its texts in the first and the other run.
    objects: dict[str, tuple[str, str]]
    # The number of differing words, by the names of the library and of the symbol.
    words: dict[tuple[str, str], int]
    # The number of words that also differ between equal runs.
    unsteady: int


class Kept:
    """Finds out what imports keep, by runs with other answers."""

    def __init__(self, library: str, directory: str, modules: Sequence[str]) -> None:
        self._library = library
        self._directory = directory
        self._modules = modules
        self._runs = 0
        self._symbols: dict[str, list[tuple[int, int, str]]] = {}
        self.looks = self._find_looks()
        self._first = self._run(0, ())
        self.failures = self._first.failures
        self._second = self._run(0, ())
        # Differences between equal runs, which cannot be judged.
        self.unsteady: dict[str, tuple[str, str]] = {}
        self.unsteady = self._differing_objects(self._first, self._second)

    def compare(self, kinds: int, modules: Iterable[str] | None = None) -> Comparison:
        """Give other answers of these kinds to some modules, or to all."""
        stages = [_ALL_STAGES]
        if modules is not None:
            stages = [self._first.stages.get(module, _NO_STAGE) for module in modules]
        other = self._run(kinds, stages)
        objects = self._differing_objects(self._first, other)
        words, unsteady = self._differing_words(other)
        os.remove(other.memory)
        # These are already reported as objects.
        words = {owner: count for owner, count in words.items() if owner[1] not in objects}
        return Comparison(objects, words, unsteady)

    def look_again(self) -> None:
        """Find values that change over time, although no module reads the clock."""
        other = self._run(0, ())
        os.remove(other.memory)
        self.unsteady |= self._differing_objects(self._first, other)

    def renewed(self) -> set[str]:
        """Return the paths of the objects that a restored process renews."""
        other = self._run(_EVERYTHING, [_RENEWAL], "renew")
        os.remove(other.memory)
        differing = self._differing_objects(self._first, other)
        return {
            path
            for path in differing
            # If a path is missing, the object may only have another path, and is not renewed.
            if path in other.objects or any(above in differing for above in _above(path))
        }

    def end(self) -> None:
        os.remove(self._first.memory)
        os.remove(self._second.memory)

    def _command(self) -> list[str]:
        script = os.path.join(_HERE, "hold.py")
        options = ["-P", "-X", "cds=off"]
        return [sys.executable, *options, script, self._directory, *self._modules]

    def _variables(self) -> dict[str, str]:
        kept = {
            name: os.environ[name] for name in ("HOME", "PATH", "PYTHONPATH") if name in os.environ
        }
        # With malloc, freed memory is cleared: only kept values differ.
        return kept | {
            "LANG": "C.UTF-8",
            "PYTHONHASHSEED": "0",
            "PYTHONMALLOC": "malloc",
            "GLIBC_TUNABLES": ":".join(_TUNABLES),
        }

    def _settle(self, kinds: int, stages: Iterable[int], task: str) -> None:
        settings = " ".join(map(str, [kinds, *stages]))
        for name, text in (("settings", settings), ("task", task)):
            with open(f"{self._directory}/{name}", "w", encoding="utf-8") as file:
                file.write(text)

    def _find_looks(self) -> dict[tuple[str, str], None]:
        """Return the modules and what they look at when they are imported, in this order."""
        self._settle(0, (), "looks")
        record = f"{self._directory}/record"
        open(record, "wb").close()
        status, _ = _cds_archive.run_observed(
            [*map(os.fsencode, self._command())],
            [os.fsencode(f"{name}={value}") for name, value in self._variables().items()],
            None,
            record,
            0,
            None,
        )
        if status != 0:
            raise ImportsError(f"the imports ended the process with status {status}")
        with open(record, "rb") as file:
            items = file.read().split(b"\0")
        names = Run(self._directory, 0).names
        found: dict[tuple[str, str], None] = {}
        for item in items:
            if item[:1] == b"x":
                for what, _, files in looks.of_record([item[1:]]):
                    if files[0] in names and files[0] != os.path.join(_HERE, "hold.py"):
                        found[names[files[0]], what] = None
        return found

    def _run(self, kinds: int, stages: Iterable[int], task: str = "holds") -> Run:
        self._settle(kinds, stages, task)
        self._runs += 1
        result = subprocess.run(
            self._command(),
            env=self._variables() | {"LD_PRELOAD": self._library},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if result.returncode != 0:
            told = result.stderr.decode(errors="replace")
            raise ImportsError(f"the imports ended with status {result.returncode}:\n{told}")
        run = Run(self._directory, self._runs)
        run.read_maps(self._directory)
        return run

    def _differing_objects(self, one: Run, other: Run) -> dict[str, tuple[str, str]]:
        differing = {}
        for path, text in one.objects.items():
            if (found := other.objects.get(path, "nothing")) != text:
                differing[path] = text, found
        for path, found in other.objects.items():
            if path not in one.objects:
                differing[path] = "nothing", found
        return {path: texts for path, texts in differing.items() if path not in self.unsteady}

    def _differing_words(self, other: Run) -> tuple[dict[tuple[str, str], int], int]:
        """Return in how many words the other run differs from both equal runs."""
        found: dict[tuple[str, str], int] = {}
        unsteady = 0
        places = {(one.start, one.end): one for one in self._second.mappings}
        others = {(one.start, one.end): one for one in other.mappings}
        with (
            open(self._first.memory, "rb") as first_file,
            open(self._second.memory, "rb") as second_file,
            open(other.memory, "rb") as other_file,
        ):
            for mapping in self._first.mappings:
                key = mapping.start, mapping.end
                if key not in places or key not in others:
                    name = os.path.basename(mapping.name) or "other memory"
                    found[name, "mapped elsewhere, or grown"] = 1
                    continue
                for offset in range(0, mapping.end - mapping.start, _PAGE):
                    pages = []
                    for file, at in (
                        (first_file, mapping),
                        (second_file, places[key]),
                        (other_file, others[key]),
                    ):
                        file.seek(at.offset + offset)
                        pages.append(file.read(_PAGE))
                    if pages[0] == pages[1] == pages[2]:
                        continue
                    for word in range(0, _PAGE, _WORD):
                        one, same, differing = (page[word : word + _WORD] for page in pages)
                        if one != same:
                            unsteady += 1
                        elif one != differing and mapping.name != self._library:
                            owner = self._owner(mapping, mapping.start + offset + word)
                            found[owner] = found.get(owner, 0) + 1
        return found, unsteady

    def _owner(self, mapping: Mapping, address: int) -> tuple[str, str]:
        """Return the owner of a word: the library, and the symbol or the path of the object."""
        if (path := self._first.object_at(address)) is not None:
            return "objects", path
        if not mapping.name.startswith("/"):
            return mapping.name or "other memory", ""
        if mapping.name not in self._symbols:
            self._symbols[mapping.name] = _symbols_of(mapping.name)
        symbols = self._symbols[mapping.name]
        base = 0 if mapping.name == _PROGRAM else self._first.bases[mapping.name]
        place = bisect.bisect_right(symbols, (address - base, sys.maxsize, "")) - 1
        start, size, symbol = symbols[place] if place >= 0 else (0, 0, "")
        is_of_symbol = address - base < start + size
        return os.path.basename(mapping.name), symbol if is_of_symbol else ""


def _above(path: str) -> Iterator[str]:
    """Yield the paths of the objects that contain an object."""
    for place in range(len(path) - 1, 0, -1):
        if path[place] in ".[{":
            yield path[:place]


# Not position-independent: its symbols have the addresses that its file says.
_PROGRAM = os.path.realpath("/proc/self/exe")


def _symbols_of(library: str) -> list[tuple[int, int, str]]:
    """Return the symbols of a library: address, size and name."""
    for option in ("--defined-only", "--dynamic"):
        try:
            result = subprocess.run(
                ["nm", "--print-size", option, library], capture_output=True, text=True, check=False
            )
        except OSError:
            return []
        lines = (line.split() for line in result.stdout.splitlines())
        found = [(int(line[0], 16), int(line[1], 16), line[3]) for line in lines if len(line) == 4]
        if found:
            return sorted(found)
    return []


def _catalogue_entry(module: str, what: str, reason: str) -> str:
    constant = _CONSTANTS.get(what, repr(what))
    return f'("{module}", {constant}): "{reason}",'


class Progress:
    """Prints the current step, if the work takes longer than `_PATIENCE` seconds."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._start = time.monotonic()

    def __call__(self, text: str) -> None:
        passed = time.monotonic() - self._start
        if passed > _PATIENCE:
            print(f"  {passed:5.0f} s  {self._subject}: {text}", file=sys.stderr, flush=True)


def _shown(differing: dict[str, tuple[str, str]], renewed: set[str], most: int) -> Iterator[str]:
    """Yield lines about the first `most` differing objects."""
    for path, (one, other) in [*differing.items()][:most]:
        remark = "  (renewed)" if path in renewed else ""
        yield f"{path}: {one} != {other}{remark}"
    if len(differing) > most:
        yield f"and {len(differing) - most} others"


def _memory_shown(words: dict[tuple[str, str], int], most: int) -> Iterator[str]:
    """Yield lines about memory, by library."""
    libraries: dict[str, dict[str, int]] = {}
    for (library, symbol), count in words.items():
        libraries.setdefault(library, {})[symbol] = count
    for library, symbols in libraries.items():
        few = sorted(symbols.items(), key=lambda item: -item[1])[:most]
        names = ", ".join(f"{name} {count}" for name, count in few if name)
        yield f"{library}: {_words(sum(symbols.values()))}{f' ({names})' if names else ''}"


def _words(count: int) -> str:
    return "1 word" if count == 1 else f"{count} words"


def _in_catalogue(module: str, what: str) -> bool:
    entries = (module, *(f"{package}.*" for package in (module, *_packages(module))))
    return any((entry, what) in looks._CATALOGUE for entry in entries)


def _packages(module: str) -> Iterator[str]:
    """Yield the packages that contain a module."""
    while module := module.rpartition(".")[0]:
        yield module


# An entry of a table whose keys are ids of objects, and the number of entries that a weak table
# will remove. Both depend on the addresses of objects, and so on the lengths of all texts.
_OF_ADDRESSES = re.compile(r"\.data\[\d{7,}\]|\._dirty_len$")


def _does_not_count(path: str) -> bool:
    """Return whether an object depends on addresses, or is a number in the catalogue."""
    is_number = any((above, looks.NUMBERS) in looks._CATALOGUE for above in _above(path))
    return is_number or _OF_ADDRESSES.search(path) is not None


def _cannot_be_judged(path: str) -> bool:
    """Return whether an object's module keeps a value that no answer of `other_run.c` changes."""
    modules = {*_above(path)}
    return any(entry in modules and what not in _KINDS for entry, what in looks._CATALOGUE)


class Verdict(NamedTuple):
    """What a module keeps of the values that it looks at."""

    module: str
    what: str
    comparison: Comparison | None
    stale: list[str]


def _judge(
    kept: Kept, progress: Progress, is_known: Callable[[str, str], bool]
) -> tuple[list[Verdict], set[str]]:
    """Find out for each look what is kept, except for looks that are known."""
    progress("another run in all respects")
    whole = kept.compare(_EVERYTHING)
    renewed: set[str] = set()
    if whole.objects:
        progress("what is renewed")
        renewed = kept.renewed()
    looked = [(module, what) for module, what in kept.looks if what in _KINDS]
    asked = [look for look in looked if not is_known(*look)]
    together = whole
    if asked and (whole.objects or whole.words) and len(looked) > 1:
        progress("another run for all modules that look")
        modules = dict.fromkeys(module for module, _ in asked)
        # Only these kinds differ, although the modules may look at others, too.
        kinds = sum({_KINDS[what] for _, what in asked})
        together = kept.compare(kinds, modules)
    comparisons: dict[tuple[str, str], Comparison] = {}
    for module, what in asked:
        comparisons[module, what] = together
        if len(asked) > 1 and (together.objects or together.words):
            progress(f"another run for {module}: {what}")
            comparisons[module, what] = kept.compare(_KINDS[what], [module])
    if whole.objects:
        progress("another equal run")
        kept.look_again()
    verdicts = []
    for module, what in kept.looks:
        comparison = comparisons.get((module, what))
        stale = []
        if comparison is not None:
            for path in kept.unsteady.keys() & comparison.objects.keys():
                del comparison.objects[path]
            stale = [it for it in comparison.objects if not (it in renewed or _does_not_count(it))]
        verdicts.append(Verdict(module, what, comparison, stale))
    if not looked and (whole.objects or whole.words):
        # Kept values, although no look of a module is known.
        verdicts.append(Verdict("?", "no look is known", whole, [*whole.objects]))
    return verdicts, renewed


def _report(kept: Kept, verdicts: list[Verdict], renewed: set[str], most: int) -> None:
    for failure in kept.failures:
        print(f"not imported: {failure}")
    if kept.unsteady:
        print("differs between equal runs, too:")
        for line in _shown(kept.unsteady, set(), most):
            print(f"  {line}")
    for module, what, comparison, stale in verdicts:
        remark = ", in the catalogue" if _in_catalogue(module, what) else ""
        print(f"{module}: {what}{remark}")
        if comparison is None:
            if not remark:
                print("  cannot be tested: no answer of other_run.c changes it")
            continue
        for line in _shown(comparison.objects, renewed, most):
            print(f"  {line}")
        for line in _memory_shown(comparison.words, most):
            print(f"  memory: {line}")
        if comparison.objects and stale:
            print("  keeps what is not renewed")
        elif comparison.objects:
            print("  keeps what is renewed")
        else:
            print("  keeps nothing" + (", but in C code" if comparison.words else ""))
        is_clear = not (stale or kept.unsteady or comparison.words)
        if is_clear and not remark:
            reason = "renewed" if comparison.objects else "not kept"
            print(f"  suggestion: {_catalogue_entry(module, what, reason)}")
    if not verdicts:
        print("looks at nothing that differs from run to run")


def _of_catalogue(library: str, directory: str, is_standard: bool) -> bool:
    """Check each entry of the catalogue, and return whether all are right.

    One process imports all modules of a package, or of the standard library. With `is_standard`,
    only the entries about the standard library are checked.
    """
    packages: dict[str, list[str]] = {}
    for entry in dict.fromkeys(entry for entry, what in looks._CATALOGUE if what in _KINDS):
        module = _module_of(entry)
        package = module.partition(".")[0]
        package = _STANDARD if package in sys.stdlib_module_names else package
        if package == _STANDARD or not is_standard:
            packages.setdefault(package, []).append(module)
    is_right = True
    for package, modules in packages.items():
        try:
            kept = Kept(library, directory, modules)
            verdicts, _ = _judge(kept, Progress(package), lambda *_: False)
        except ImportsError as error:
            print(f"{package}: {error}")
            continue
        for failure in kept.failures:
            print(f"not imported: {failure}")
        unsteady = {it: kept.unsteady[it] for it in kept.unsteady if not _cannot_be_judged(it)}
        for line in _shown(unsteady, set(), _FEW):
            is_right = False
            print(f"{package}: WRONG, this differs between equal runs, too: {line}")
        for entry, what in looks._CATALOGUE:
            module = _module_of(entry)
            if module not in modules or what not in _KINDS:
                continue
            found = [
                verdict
                for verdict in verdicts
                if verdict.what == what
                and (
                    verdict.module == module or (module != entry and _is_in(verdict.module, module))
                )
            ]
            if not found:
                print(f"{entry}: {what}: not looked at")
            compared = looks._FACTS.get((entry, what))
            is_right &= all([_is_right(verdict, compared) for verdict in found])
        kept.end()
    return is_right


def _module_of(entry: str) -> str:
    return entry.removesuffix(".*").removesuffix("()")


def _is_in(module: str, package: str) -> bool:
    return module.startswith(f"{package}.")


def _is_right(verdict: Verdict, compared: str | None) -> bool:
    module, what = verdict.module, verdict.what
    if compared is not None:
        print(f"{module}: {what}: {compared} is compared instead")
        return True
    if (module, what) in _KEPT_BY_CHILDREN:
        print(f"{module}: {what}: kept as by a forked child")
        return True
    if verdict.comparison is None:
        print(f"{module}: {what}: not looked at")
        return True
    objects, words, _ = verdict.comparison
    if not verdict.stale:
        print(f"{module}: {what}: {'renewed' if objects else 'not kept'}")
    else:
        print(f"{module}: {what}: WRONG, it keeps")
        for line in _shown({path: objects[path] for path in verdict.stale}, set(), _FEW):
            print(f"  {line}")
    for line in _memory_shown(words, _FEW):
        print(f"  memory: {line}")
    return not verdict.stale


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", required=True)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--catalogue", choices=(_STANDARD, "all"))
    parser.add_argument("--each", action="store_true")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("modules", nargs="*")
    arguments = parser.parse_args()
    place = arguments.library, arguments.directory
    if arguments.catalogue:
        is_right = _of_catalogue(*place, arguments.catalogue == _STANDARD)
        return 0 if is_right else 1
    modules = arguments.modules
    # Looks that the catalogue has are only examined with `--all`.
    is_known = (lambda *_: False) if arguments.all else _in_catalogue
    for together in [[name] for name in modules] if arguments.each else [modules]:
        if arguments.each:
            print(f"== {together[0]}", flush=True)
        try:
            kept = Kept(*place, together)
            verdicts, renewed = _judge(kept, Progress(" ".join(together[:3])), is_known)
        except ImportsError as error:
            print(error)
            continue
        _report(kept, verdicts, renewed, sys.maxsize if arguments.all else _FEW)
        kept.end()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
