"""Run a server, request paths, and end it: `ask_server.py PORT SIGNAL PATHS MAPS COMMAND...`.

Print the answers, copy the list of the server's mappings to the file MAPS, and end with the status
of the server.
"""

import os
import shutil
import signal
import socket
import sys
import time

_SECONDS = 60


def main() -> None:
    port, name, paths, maps, *command = sys.argv[1:]
    pid = os.posix_spawn(command[0], command, os.environ)
    answers = [_ask(int(port), path, pid) for path in paths.split(",")]
    shutil.copyfile(f"/proc/{pid}/maps", maps)
    os.kill(pid, signal.Signals[f"SIG{name}"])
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    for answer in answers:
        print("answer:", answer)
    sys.exit(status if status >= 0 else 128 - status)


def _ask(port: int, path: str, pid: int) -> str:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                connection.sendall(request.encode())
                answer = b""
                while part := connection.recv(65536):
                    answer += part
                return answer.decode(errors="replace")
        except ConnectionError:
            # The server does not listen yet.
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return "it has ended"
            time.sleep(0.02)
    return "none"


main()
