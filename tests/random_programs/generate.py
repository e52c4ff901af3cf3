"""Write a program to a directory: `generate.py SEED DIRECTORY [--kinds NAMES] [--but NAMES] ...`.

Lists are separated by commas: names of kinds that the program may contain (`--kinds`) or must not
contain (`--but`), and numbers of statements to drop (`--without`).
"""

import argparse
import os
import shutil

from generation.making import NAMES, make
from generation.program import LIBRARY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("directory")
    parser.add_argument("--kinds", default=",".join(NAMES))
    parser.add_argument("--but", default="")
    parser.add_argument("--without", default="")
    arguments = parser.parse_args()
    left_out = set(filter(None, arguments.but.split(",")))
    wanted = arguments.kinds.split(",")
    if unknown := sorted(left_out.union(wanted).difference(NAMES)):
        parser.error(f"there are no kinds {', '.join(unknown)}; there are {', '.join(NAMES)}")
    allowed = [name for name in wanted if name not in left_out]
    dropped = frozenset(map(int, filter(None, arguments.without.split(","))))
    make(arguments.seed, allowed).write(arguments.directory, dropped)
    for place in ("made", "out"):
        os.makedirs(os.path.join(arguments.directory, place), exist_ok=True)
    recorder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "saw.py")
    shutil.copy(recorder, os.path.join(arguments.directory, LIBRARY))


main()
