"""Run a command in a terminal and type: `terminal.py STEPS COMMAND...`.

STEPS is a JSON list of pairs: a regular expression to wait for, and the text to type then.
Prints the output of the command without the control sequences of the terminal, and the exit
status.
"""

import json
import os
import pty
import re
import select
import sys
import time

_SECONDS = 60

_CONTROL = re.compile(rb"\x1b(\[[0-9;?]*[@-~]|[=>])|\r")


def main() -> None:
    steps = json.loads(sys.argv[1])
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(sys.argv[2], sys.argv[2:])
    said = b""
    for awaited, typed in steps:
        heard = b""
        # Wait until the prompt reads: a ctrl-C that is typed before would get lost.
        while not re.search(awaited, text(heard), re.DOTALL) or not is_waiting(pid, terminal):
            is_ready = select.select([terminal], [], [], _SECONDS)[0]
            new = read(terminal) if is_ready else b""
            if not new:
                sys.exit(f"{awaited!r} was not printed: {text(said + heard)!r}")
            heard += new
        said += heard
        os.write(terminal, typed.encode())
    while new := read(terminal):
        said += new
    print(text(said))
    print("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def is_waiting(pid: int, terminal: int) -> bool:
    """Wait until a process sleeps; return whether it has written nothing more."""
    with open(f"/proc/{pid}/stat") as file:
        while file.read().rpartition(")")[2].split()[0] in "RD":
            time.sleep(0.001)
            file.seek(0)
    return not select.select([terminal], [], [], 0)[0]


def text(said: bytes) -> str:
    return _CONTROL.sub(b"", said).decode(errors="replace")


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:
        # The process has closed the terminal.
        return b""


main()
