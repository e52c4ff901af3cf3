"""A day in fast motion: 40 programs are started in six contexts with the cache, while their files change.

Each start has to print what a plain start prints.  Arguments: a seed, the number of starts, and an empty directory.
Prints the differences, and at the end a line with the numbers of starts, of restored starts, and of bytes in the cache.
The line before has the processor time of all starts with the cache, of the background processes, and of the plain
starts.  `CDS_DAY_PLAIN` is the interpreter of the plain starts.
"""

import contextlib
import ctypes
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

# What the programs of each package need of the standard library: they are tools of different sizes.
PACKAGES = [
    "json",
    "argparse, json, logging, pathlib, subprocess",
    "argparse, configparser, email.message, http.client, json, tempfile, urllib.request",
    "asyncio, dataclasses, json, logging.config, ssl, xml.etree.ElementTree",
    "csv, decimal, inspect, json, multiprocessing, sqlite3, typing, unittest.mock",
]
# Starts that run at the same time.
AT_ONCE = 3
# One in so many rounds changes files, waits for the background processes, or empties the cache.
CHANGES, WAITS, CLEARS = 10, 2, 500

PROGRAMS = {
    "plain": "import {p}.core, {p}.extra\nprint({p}.core.value(), {p}.extra.NAME)\n",
    "arguments": (
        "import argparse, sys, {p}.core\nparser = argparse.ArgumentParser()\nparser.add_argument('--x')\n"
        "print(parser.parse_known_args(), {p}.core.value(), len(sys.argv))\n"
    ),
    "variables": "import os, {p}.settings\nprint({p}.settings.MODE, os.environ.get('MODE'), {p}.settings.DATA)\n",
    "optional": (
        "import {p}\ntry:\n    import {p}.optional as found\nexcept ImportError as error:\n    found = error\n"
        "print(getattr(found, 'NAME', found))\n"
    ),
    "failing": "import {p}.core, {p}.failing\n{p}.failing.fail({p}.core.value())\n",
    "children": (
        "import subprocess, sys, {p}.core\n"
        "child = [sys.executable, '-c', 'import {p}.extra, sys; print({p}.extra.NAME, sys.argv)', 'x']\n"
        "print(subprocess.run(child, capture_output=True, text=True).stdout, {p}.core.value())\n"
    ),
    "late": (
        "import sys, os, {p}\nprint(sys.argv[1:], sorted(os.listdir(os.path.dirname({p}.__file__))))\n"
        "import {p}.extra, decimal\nprint({p}.extra.NAME, decimal.Decimal(1) / 3)\n"
    ),
    "exit": (
        "import atexit, {p}.core\natexit.register(print, 'the end')\n"
        "print(__debug__, {p}.core.value())\nraise SystemExit(4)\n"
    ),
}


PR_SET_CHILD_SUBREAPER = 36


class Times:
    """Processor times of child processes, by what they are for."""

    def __init__(self) -> None:
        # Background processes become children of this process.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.seconds = dict.fromkeys(("cached", "background", "plain"), 0.0)

    @contextlib.contextmanager
    def of(self, what: str):
        before = self._now()
        yield
        self.seconds[what] += self._now() - before

    def reap(self) -> None:
        """Wait for the background processes that have ended."""
        with self.of("background"), contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    @staticmethod
    def _now() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime


