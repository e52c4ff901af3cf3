//! The environment of restored processes: variables that imports have read must be the same, and changes that imports
//! have made are restored.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use cpython_cds_tests::{DUMP_IMAGE, Outcome, Project, python};

/// Prints the variables of each level: Python, C, and a process that the program starts.
const SHOW: &str = "
import ctypes, os, posix, subprocess
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
names = 'SET KEPT CHANGED GONE BACK BYTES IN_PYTHON IN_C BY_C PUT DEFAULT TEMPORARY LC_CTYPE'.split()
for name in names:
    print(name, os.environ.get(name), posix.environ.get(name.encode()), libc.getenv(name.encode()))
print(*os.environ.items(), sep='\\n')
print(os.environ._data is os.environb._data is posix.environ, type(posix.environ))
print(subprocess.check_output(['env']))
os.environ['LATER'] = os.environ.pop('SET', 'none')
os.system('env')
";

/// A program, a module that it imports, and a list with the module.
fn project(imported: &str, program: &str) -> Project {
    Project::new(&[
        ("lib/imported.py", imported),
        ("app.py", program),
        ("app.lst", "imported\n"),
    ])
}

/// The interpreter with variables.
fn command(project: &Project, variables: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = project.command(arguments);
    command.env("PYTHONPATH", project.path("lib"));
    // The directory of the module must not change.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.envs(variables.iter().copied());
    command
}

fn run(project: &Project, variables: &[(&str, &str)], arguments: &[&str]) -> Outcome {
    Outcome::of(&mut command(project, variables, arguments))
}

fn dump(project: &Project, variables: &[(&str, &str)]) {
    run(project, variables, &DUMP_IMAGE).success();
}

/// `restored`, or why the process was not restored.
fn told(outcome: &Outcome) -> String {
    if outcome.stderr.contains("cds: started from ") {
        return "restored".to_owned();
    }
    let mut lines = outcome.stderr.lines();
    let reason = lines.find_map(|line| Some(line.split_once(" is not used: ")?.1));
    reason.unwrap_or("no image").to_owned()
}

fn told_with(project: &Project, variables: &[(&str, &str)]) -> String {
    let arguments = ["-X", "cds=app.cds", "-X", "cds_stats", "app.py"];
    told(&run(project, variables, &arguments))
}

/// Asserts that the program is restored with these variables and has the same outcome as without an image.
#[track_caller]
fn assert_restored(project: &Project, variables: &[(&str, &str)]) {
    assert_eq!(told_with(project, variables), "restored", "{variables:?}");
    assert_same(project, variables);
}

#[track_caller]
fn assert_same(project: &Project, variables: &[(&str, &str)]) {
    let with = |option| run(project, variables, &["-X", option, "app.py"]);
    assert_eq!(with("cds=app.cds"), with("cds=off"), "{variables:?}");
}

/// `os.environ` changes what Python and C see, `os.putenv()` what C sees, `posix.environ` what Python sees. Variables
/// that imports did not read may have any value. A variable that is removed and set again comes last.
#[test]
fn what_imports_change_is_there() {
    let imported = "
import ctypes, os, posix
os.environ['SET'] = 'by import'
os.environ['CHANGED'] = 'by import'
os.environb[b'BYTES'] = b'by \\xff'
posix.environ[b'IN_PYTHON'] = b'by import'
os.putenv('IN_C', 'by import')
os.unsetenv('GONE')
os.environ['BACK'] = ''
del os.environ['BACK']
os.environ['BACK'] = 'by import'
os.environ['TEMPORARY'] = ''
del os.environ['TEMPORARY']
libc = ctypes.CDLL(None)
libc.setenv(b'BY_C', b'by import', 1)
libc.setenv(b'DEFAULT', b'by import', 0)
put = ctypes.create_string_buffer(b'PUT=by import')
libc.putenv(put)
";
    let project = project(imported, &format!("import imported\n{SHOW}"));
    dump(&project, &[]);
    assert_restored(&project, &[]);
    let all = "SET KEPT CHANGED GONE BYTES IN_PYTHON IN_C BY_C PUT OTHER";
    let given: Vec<_> = all.split(' ').map(|name| (name, "given")).collect();
    assert_restored(&project, &given);
    let reversed: Vec<_> = given.iter().rev().copied().collect();
    assert_restored(&project, &reversed);
    // Removing a variable, and using a default, shows whether the variable was set.
    for name in ["BACK", "TEMPORARY", "DEFAULT"] {
        let reason = told_with(&project, &[(name, "given")]);
        assert_eq!(reason, format!("the variable {name} has another value"));
        assert_same(&project, &[(name, "given")]);
    }
    // All variables were set when the image was taken.
    dump(&project, &given);
    assert_restored(&project, &given);
    assert_restored(&project, &[("GONE", "another")]);
    assert_restored(&project, &[]);
}

