"""A program as statements that can be dropped one by one, and as files."""

import json
import os
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

# Directories of modules: on the path from the start, next to the program, or on the path later.
LIBRARY = "lib"
BESIDE = "app"
EXTRA = "extra"


@dataclass(frozen=True)
class Statement:
    number: int
    text: str


@dataclass(eq=False)
class Module:
    """A module, or the program itself."""

    name: str
    # Relative to its place.
    file: str
    place: str
    statements: list[Statement] = field(default_factory=list)

    def text(self, dropped: frozenset[int]) -> str:
        kept = (part.text for part in self.statements if part.number not in dropped)
        return "\n".join(["import saw", *kept, ""])


@dataclass(frozen=True)
class Run:
    """The command and the environment of one run."""

    arguments: tuple[str, ...]
    variables: Mapping[str, str]
    standard_input: str | None


@dataclass
class Program:
    main: Module
    modules: list[Module]
    # Options and the program's name; `-c` is followed by its text.
    command: tuple[str, ...]
    # The file of the program, or an archive with it, and where its own modules are, in `BESIDE`.
    file: str | None
    own: str
    runs: tuple[Run, ...]
    kinds: tuple[str, ...]
    statements: int = 0

    def write(self, directory: str, dropped: frozenset[int]) -> None:
        """Write the files, and the description of the run."""
        text = self.main.text(dropped)
        files = {module: module.text(dropped) for module in self.modules}
        home = os.path.join(directory, BESIDE)
        if self.file is not None and self.file.endswith(".pyz"):
            os.makedirs(home, exist_ok=True)
            # The files in the archive have a fixed time.
            with zipfile.ZipFile(os.path.join(home, self.file), "w") as archive:
                archive.writestr(zipfile.ZipInfo("__main__.py"), text)
                for module in [module for module in files if module.place == BESIDE]:
                    archive.writestr(zipfile.ZipInfo(module.file), files.pop(module))
        else:
            os.makedirs(os.path.join(home, self.own), exist_ok=True)
            if self.file is not None:
                _write(os.path.join(home, self.file), text)
        for module, content in files.items():
            own = self.own if module.place == BESIDE else ""
            _write(os.path.join(directory, module.place, own, module.file), content)
        _write(os.path.join(directory, "listing.txt"), self._listing(dropped))
        command = [text if word == "TEXT" else word for word in self.command]
        _write(os.path.join(directory, "program.json"), json.dumps(self._description(command)))

    def _description(self, command: Iterable[str]) -> dict[str, object]:
        return {
            "command": list(command),
            "statements": self.statements,
            "kinds": list(self.kinds),
            "runs": [
                {
                    "arguments": run.arguments,
                    "variables": dict(run.variables),
                    "standard_input": run.standard_input,
                }
                for run in self.runs
            ],
        }

    def _listing(self, dropped: frozenset[int]) -> str:
        """Return the program as text for people, without empty modules."""
        shown = [f"# python {' '.join(self.command)}", self.main.text(dropped)]
        for module in self.modules:
            if any(part.number not in dropped for part in module.statements if part.number):
                shown += [f"# {module.place}/{module.file}", module.text(dropped)]
        return "\n".join(shown)


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