class World:
    def __init__(self, directory: Path, choose: random.Random) -> None:
        self.directory, self.choose, self.version = directory, choose, 0
        self.library = directory / "library"
        for name in ("library", "scripts", "elsewhere"):
            (directory / name).mkdir()
        for number in range(len(PACKAGES)):
            self.install(f"pack{number}")
            for kind, text in PROGRAMS.items():
                (directory / f"scripts/{kind}{number}.py").write_text(
                    text.format(p=f"pack{number}")
                )

    def install(self, name: str) -> None:
        """Install a package in a new version, as an installer does: the old files go first."""
        self.version += 1
        package = self.library / name
        shutil.rmtree(package, ignore_errors=True)
        package.mkdir()
        files = {
            "__init__": f"VERSION = {self.version}\n",
            "__main__": f"import {name}.core, sys\nprint({name}.core.value(), sys.argv[1:])\n",
            "core": f"import {PACKAGES[int(name[-1])]}\ndef value():\n    return json.dumps([{self.version}])\n",
            "extra": f"NAME = 'extra {self.version}'\n",
            "settings": "import os\nMODE = os.environ.get('MODE', 'none')\n"
            "with open(os.path.join(os.path.dirname(__file__), 'data.txt')) as file: DATA = file.read()\n",
            "failing": "\n" * self.choose.randrange(9)
            + "def fail(what):\n    raise ValueError(what)\n",
        }
        for module, text in files.items():
            (package / f"{module}.py").write_text(text)
        (package / "data.txt").write_text(f"data {self.version}")

    def change(self) -> None:
        self.version += 1
        name = f"pack{self.choose.randrange(len(PACKAGES))}"
        package = self.library / name
        match self.choose.randrange(7):
            case 0:
                self.install(name)
            case 1:
                (package / "extra.py").write_text(f"NAME = 'edited {self.version}'\n")
            case 2:
                (package / "data.txt").write_text(f"edited data {self.version}")
            case 3:
                (package / "optional.py").write_text(f"NAME = 'optional {self.version}'\n")
            case 4:
                (package / "optional.py").unlink(missing_ok=True)
            case 5:
                # A module beside the scripts hides the package.
                hiding = self.directory / f"scripts/{name}.py"
                if hiding.exists():
                    hiding.unlink()
                else:
                    hiding.write_text("__path__ = []\n")
            case 6:
                script = self.directory / f"scripts/exit{self.choose.randrange(len(PACKAGES))}.py"
                script.write_text(f"print({self.version})\n" + script.read_text())

    def start(self) -> tuple[list[str], dict[str, str], Path]:
        """Return the arguments, the variables and the directory of a start."""
        number, kind = self.choose.randrange(len(PACKAGES)), self.choose.choice([*PROGRAMS])
        script = f"scripts/{kind}{number}.py"
        if kind == "late":
            program = [script]
        elif kind != "plain":
            program = [str(self.directory / script)]
        elif number % 2:
            program = ["-m", f"pack{number}"]
        else:
            program = ["-c", f"import pack{number}.core as core; print(core.value())"]
        context = self.choose.choice(["", "mode a", "mode b", "locale", "options", "directory"])
        directory = (
            self.directory / "elsewhere"
            if context == "directory" and kind != "late"
            else self.directory
        )
        options = ["-O"] if context == "options" else []
        variables = {
            "mode a": {"MODE": "a"},
            "mode b": {"MODE": "b"},
            "locale": {"LC_ALL": "C"},
        }.get(context, {})
        arguments = self.choose.choice([[], [], ["--x", "1"], ["y"]])
        return [*options, *program, *arguments], variables, directory


def main(seed: int, starts: int, directory: Path) -> None:
    choose = random.Random(seed)
    world = World(directory, choose)
    cache, stats = directory / "cache", directory / "stats"
    stats.mkdir()
    base = os.environ | {
        "PYTHONPATH": str(world.library),
        # CPython does not notice an edit of the same size in the same second.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHON_CDS_CACHE": str(cache),
    }
    restored = different = done = 0
    times = Times()
    plain_python = os.environ.get("CDS_DAY_PLAIN", sys.executable)

    def command(
        arguments: list[str], variables: dict[str, str], place: Path, settings: dict[str, str]
    ):
        python = plain_python if settings["PYTHON_CDS"] == "off" else sys.executable
        return subprocess.Popen(
            [python, *arguments],
            env=base | variables | settings,
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    while done < starts:
        if choose.randrange(CHANGES) == 0:
            world.change()
        if choose.randrange(WAITS) == 0:
            settle(cache)
            times.reap()
        if choose.randrange(CLEARS) == 0:
            shutil.rmtree(cache, ignore_errors=True)
        wanted = [world.start() for _ in range(choose.randint(1, AT_ONCE))]
        # A program is often started several times in a row.
        for _ in range(choose.randint(1, 3)):
            with times.of("cached"):
                cached = [
                    command(
                        *start, {"PYTHON_CDS": "auto", "PYTHON_CDS_STATS": f"{stats}/{number}.json"}
                    )
                    for number, start in enumerate(wanted)
                ]
                outcomes = [(*process.communicate(), process.returncode) for process in cached]
            done += len(wanted)
            for number, (start, outcome) in enumerate(zip(wanted, outcomes, strict=True)):
                with times.of("plain"):
                    plain = command(*start, {"PYTHON_CDS": "off"})
                    expected = (*plain.communicate(), plain.returncode)
                report = stats / f"{number}.json"
                is_restored = (
                    report.exists() and json.loads(report.read_text())["startup_image"] is not None
                )
                report.unlink(missing_ok=True)
                restored += is_restored
                if outcome != expected:
                    different += 1
                    print(
                        f"{start}, restored: {is_restored}\n  plain: {expected}\n  found: {outcome}"
                    )
    settle(cache)
    times.reap()
    print("seconds:", ", ".join(f"{what} {seconds:.1f}" for what, seconds in times.seconds.items()))
    size = sum(file.lstat().st_size for file in cache.rglob("*"))
    print(f"{done} starts, {restored} restored, {different} different, {size} bytes")


def settle(cache: Path) -> None:
    """Wait until no background process works in the cache."""
    for _ in range(1200):
        lines = [Path(process, "cmdline") for process in Path("/proc").glob("[0-9]*")]
        if not any(is_at_work(line, str(cache)) for line in lines):
            return
        time.sleep(0.05)
    print("a background process does not end")


def is_at_work(line: Path, cache: str) -> bool:
    try:
        words = line.read_bytes().split(b"\0")
    except OSError:
        return False
    return b"cds.auto" in words and any(word.startswith(cache.encode()) for word in words)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]).resolve())