/// A variable that is read in any way is compared with its value, also if it is missing.
#[test]
fn what_imports_read_has_to_be_the_same() {
    let first = "import ctypes, os, posix\nread = getattr(ctypes.CDLL(None), 'getenv')\nread.restype = ctypes.c_char_p\n";
    for reading in [
        "value = os.environ.get('ASKED')",
        "value = os.environ['ASKED'] if 'ASKED' in os.environ else None",
        "value = os.getenv('ASKED')",
        "value = os.environb.get(b'ASKED')",
        "value = os.getenvb(b'ASKED')",
        "value = posix.environ.get(b'ASKED')",
        "value = os.environ._data.get(b'ASKED')",
        "from posix import environ\nvalue = b'ASKED' in environ",
        "value = os.path.expandvars('$ASKED')",
        "value = os.environ.pop('ASKED', None)",
        "value = os.environ.setdefault('ASKED', 'x')",
        "try:\n    del os.environ['ASKED']; value = 'there'\nexcept KeyError: value = 'missing'",
        "value = read(b'ASKED')",
        "r, w = os.pipe()\nif os.fork() == 0: os.write(w, os.environ.get('ASKED', '').encode()); os._exit(0)\nos.wait(); os.close(w); value = os.read(r, 9); os.close(r)",
    ] {
        let project = project(
            &format!("{first}{reading}\n"),
            "import imported\nprint(imported.value)\n",
        );
        dump(&project, &[]);
        assert_restored(&project, &[("OTHER", "1")]);
        for value in ["1", ""] {
            let reason = told_with(&project, &[("ASKED", value)]);
            assert_eq!(reason, "the variable ASKED has another value", "{reading}");
            assert_same(&project, &[("ASKED", value)]);
        }
        dump(&project, &[("ASKED", "1")]);
        assert_restored(&project, &[("ASKED", "1")]);
        assert_ne!(told_with(&project, &[("ASKED", "2")]), "restored");
        assert_ne!(told_with(&project, &[]), "restored");
    }
}

/// An import that goes through all variables depends on each.
#[test]
fn imports_that_look_at_all_variables_depend_on_each() {
    let in_c = "import ctypes\nenviron = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), 'environ')
value, index = [], 0
while environ[index]:
    value.append(environ[index]); index += 1
value = sorted(text for text in value if text.startswith(b'MINE_'))\n";
    for walk in [
        "value = sorted(name for name in os.environ if name.startswith('MINE_'))",
        "value = {name: text for name, text in os.environ.items() if name.startswith('MINE_')}",
        "value = [text for name, text in os.environb.items() if name.startswith(b'MINE_')]",
        "value = 'MINE_' in repr(os.environ)",
        "value = 'mine' in os.environ.values()",
        "value = len(os.environ)",
        "value = os.environ == {}",
        "value = subprocess.check_output(['sh', '-c', 'echo $MINE_A'])",
        "value = subprocess.check_output(['sh', '-c', 'echo $MINE_A'], env=dict(os.environ))",
        // Without close() the pipe may stay open.
        "stream = os.popen('echo $MINE_A'); value = stream.read(); stream.close()",
        "with open('/proc/self/environ', 'rb') as file: value = b'MINE_' in file.read()",
        in_c,
    ] {
        let project = project(
            &format!("import os, subprocess\n{walk}\n"),
            "import imported\nprint(imported.value)\n",
        );
        dump(&project, &[("GIVEN", "1"), ("LAST", "2")]);
        assert_restored(&project, &[("GIVEN", "1"), ("LAST", "2")]);
        for (variables, reason) in [
            (
                &[("GIVEN", "1"), ("LAST", "2"), ("MINE_A", "mine")][..],
                "the variable MINE_A is new",
            ),
            (
                &[("GIVEN", "2"), ("LAST", "2")],
                "the variable GIVEN has another value",
            ),
            (&[("LAST", "2")], "the variable GIVEN has another value"),
        ] {
            assert_eq!(told_with(&project, variables), reason, "{walk}");
            assert_same(&project, variables);
        }
    }
}

