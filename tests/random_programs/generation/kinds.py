"""A kind of statement: how a program changes something, and how modules look at it."""

from dataclasses import dataclass
from random import Random

# Replaced by a number that no other statement has.
NUMBER = "@N"


@dataclass(frozen=True)
class Kind:
    """One thing that programs change, look at, or do."""

    name: str
    # The modules that its statements and expressions import.
    needs: str = ""
    # Statements of the program, or of a module while it is imported.
    changes: tuple[str, ...] = ()
    # Expressions, whose values do not differ between two plain runs.
    looks: tuple[str, ...] = ()
    # Statements of a module only.
    at_import: tuple[str, ...] = ()
    # Statements of the program only.
    in_main: tuple[str, ...] = ()


def numbered(text: str, number: int) -> str:
    return text.replace(NUMBER, str(number))


def one_of(random: Random, texts: tuple[str, ...], number: int) -> str:
    return numbered(random.choice(texts), number)
