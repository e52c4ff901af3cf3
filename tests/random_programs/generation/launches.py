"""How a program is started, and how it ends."""

from dataclasses import dataclass

from generation.kinds import Kind


@dataclass(frozen=True)
class Launch:
    """How the interpreter gets the program."""

    name: str
    command: tuple[str, ...]
    # The file of the program, and where its own modules are; relative to the working directory.
    file: str | None
    own: str = ""


SCRIPT = Launch("script", ("program.py",), "program.py")

LAUNCHES = (
    Launch("script elsewhere", ("there/program.py",), "there/program.py", "there"),
    Launch("-m module", ("-m", "program"), "program.py"),
    Launch("-m package", ("-m", "whole.program"), "whole/program.py"),
    Launch("-m with __main__", ("-m", "whole"), "whole/__main__.py"),
    Launch("-c", ("-c", "TEXT"), None),
    Launch("zipapp", ("program.pyz",), "program.pyz"),
    Launch("directory", ("there",), "there/__main__.py", "there"),
)

ENDINGS = (
    Kind("exit status", "sys", in_main=("sys.exit(3)", "raise SystemExit('a message')")),
    Kind("exception", in_main=("1 / 0", "import there_is_no_module_at_all")),
    Kind("sudden end", "os, sys", in_main=("sys.stdout.flush(); os._exit(4)",)),
    Kind("killed", "os, signal", in_main=("os.kill(os.getpid(), signal.SIGKILL)",)),
)