/// The order of variables can be seen, too.
#[test]
fn imports_that_look_at_all_variables_depend_on_their_order() {
    let project = project(
        "import os\nvalue = [name for name in os.environ if len(name) == 5]\n",
        "import imported\nprint(imported.value)\n",
    );
    let in_order = |variables: [&str; 2], arguments: &[&str]| {
        let mut command = Command::new("env");
        command.arg("-i").args(variables);
        command.arg(format!("PYTHONPATH={}", project.path("lib").display()));
        command.arg(python()).args(arguments);
        Outcome::of(command.current_dir(project.path("")))
    };
    in_order(["FIRST=1", "OTHER=2"], &DUMP_IMAGE).success();
    let stats = ["-X", "cds=app.cds", "-X", "cds_stats", "app.py"];
    assert_eq!(told(&in_order(["FIRST=1", "OTHER=2"], &stats)), "restored");
    let turned = in_order(["OTHER=2", "FIRST=1"], &stats);
    assert_eq!(told(&turned), "the variables have another order");
    assert_eq!(turned.stdout, "['OTHER', 'FIRST']\n");
}

/// Shells change these variables with each command. Code that iterates over all variables hardly needs these, but it
/// may keep them.
#[test]
fn variables_of_shells_count_for_those_who_ask_for_or_keep_them() {
    let shell = [
        ("PWD", "/"),
        ("OLDPWD", "/tmp"),
        ("SHLVL", "2"),
        ("_", "/x"),
    ];
    let elsewhere = [
        ("PWD", "/usr"),
        ("OLDPWD", "/"),
        ("SHLVL", "3"),
        ("_", "/y"),
    ];
    for (walk, depends) in [
        (
            "value = {k: v for k, v in os.environ.items() if k.startswith('MINE_')}",
            false,
        ),
        ("value = len(dict(os.environ))", false),
        ("value = subprocess.check_output(['echo', 'a'])", false),
        ("value = os.environ.copy()", true),
        ("value = dict(os.environ)", true),
        ("value = [f'{k}={v}' for k, v in os.environ.items()]", true),
        ("value = sorted(os.environb.items())", true),
        ("value = os.environ['PWD']", true),
        ("value = list(os.environ) and os.environ['PWD']", true),
    ] {
        let project = project(
            &format!("import os, subprocess\n{walk}\n"),
            "import imported\nprint(imported.value)\n",
        );
        dump(&project, &shell);
        assert_restored(&project, &shell);
        let told = told_with(&project, &elsewhere);
        assert_eq!(told == "restored", !depends, "{walk}: {told}");
        assert_same(&project, &elsewhere);
    }
}

