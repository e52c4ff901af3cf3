"""Run a command while a server answers each of its requests: `be_asked.py PORT COMMAND...`.

End with the status of the command.
"""

import os
import socket
import sys
import threading

_BODY = b"<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>"
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%s" % (len(_BODY), _BODY)
)


def main() -> None:
    port, *command = sys.argv[1:]
    listener = socket.create_server(("127.0.0.1", int(port)))
    threading.Thread(target=_serve, args=(listener,), daemon=True).start()
    pid = os.posix_spawn(command[0], command, os.environ)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    sys.exit(status if status >= 0 else 128 - status)


def _serve(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            heard = b""
            while b"\r\n\r\n" not in heard and (part := connection.recv(65536)):
                heard += part
            connection.sendall(_ANSWER)


main()
