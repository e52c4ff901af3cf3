"""Makes a program of chosen kinds."""

from collections.abc import Sequence
from random import Random

from generation import imports
from generation.effects import EFFECTS
from generation.imports import IMPORTS, PLAIN, STOCK
from generation.kinds import Kind, one_of
from generation.launches import ENDINGS, LAUNCHES, SCRIPT
from generation.lifetimes import LIFETIMES
from generation.looks import LOOKS
from generation.program import BESIDE, EXTRA, LIBRARY, Module, Program, Run, Statement
from generation.states import STATES

KINDS = (*STATES, *LOOKS, *EFFECTS, *LIFETIMES, *IMPORTS)

# All names of kinds that can be selected.
NAMES = (
    *(kind.name for kind in KINDS),
    *(launch.name for launch in LAUNCHES),
    *(ending.name for ending in ENDINGS),
    "modules beside the program",
)

# Modules that are the same in all programs. Looks and changes need them.
FIXED = (
    ("shadowed", LIBRARY, "value = 'from the path'"),
    ("shadowed", EXTRA, "value = 'from elsewhere'"),
    ("only_extra", EXTRA, "value = 'from elsewhere'"),
    ("other", LIBRARY, "value = 'other'"),
    ("broken", LIBRARY, "1 / 0"),
    ("this_one_compiles", LIBRARY, "import re\nPATTERN = re.compile('a+gen')"),
    (
        "this_one_subclasses",
        LIBRARY,
        "import threading\nclass Worker(threading.Thread):\n    pass",
    ),
)

# The maximum number of kinds in a program.
_MOST_KINDS = 5


class _Maker:
    def __init__(self, random: Random, allowed: Sequence[str]) -> None:
        self.random = random
        self.allowed = allowed
        possible = [kind for kind in KINDS if kind.name in allowed]
        number = min(len(possible), random.randint(1, _MOST_KINDS))
        self.kinds = random.sample(possible, number)
        self.number = 0

    def statement(self, text: str, needs: str = "") -> Statement:
        self.number += 1
        return Statement(self.number, f"import {needs}\n{text}" if needs else text)

    def may(self, name: str) -> bool:
        return name in self.allowed

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def modules(self) -> list[Module]:
        """Make modules and packages. Each imports only those that come before it."""
        names = [(f"m{number}", f"m{number}.py") for number in range(1, self.random.randint(3, 5))]
        if self.chance(0.6):
            names += [("p1.part", "p1/part.py"), ("p1", "p1/__init__.py")]
        if self.chance(0.3):
            names.append(("p2.alone", "p2/alone.py"))
        modules: list[Module] = []
        for name, file in names:
            is_own = self.may("modules beside the program") and self.chance(0.3)
            module = Module(name, file, BESIDE if is_own else LIBRARY)
            # A package is in one place.
            if name == "p1":
                module.place = modules[-1].place
            self._fill(module, modules)
            modules.append(module)
        return modules

    def _fill(self, module: Module, known: Sequence[Module]) -> None:
        add = module.statements.append
        add(self.statement(f"value = {module.name!r}"))
        if known and self.chance(0.4):
            add(self.statement(f"import {self.random.choice(known).name}"))
        if module.name == "p1" and self.chance(0.7):
            add(self.statement("from . import part"))
        if self.chance(0.4):
            add(self.statement(f"import {self.random.choice(STOCK)}"))
        for kind in self.kinds:
            looks = self.random.sample(kind.looks, self.random.randint(0, len(kind.looks)))
            for look in looks:
                line = f"saw.look({module.name!r}, {kind.name!r}, lambda: ({look}))"
                add(self.statement(line, kind.needs))
            if kind.changes and self.chance(0.2) or kind.at_import and self.chance(0.4):
                text = one_of(self.random, kind.at_import or kind.changes, self.number)
                add(self.statement(text, kind.needs))

    def body(self, modules: Sequence[Module]) -> list[Statement]:
        """Return imports, with changes, looks and effects between them."""
        parts = [self._import(module.name) for module in modules]
        self.random.shuffle(parts)
        parts += [
            self.statement(f"import {name}")
            for name in self.random.sample(STOCK, self.random.randint(0, 3))
        ]
        for kind in self.kinds:
            for _ in range(self.random.randint(1, 3)):
                parts.insert(self.random.randint(0, len(parts)), self._of_kind(kind, modules))
        return parts

    def _import(self, module: str) -> Statement:
        text = one_of(self.random, PLAIN if self.chance(0.4) else PLAIN[:1], self.number)
        return self.statement(imports.importing(text, module))

    def _of_kind(self, kind: Kind, modules: Sequence[Module]) -> Statement:
        texts = (*kind.changes, *kind.in_main)
        if not texts and kind.looks:
            look = one_of(self.random, kind.looks, self.number)
            line = f"saw.look('program', {kind.name!r}, lambda: ({look}))"
            return self.statement(line, kind.needs)
        if not texts:
            return self._import(self.random.choice(modules).name)
        text = one_of(self.random, texts, self.number)
        plain = [module.name for module in modules if module.name.startswith("m")]
        text = imports.importing(text, self.random.choice(plain))
        return self.statement(text, kind.needs)


def make(seed: int, allowed: Sequence[str]) -> Program:
    """Return the program of a seed."""
    random = Random(seed)
    maker = _Maker(random, allowed)
    launches = [SCRIPT, *(launch for launch in LAUNCHES if launch.name in allowed)]
    launch = SCRIPT if maker.chance(0.4) else random.choice(launches)
    modules = maker.modules()
    main = Module("__main__", "", BESIDE)
    main.statements = maker.body(modules)
    main.statements.append(maker.statement("saw.finish()"))
    endings = [ending for ending in ENDINGS if ending.name in allowed]
    kinds = [kind.name for kind in maker.kinds]
    if endings and maker.chance(0.4):
        ending = random.choice(endings)
        text = one_of(random, ending.in_main, 0)
        main.statements.append(maker.statement(text, ending.needs))
        kinds.append(ending.name)
    modules += [_fixed(*module) for module in FIXED]
    if launch.command[0] == "-m" and "whole" in launch.command[1] and maker.chance(0.5):
        modules.append(_fixed("whole/__init__", BESIDE, ""))
    return Program(
        main,
        modules,
        launch.command,
        launch.file,
        launch.own,
        (
            Run((), {"GEN_A": "given", "GEN_B": "given"}, None),
            Run(("one",), {"GEN_A": "given", "GEN_B": "given"}, None),
            Run(("one", "two"), {"GEN_A": "another", "GEN_RUN": "third"}, "a line\n"),
        ),
        (launch.name, *kinds),
        maker.number,
    )


def _fixed(name: str, place: str, text: str) -> Module:
    """Return a module that cannot be dropped."""
    return Module(name, f"{name}.py", place, [Statement(0, text)])