/// Without a variable for the locale (cron, systemd, containers), Python sets one for itself and its children.
#[test]
fn a_process_without_a_locale_is_restored() {
    let project = project("import json\n", &format!("import imported\n{SHOW}"));
    let bare = |variables: &[&str], arguments: &[&str]| {
        let mut command = Command::new("env");
        command.arg("-i").args(variables);
        command.arg(format!("PYTHONPATH={}", project.path("lib").display()));
        command.arg(python()).args(arguments);
        Outcome::of(command.current_dir(project.path("")))
    };
    let stats = ["-X", "cds=app.cds", "-X", "cds_stats", "app.py"];
    let home = "HOME=/root";
    for (taken, started) in [
        (&[][..], &[][..]),
        (&[], &["PATH=/usr/bin", "OTHER=1"]),
        (
            &[home, "PATH=/bin:/usr/bin", "TERM=xterm", "PWD=/"],
            &[home],
        ),
        (&["LC_CTYPE=C"], &["OTHER=1", "LC_CTYPE=C"]),
    ] {
        bare(taken, &DUMP_IMAGE).success();
        let restored = bare(started, &stats);
        assert_eq!(told(&restored), "restored", "{taken:?} {started:?}");
        assert!(
            restored
                .stdout
                .contains("LC_CTYPE C.UTF-8 b'C.UTF-8' b'C.UTF-8'"),
            "{restored:?}"
        );
        let plain = bare(started, &["-X", "cds=off", "app.py"]);
        assert_eq!(restored.stdout, plain.stdout);
    }
    bare(&[], &DUMP_IMAGE).success();
    let refused = bare(&["LC_ALL=C.UTF-8"], &stats);
    assert_eq!(told(&refused), "the variable LC_ALL is new");
}

