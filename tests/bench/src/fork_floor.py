"""Import a program's modules. For each line of input, run the program in a fork, and time it."""

import gc
import importlib
import os
import runpy
import sys
import time

listing, *program = sys.argv[1:]
with open(os.devnull, "r+") as nowhere, open(listing) as lines:
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    for descriptor in (1, 2):
        os.dup2(nowhere.fileno(), descriptor)
    if program[0].endswith(".py"):
        sys.path[0] = os.path.dirname(os.path.abspath(program[0]))
    for line in lines:
        name = line.partition("#")[0].strip()
        if name != "re" or "# " not in line:
            try:
                importlib.import_module(name)
            except BaseException:
                # The program will get the same error.
                pass
    sys.stdout.flush()
    for kept, descriptor in zip(saved, (1, 2)):
        os.dup2(kept, descriptor)
gc.collect()
gc.freeze()
print("warm", flush=True)


def run() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    option, *rest = program
    if option == "-c":
        exec(rest[0], {"__name__": "__main__"})
    elif option == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = program
        runpy.run_path(option, run_name="__main__")


for _ in sys.stdin:
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run()
            status = 0
        except SystemExit as exit:
            status = 0 if exit.code in (None, 0) else 1
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    print(time.perf_counter() - start if status == 0 else "failed", flush=True)
