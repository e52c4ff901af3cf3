"""Changes the blocks that a module has made: `allocate.py MODULE ROUNDS SEED ...`.

Does so in a process of its own for each seed, prints a line for each, and ends with an error if
something was wrong.
"""

import importlib
import os
import sys
from random import Random

module, rounds, *seeds = sys.argv[1:]
world = importlib.import_module(module).WORLD
failed = False
for seed in seeds:
    sys.stdout.flush()
    # Each begins with the blocks as they were made.
    pid = os.fork() if seed != seeds[-1] else 0
    if pid == 0:
        world.run(Random(int(seed)), int(rounds))
        print(f"{seed}: {len(world.blocks)} blocks, {world.digest:08x}", flush=True)
        break
    failed |= os.waitpid(pid, 0)[1] != 0
sys.exit(failed)
