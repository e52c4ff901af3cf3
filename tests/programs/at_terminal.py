"""Run a command at a terminal of its own, and print its output: `at_terminal.py COMMAND...`.

End with the status of the command.
"""

import fcntl
import os
import pty
import struct
import sys
import termios


def main() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        os.execvp(sys.argv[1], sys.argv[1:])
    while True:
        try:
            said = os.read(terminal, 65536)
        except OSError:
            # No process has the terminal open any more.
            break
        os.write(1, said)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    sys.exit(status if status >= 0 else 128 - status)


main()