/// A `.pth` file, such as that of coverage, and `sitecustomize` run before the imports.
#[test]
fn what_site_reads_counts() {
    let project = project("", "import imported\nprint('program')\n");
    let version = run(
        &project,
        &[],
        &["-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
    );
    let site = format!(
        "user/lib/python{}/site-packages/start.pth",
        version.stdout.trim()
    );
    project.write(
        &site,
        "import os; os.environ.get('MEASURED') and print('measured')\n",
    );
    project.write(
        "lib/sitecustomize.py",
        "import os\nif os.getenvb(b'CUSTOM'): print('custom')\nos.environ['BY_SITE'] = '1'\n",
    );
    let user = project.path("user").display().to_string();
    let base = ("PYTHONUSERBASE", user.as_str());
    dump(&project, &[base]);
    assert_restored(&project, &[base]);
    for name in ["MEASURED", "CUSTOM"] {
        let variables = [base, (name, "1")];
        let reason = told_with(&project, &variables);
        assert_eq!(reason, format!("the variable {name} has another value"));
        assert_same(&project, &variables);
        dump(&project, &variables);
        assert_eq!(told_with(&project, &variables), "restored");
        dump(&project, &[base]);
    }
}

/// Variables that no code has read are not compared. `site` reads HOME at each start and builds directory names from
/// it: a restored process has the names for its own HOME.
#[test]
fn what_nobody_reads_may_be_anything() {
    let project = project(
        "import json\n",
        "import imported, os, site\nprint(os.environ['HOME'], site.USER_BASE, site.getusersitepackages())\n",
    );
    let own = project.path("").display().to_string();
    for taken_with in ["/", "/nowhere", "/tmp/"] {
        dump(&project, &[("HOME", taken_with)]);
        for home in ["/nowhere", "/", "", "//tmp//", "relative", &own] {
            assert_restored(&project, &[("HOME", home)]);
        }
    }
    // Without HOME, the directory comes from the database of users.
    let without_home = |option| {
        let mut command = command(&project, &[], &["-X", option, "-X", "cds_stats", "app.py"]);
        Outcome::of(command.env_remove("HOME"))
    };
    let refused = without_home("cds=app.cds");
    assert_eq!(told(&refused), "the variable HOME is not set");
    assert_eq!(refused.stdout, without_home("cds=off").stdout);
}

/// The directory with modules of the user is in `sys.path`.
#[test]
fn where_the_user_has_modules_home_is_compared() {
    let project = project("", "import imported, sys\nprint(sys.path)\n");
    let version = "import sys; print('%d.%d' % sys.version_info[:2])";
    let version = run(&project, &[], &["-c", version]);
    let modules = format!(
        "user/.local/lib/python{}/site-packages",
        version.stdout.trim()
    );
    let user = project.path("user").display().to_string();
    dump(&project, &[("HOME", &user)]);
    assert_restored(&project, &[("HOME", &user)]);
    fs::create_dir_all(project.path(&modules)).expect("a directory can be made");
    let reason = told_with(&project, &[("HOME", &user)]);
    assert!(
        reason.ends_with(" exists and would be in sys.path"),
        "{reason}"
    );
    assert_same(&project, &[("HOME", &user)]);
    assert_restored(&project, &[("HOME", "/")]);
    // With `-s`, `site` does not look for modules of the user.
    let isolated = |option, rest: &[&str]| {
        let arguments = [&["-s", "-X", option], rest].concat();
        run(&project, &[("HOME", &user)], &arguments)
    };
    isolated("cds=off", &DUMP_IMAGE).success();
    let restored = isolated("cds=app.cds", &["-X", "cds_stats", "app.py"]);
    assert_eq!(told(&restored), "restored");
    dump(&project, &[("HOME", &user)]);
    assert_restored(&project, &[("HOME", &user)]);
    let reason = told_with(&project, &[("HOME", "/")]);
    assert_eq!(reason, "the variable HOME has another value");
}

/// Values that depend on HOME count as a read of HOME, in whatever way imports get them.
#[test]
fn who_asks_site_for_directories_of_the_user_asks_for_home() {
    for imported in [
        "import site\nkept = len(site.USER_BASE)\n",
        "from site import USER_SITE\n",
        "import site\nsite.getuserbase()\n",
        "import site\nsite.getusersitepackages()\n",
        "import site\nvars(site).copy()\n",
        "import sys\ngetattr(sys.modules['site'], 'USER_' + 'SITE')\n",
        "import sysconfig\nsysconfig.get_config_var('userbase')\n",
        "import os\nos.path.expanduser('~/.local')\n",
    ] {
        let project = project(imported, "import imported\n");
        dump(&project, &[]);
        let reason = told_with(&project, &[("HOME", "/")]);
        assert_eq!(reason, "the variable HOME has another value", "{imported}");
    }
}

/// An automatic image is the program with the variables that it has set before its imports.
#[test]
fn what_depends_on_variables_of_the_program_is_as_it_was_in_a_restored_process() {
    let project = project(
        "import os, json\nvalue = os.environ.get('MODE', 'none')\n",
        "import os, sys\nbegan = sorted({'outer', 'imported', 'json'} & {*sys.modules})
os.environ['MODE'] = 'set'\nimport outer, imported\ndel os.environ['MODE']
print(began, outer.value, file=sys.stderr)\nprint(outer.value, imported.value, os.environ.get('MODE'))\n",
    );
    project.write("lib/outer.py", "from imported import value\n");
    fs::create_dir(project.path("made")).expect("a directory can be made");
    let auto = [
        "-X",
        "cds_auto=made/app.cds,image",
        "-X",
        "cds_stats",
        "app.py",
    ];
    let plain = run(&project, &[], &["-X", "cds=off", "app.py"]);
    let mut last = run(&project, &[], &auto);
    for _ in 0..100 {
        if told(&last) == "restored" {
            break;
        }
        thread::sleep(Duration::from_millis(100));
        last = run(&project, &[], &auto);
        assert_eq!(last.stdout, plain.stdout);
    }
    assert_eq!(told(&last), "restored", "{last:?}");
    assert!(last.stderr.contains("[] set"), "{last:?}");
}

/// If imports cannot be traced, they may have read any variable.
#[test]
fn all_variables_count_where_nothing_can_be_traced() {
    let project = project("", "import imported\n");
    let mut strace = Command::new("strace");
    cpython_cds_tests::clean(&mut strace);
    strace
        .args([
            "-f",
            "-o",
            "/dev/null",
            "-e",
            "trace=ptrace",
            "-e",
            "inject=ptrace:error=EPERM",
        ])
        .arg(python())
        .args(DUMP_IMAGE)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONPATH", project.path("lib"))
        .current_dir(project.path(""));
    Outcome::of(&mut strace).success();
    assert_restored(&project, &[]);
    assert_eq!(
        told_with(&project, &[("NEW", "1")]),
        "the variable NEW is new"
    );
}
