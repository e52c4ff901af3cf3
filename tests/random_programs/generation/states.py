"""State of a process that programs change, and modules look at."""

from generation.kinds import Kind

_FINDER = """\
class Finder@N(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name == "virtual@N":
            return importlib.machinery.ModuleSpec(name, self)
        return None
    def exec_module(self, module):
        module.value = "virtual"
sys.meta_path.insert(0, Finder@N())
import virtual@N
saw.note("virtual", virtual@N.value)"""

_BLOCKER = """\
class Blocker@N(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ("colorsys", "other"):
            raise ModuleNotFoundError(name)
        return None
sys.meta_path.insert(0, Blocker@N())"""

_COUNTED_IMPORT = """\
def counting@N(name, *rest, original=builtins.__import__, **more):
    if saw.is_made_up(name):
        saw.note("__import__", name)
    return original(name, *rest, **more)
builtins.__import__ = counting@N"""

_WRAPPED_STREAM = """\
class Stream@N:
    def __init__(self, inner): self.inner = inner
    def write(self, text): return self.inner.write(text.replace("a", "A"))
    def __getattr__(self, name): return getattr(self.inner, name)
sys.stdout = Stream@N(sys.stdout)"""

_HANDLER = """\
class Handler@N(logging.Handler):
    def emit(self, record): saw.note("logged", record.getMessage())
logging.getLogger().addHandler(Handler@N())"""

_TRACE = """\
def tracing@N(frame, event, argument, is_made_up=saw.is_made_up, note=saw.note):
    if event == "call" and is_made_up(frame.f_globals.get("__name__", "")):
        note("traced", frame.f_globals["__name__"], frame.f_code.co_name)
sys.settrace(tracing@N)"""

