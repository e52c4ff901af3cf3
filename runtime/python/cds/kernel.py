"""What the kernel keeps for a process besides its memory, and no image has."""

import os

_STATUS = {
    "Umask": "the umask",
    "SigBlk": "blocked signals",
    "Cpus_allowed": "the processors that may be used",
    "Uid": "the user",
    "Gid": "the group",
    "Groups": "the groups",
    "CapEff": "capabilities",
    "NoNewPrivs": "privileges",
    "Seccomp": "the system calls that are allowed",
}


def state() -> dict[str, str]:
    """Return it, as far as imports might change it, with the names that messages have for it."""
    state = {
        "the working directory": os.getcwd(),
        "the session": f"{os.getpgrp()} {os.getsid(0)}",
        "the priority": str(os.getpriority(os.PRIO_PROCESS, 0)),
        "the name of the process": _read("comm"),
        "resource limits": _read("limits"),
    }
    for line in _read("status").splitlines():
        key, _, value = line.partition(":")
        if name := _STATUS.get(key):
            state[name] = value
    return state


def _read(name: str) -> str:
    with open(f"/proc/self/{name}", encoding="utf-8", errors="replace") as file:
        return file.read()
