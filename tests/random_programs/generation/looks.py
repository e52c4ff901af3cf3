"""Looks at values that no program changes and that differ from run to run."""

from generation.kinds import Kind

LOOKS = (
    Kind("arguments", "sys", looks=("sys.argv[1:]", "len(sys.argv)", "'one' in sys.argv")),
    Kind("name of the program", "os, sys", looks=("os.path.basename(sys.argv[0])",)),
    Kind(
        "process id",
        "os",
        looks=(
            "saw.keep('pid', os.getpid()) == os.getpid()",
            "saw.keep('parent', os.getppid()) == os.getppid()",
        ),
    ),
    Kind(
        "clock",
        "time, datetime",
        looks=(
            "saw.keep('time', time.time()) >= saw.started() - 0.05",
            "saw.keep('now', datetime.datetime.now()).timestamp() >= saw.started() - 0.05",
            "saw.keep('monotonic', time.monotonic()) >= saw.started_monotonic() - 0.05",
            "time.process_time() < 60",
        ),
    ),
    Kind(
        "random bytes",
        "os, random, secrets, uuid",
        looks=(
            "saw.unique(os.urandom(8).hex())",
            "saw.unique(secrets.token_hex(8))",
            "saw.unique(uuid.uuid4().hex)",
            "saw.unique(str(random.random())) if 'seeded' not in saw.FLAGS else None",
            "saw.unique(str(saw.keep('generator', random.Random()).random()))",
        ),
    ),
    Kind(
        "terminals",
        "os, shutil, sys",
        looks=(
            "[os.isatty(stream) for stream in range(3)]",
            "sys.stdin.isatty()",
            "shutil.get_terminal_size((77, 7))",
        ),
    ),
    Kind(
        "standard input",
        "os, stat, sys",
        looks=("sys.stdin.read()", "stat.S_ISREG(os.fstat(0).st_mode)", "sys.stdin.closed"),
    ),
    Kind(
        "descriptors of streams",
        "fcntl, os, select, stat",
        looks=(
            "[stat.S_IFMT(os.fstat(stream).st_mode) for stream in range(3)]",
            "os.get_blocking(1)",
            "[fcntl.fcntl(stream, fcntl.F_GETFL) & os.O_ACCMODE for stream in range(3)]",
            "select.select([], [1], [], 0)[1]",
        ),
        in_main=(
            "duplicate@N = os.dup(1); os.write(duplicate@N, b'duplicate @N\\n')",
            (
                "duplicate@N = os.dup(1); os.dup2(2, 1); os.write(1, b'elsewhere @N\\n'); "
                "os.dup2(duplicate@N, 1)"
            ),
        ),
    ),
    Kind(
        "what the kernel tells",
        "os, resource",
        looks=(
            "[mask := os.umask(0), os.umask(mask)]",
            "os.getgroups()",
            "os.sched_getaffinity(0)",
            "resource.getrlimit(resource.RLIMIT_NOFILE)",
            "saw.keep('proc', os.readlink('/proc/self')) == str(os.getpid())",
            "saw.keep('status', os.stat('/proc/self').st_ino) == os.stat('/proc/self').st_ino",
            "os.path.exists(f'/proc/{os.getpid()}')",
        ),
    ),
    Kind(
        "host",
        "os, platform, socket",
        looks=(
            "socket.gethostname() == os.uname().nodename",
            "platform.node() == os.uname().nodename",
        ),
    ),
    Kind(
        "given variables",
        "os",
        looks=(
            "os.environ.get('GEN_RUN')",
            "'GEN_RUN' in os.environ",
            "os.environb.get(b'GEN_RUN')",
            "[name for name in os.environ if name == 'GEN_RUN']",
        ),
    ),
    Kind(
        "main module",
        "sys",
        looks=(
            "hasattr(sys.modules['__main__'], 'defined_first')",
            "getattr(sys.modules['__main__'].__spec__, 'name', None)",
            "bool(getattr(sys.modules['__main__'], '__file__', None))",
        ),
        in_main=("defined_first = @N",),
    ),
    Kind(
        "callers",
        "sys",
        looks=("saw.callers()",),
    ),
    Kind(
        "loaded modules",
        "sys",
        looks=(
            "'csv' in sys.modules",
            "'decimal' in sys.modules",
            "list(filter(saw.is_made_up, sys.modules))",
        ),
        in_main=("import csv", "import decimal"),
    ),
    Kind("order of events", in_main=("saw.FLAGS['ordered'] = True",)),
    Kind(
        "options",
        "sys",
        looks=("sys.flags.optimize, sys.flags.dev_mode", "sys.executable == saw.EXECUTABLE"),
    ),
    Kind(
        "threads",
        "threading",
        looks=("threading.active_count()", "threading.current_thread().name"),
        in_main=(
            (
                "threads@N = threading.Thread(target=saw.note, args=('thread',)); threads@N.start(); "
                "threads@N.join()"
            ),
        ),
        at_import=(
            (
                "worker@N = threading.Thread(target=saw.note, args=('thread',)); worker@N.start(); "
                "worker@N.join()"
            ),
        ),
    ),
)
