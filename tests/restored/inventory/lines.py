"""Collects the lines of a report."""

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")
# The option that selects the archive and the image, which differs between the compared runs.
_CHOICE = re.compile(r"(?<![a-z_])cds=[^\s\0\\'\",]*")


class Lines:
    """Lines by key. Each key occurs once."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}
        self._section = ""

    def section(self, name: str, report: "Callable[[Lines], None]") -> None:
        """Add the lines of a function. If it fails, add a line with the error."""
        self._section = name
        try:
            report(self)
        except Exception as error:
            self.add("failure", f"{type(error).__name__}: {error}")

    def add(self, key: str, value: object) -> None:
        """Add a line."""
        whole = f"{self._section}.{_clean(key)}"
        if whole in self._lines:
            raise ValueError(f"{whole} is reported twice")
        self._lines[whole] = _clean(value if isinstance(value, str) else repr(value))

    def ask(self, key: str, question: "Callable[[], object]") -> None:
        """Add the result or the error of a question."""
        try:
            self.add(key, question())
        except Exception as error:
            self.add(key, f"{type(error).__name__}: {error}")

    def ask_in_child(self, key: str, question: "Callable[[], object]") -> None:
        """Ask in a forked process, which may change its state, or be killed by the question."""
        self.add(key, in_child(question))

    def text(self) -> str:
        """Return all lines, sorted."""
        return "".join(f"{key}: {value}\n" for key, value in sorted(self._lines.items()))


def in_child(question: "Callable[[], object]") -> str:
    """Return what a function returns in a forked process, as text."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            try:
                value = question()
                answer = value if isinstance(value, str) else repr(value)
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            os.write(writer, answer.encode(errors="surrogateescape")[:60_000])
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as file:
        answered = file.read().decode(errors="surrogateescape")
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return answered if code == 0 else f"the process ended with {code}"


def _clean(value: str) -> str:
    value = _CHOICE.sub("cds=…", value)
    # Next to letters or digits, the same digits are a part of something else, such as a digest.
    value = re.sub(rf"(?<![0-9A-Za-z]){os.getpid()}(?![0-9A-Za-z])", "<pid>", value)
    value = _ADDRESS.sub("<address>", value)
    return value.replace("\0", "\\0").replace("\n", "\\n").replace("\r", "\\r")
