"""Change the blocks that a module has made: `allocate.py MODULE ROUNDS SEED ...`.

Each seed has its own process and prints a line. If something was wrong, the exit status is not 0.
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
    # Each process begins with the original blocks.
    pid = os.fork() if seed != seeds[-1] else 0
    if pid == 0:
        world.run(Random(int(seed)), int(rounds))
        print(f"{seed}: {len(world.blocks)} blocks, {world.digest:08x}", flush=True)
        break
    failed |= os.waitpid(pid, 0)[1] != 0
sys.exit(failed)
