"""Effects that others can see, while modules are imported and between the imports."""

from generation.kinds import Kind


def _pair(name: str, needs: str, *statements: str) -> tuple[Kind, Kind]:
    """Return a kind: the effects of the program, and of a module when it is imported."""
    return (
        Kind(name, needs, in_main=statements),
        Kind(f"{name} at import", needs, at_import=statements),
    )


EFFECTS = (
    *_pair("output", "sys", "print('output @N')", "sys.stdout.write('text @N\\n')"),
    *_pair("errors", "sys", "print('error @N', file=sys.stderr)"),
    *_pair(
        "log file",
        "",
        "saw.append('log.txt', '@N')",
        "saw.append('other.txt', '@N')",
    ),
    *_pair(
        "files",
        "os",
        "os.makedirs(os.path.join(saw.OUT, 'made@N'))",
        "open(os.path.join(saw.OUT, 'held@N'), 'w').write('@N')",
        "open(os.path.join(saw.OUT, 'file'), 'a').close(); os.unlink(os.path.join(saw.OUT, 'file'))",
    ),
    *_pair(
        "children",
        "os, subprocess, sys",
        "sys.stdout.flush(); subprocess.run(['echo', 'child @N'])",
        "saw.note(subprocess.check_output(['echo', '@N']))",
        "sys.stdout.flush(); os.system('echo shell @N')",
        "subprocess.run([sys.executable, '-I', '-c', 'print(@N)'], stdout=subprocess.DEVNULL)",
    ),
    *_pair("forks", "os", "saw.fork('@N')"),
)