STATES = (
    Kind(
        "environment",
        "os",
        (
            "os.environ['GEN_A'] = 'set@N'",
            "os.environ.pop('GEN_B', None)",
            "os.environ.setdefault('GEN_C', 'default@N')",
            "os.environ.update(GEN_A='updated@N', GEN_D='@N')",
            "os.putenv('GEN_E', 'put@N')",
        ),
        (
            "[os.environ.get(name) for name in ('GEN_A', 'GEN_B', 'GEN_C', 'GEN_D')]",
            "sorted(name for name in os.environ if name.startswith('GEN_'))",
            "os.getenv('GEN_A', 'nothing')",
        ),
        in_main=("saw.note(os.popen('echo $GEN_A $GEN_E').read())",),
    ),
    Kind(
        "time zone",
        "os, time",
        (
            "os.environ['TZ'] = 'EST5EDT'; time.tzset()",
            "os.environ['TZ'] = 'XYZ-3'",
            "time.tzset()",
        ),
        ("time.tzname", "time.localtime(0).tm_hour", "time.strftime('%Z', time.localtime(0))"),
    ),
    Kind(
        "path",
        "os, sys",
        (
            "sys.path.insert(0, saw.EXTRA)",
            "sys.path.append(saw.EXTRA)",
            "sys.path[:] = [saw.EXTRA, *(entry for entry in sys.path if entry != saw.EXTRA)]",
            "sys.path.insert(1, saw.EXTRA); import shadowed; saw.note(shadowed.value)",
        ),
        (
            "[os.path.basename(entry) for entry in sys.path]",
            "__import__('shadowed').value",
            "__import__('only_extra').value",
            "len(sys.path)",
        ),
    ),
    Kind(
        "import hooks",
        "builtins, importlib.abc, importlib.machinery, sys, types",
        (
            _FINDER,
            _BLOCKER,
            _COUNTED_IMPORT,
            "sys.modules['colorsys'] = None",
            "sys.modules['other'] = types.SimpleNamespace(value='in its place')",
            (
                "sys.path_hooks.insert(0, lambda entry, error=ImportError: (_ for _ in ()).throw(error))"
                "; sys.path_importer_cache.pop(saw.EXTRA, None)"
            ),
            "sys.dont_write_bytecode = True",
        ),
        (
            "[getattr(finder, '__name__', type(finder).__name__) for finder in sys.meta_path]",
            "len(sys.path_hooks)",
            "__import__('colorsys').ONE_THIRD",
            "__import__('other').value",
            "sys.dont_write_bytecode",
            "builtins.__import__.__name__",
        ),
    ),
    Kind(
        "audit hooks",
        "sys",
        (
            (
                "sys.addaudithook(lambda event, arguments, note=saw.note: "
                "note('audited @N', event, *arguments) if event == 'gen.event' else None)"
            ),
        ),
        in_main=("sys.audit('gen.event', @N)",),
    ),
    Kind(
        "warnings",
        "warnings",
        (
            "warnings.simplefilter('error', DeprecationWarning)",
            "warnings.simplefilter('ignore')",
            "warnings.filterwarnings('always', category=UserWarning)",
            "warnings.showwarning = lambda *of, **more: saw.note('warned', of[0])",
            "warnings.formatwarning = lambda message, *of, **more: f'formatted: {message}\\n'",
            "warnings.filterwarnings('once', message='look')",
        ),
        (
            "[(entry[0], entry[2].__name__) for entry in warnings.filters]",
            "warnings.warn('look', UserWarning)",
            "warnings.warn('old', DeprecationWarning, stacklevel=2)",
            "[name for name in ('sre_parse',) if __import__(name)]",
            "exec('import sre_compile', {'__name__': '__main__'})",
        ),
    ),
    Kind(
        "locale",
        "locale",
        (
            "locale.setlocale(locale.LC_ALL, 'C')",
            "locale.setlocale(locale.LC_NUMERIC, 'C.UTF-8')",
            "locale.setlocale(locale.LC_ALL, '')",
        ),
        (
            "locale.setlocale(locale.LC_ALL)",
            "locale.getlocale(locale.LC_CTYPE)",
            "locale.localeconv()['decimal_point']",
            "locale.getpreferredencoding(False)",
        ),
    ),
    Kind(
        "decimal",
        "decimal",
        (
            "decimal.getcontext().prec = 5 + @N",
            "decimal.setcontext(decimal.ExtendedContext)",
            "decimal.getcontext().traps[decimal.Inexact] = True",
            "decimal.DefaultContext.prec = 9",
        ),
        (
            "decimal.getcontext().prec",
            "decimal.Decimal(1) / 3",
            "decimal.getcontext().traps[decimal.Inexact]",
            "decimal.DefaultContext.prec",
        ),
    ),
    Kind(
        "patched functions",
        "json, math, os.path, re, time",
        (
            "json.dumps = lambda value, **more: 'patched @N'",
            "math.pi = 3",
            "re.compile = lambda *of, original=re.compile: (saw.note('compile'), original(*of))[1]",
            "time.sleep = lambda seconds: saw.note('slept', seconds)",
            "os.path.exists = lambda name: '@N'",
        ),
        (
            "json.dumps([1])",
            "math.pi",
            "__import__('this_one_compiles').PATTERN.pattern",
            "time.sleep(0.25 if time.sleep.__name__ == '<lambda>' else 0)",
            "os.path.exists('/')",
        ),
    ),
    Kind(
        "patched classes",
        "collections, json, numbers, threading",
        (
            "collections.UserDict.extra = '@N'",
            "json.JSONEncoder.default = lambda self, value: 'default @N'",
            "numbers.Number.register(str)",
            "threading.Thread.name = '@N'",
            "class Thread@N(threading.Thread): pass\nthreading.Thread = Thread@N",
        ),
        (
            "getattr(collections.UserDict, 'extra', None)",
            "json.dumps(object)",
            "isinstance('text', numbers.Number)",
            "threading.Thread.__name__",
            "__import__('this_one_subclasses').Worker.__mro__[1].__name__",
        ),
    ),
    Kind(
        "builtins",
        "builtins",
        (
            "builtins.gen_added = 'added @N'",
            (
                "builtins.sorted = lambda values, original=sorted, **more: "
                "(saw.note('sorted'), original(values, **more))[1]"
            ),
            "builtins.print = lambda *of, original=print, **more: original('printed', *of, **more)",
        ),
        ("getattr(builtins, 'gen_added', None)", "sorted([2, 1])", "builtins.print.__name__"),
    ),
    Kind(
        "logging",
        "logging",
        (
            "logging.basicConfig(level=logging.DEBUG, format='%(levelname)s %(name)s %(message)s')",
            "logging.getLogger('gen').setLevel(logging.ERROR)",
            "logging.disable(logging.INFO)",
            "logging.addLevelName(25, 'LEVEL@N')",
            "logging.raiseExceptions = False",
            _HANDLER,
        ),
        (
            "logging.getLogger().level",
            "[type(handler).__name__ for handler in logging.getLogger().handlers]",
            "logging.getLogger('gen').isEnabledFor(logging.INFO)",
            "logging.getLevelName(25)",
            "logging.getLogger('gen').warning('from a look')",
        ),
    ),
    Kind(
        "signals",
        "os, signal",
        (
            "signal.signal(signal.SIGUSR1, lambda *of: saw.note('signal @N'))",
            "signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
            "signal.signal(signal.SIGTERM, signal.SIG_DFL)",
            "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])",
            "signal.signal(signal.SIGUSR1, lambda *of: None); os.kill(os.getpid(), signal.SIGUSR1)",
        ),
        (
            "getattr(signal.getsignal(signal.SIGUSR1), '__name__', signal.getsignal(signal.SIGUSR1))",
            "sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))",
            "signal.getsignal(signal.SIGINT) is signal.default_int_handler",
        ),
    ),
    Kind(
        "working directory",
        "os",
        ("os.chdir(saw.OUT)", "os.chdir('/')", "os.chdir(saw.EXTRA)"),
        ("os.getcwd()", "os.path.abspath('x')", "sorted(os.listdir())[:3]"),
    ),
    Kind(
        "umask",
        "os",
        ("os.umask(0o077)", "os.umask(0o002)"),
        ("oct(saw.umask())",),
    ),
    Kind(
        "seeds",
        "random",
        (
            "random.seed(@N); saw.FLAGS['seeded'] = True",
            "random.seed('text'); saw.FLAGS['seeded'] = True; random.random()",
        ),
        (
            "random.random() if 'seeded' in saw.FLAGS else None",
            "random.Random(7).randrange(1000)",
            "random.sample(range(100), 3) if 'seeded' in saw.FLAGS else None",
        ),
    ),
    Kind(
        "interpreter settings",
        "gc, sys, threading",
        (
            "gc.disable()",
            "gc.set_threshold(900 + @N)",
            "sys.setrecursionlimit(1500 + @N)",
            "sys.setswitchinterval(0.25)",
            "threading.stack_size(1 << 20)",
            "sys.set_int_max_str_digits(1000)",
        ),
        (
            "gc.isenabled(), gc.get_threshold()",
            "sys.getrecursionlimit()",
            "sys.getswitchinterval()",
            "threading.stack_size()",
            "sys.get_int_max_str_digits()",
        ),
    ),
    Kind(
        "hooks",
        "atexit, faulthandler, sys",
        (
            "sys.excepthook = lambda kind, *of: print('hooked', kind.__name__)",
            "sys.displayhook = lambda value: print('shown', value)",
            "sys.unraisablehook = lambda of: print('unraisable', of.exc_type.__name__)",
            "faulthandler.enable()",
            "atexit.register(print, 'at exit @N')",
            _TRACE,
        ),
        (
            "sys.excepthook is sys.__excepthook__",
            "sys.displayhook is sys.__displayhook__",
            "faulthandler.is_enabled()",
            "atexit._ncallbacks()",
            "sys.gettrace() is None",
        ),
    ),
    Kind(
        "streams",
        "io, sys",
        (
            _WRAPPED_STREAM,
            "sys.stdout.reconfigure(line_buffering=True)",
            "sys.stdout.reconfigure(encoding='ascii', errors='backslashreplace')",
            "sys.stderr = sys.stdout",
            (
                "held@N = sys.stdout; sys.stdout = io.StringIO(); print('kept'); "
                "saw.note(sys.stdout.getvalue()); sys.stdout = held@N"
            ),
        ),
        (
            "type(sys.stdout).__name__",
            "sys.stdout.line_buffering",
            "sys.stdout.encoding",
            "sys.stderr is sys.stdout",
            "sys.__stdout__ is sys.stdout",
        ),
    ),
    Kind(
        "registries",
        "codecs, copyreg, mimetypes, socket",
        (
            "codecs.register_error('gen', lambda error: ('?@N', error.end))",
            "copyreg.pickle(complex, lambda value: (complex, (0, @N)))",
            "mimetypes.add_type('gen/@N', '.gen')",
            "socket.setdefaulttimeout(3 + @N)",
        ),
        (
            "'\\xe9'.encode('ascii', 'gen')",
            "copyreg.dispatch_table[complex](1j)",
            "mimetypes.guess_type('x.gen')",
            "socket.getdefaulttimeout()",
        ),
    ),
    Kind(
        "context variables",
        "contextvars",
        (
            "saw.VARIABLE.set('set @N')",
            "token@N = saw.VARIABLE.set('@N'); saw.VARIABLE.reset(token@N)",
        ),
        ("saw.VARIABLE.get()", "contextvars.copy_context().run(saw.VARIABLE.get)"),
    ),
    Kind(
        "settings",
        "",
        ("saw.FLAGS['setting'] = '@N'", "saw.FLAGS.setdefault('list', []).append(@N)"),
        ("saw.FLAGS.get('setting')", "list(saw.FLAGS.get('list', []))"),
    ),
    Kind(
        "kernel attributes",
        "os, resource",
        (
            "resource.setrlimit(resource.RLIMIT_NOFILE, (200 + @N, 300))",
            "os.nice(1)",
            "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
        ),
        (
            "resource.getrlimit(resource.RLIMIT_NOFILE)",
            "os.nice(0)",
            "len(os.sched_getaffinity(0))",
        ),
    ),
)
