//! The cache: programs start from archives and images that nobody has named, and do not notice it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use cpython_cds_tests::{Outcome, Project, clean, python, settle, skip};

const CACHE: &str = "cache";

/// A program with a module beside it and one in a package.
fn project() -> Project {
    Project::new(&[
        (
            "app.py",
            "import sys, helper, lib.tool\nprint(helper.x, lib.tool.x, sys.argv[1:])\nsys.exit(3)\n",
        ),
        ("helper.py", "x = 'helper'\n"),
        ("lib/__init__.py", ""),
        ("lib/tool.py", "import json\nx = json.dumps([1])\n"),
    ])
}

fn command(project: &Project, arguments: &[&str]) -> Command {
    let mut command = project.command(arguments);
    command
        .env("PYTHON_CDS", "auto")
        .env("PYTHON_CDS_CACHE", project.path(CACHE))
        .env("PYTHON_CDS_STATS", project.path("stats.json"));
    command
}

/// Runs a program with the cache. Waits for background processes before and after.
fn run(project: &Project, arguments: &[&str]) -> Outcome {
    let _ = fs::remove_file(project.path("stats.json"));
    settle(project);
    let outcome = Outcome::of(&mut command(project, arguments));
    settle(project);
    outcome
}

/// The image of the last run, if it was restored.
fn image(project: &Project) -> Option<PathBuf> {
    let report = cpython_cds_tests::report::Report::read(&project.path("stats.json")).ok()?;
    report.startup_image.map(PathBuf::from)
}

fn plain(project: &Project, arguments: &[&str]) -> Outcome {
    let mut command = project.command(arguments);
    command.env("PYTHON_CDS", "off");
    Outcome::of(&mut command)
}

/// The files below a directory, relative to it.
fn files(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(
                files(&entry.path())
                    .into_iter()
                    .map(|file| format!("{name}/{file}")),
            );
        } else {
            found.insert(name);
        }
    }
    found
}

/// The kinds of files: the names without those that differ from build to build and from program to program.
fn kinds_of_files(project: &Project) -> Vec<String> {
    let names = files(&project.path(CACHE)).into_iter();
    let names = names.map(|file| file.rsplit('/').next().unwrap().to_owned());
    let mut names = names.collect::<Vec<_>>();
    names.sort();
    names.dedup();
    names
}

#[test]
fn the_third_start_is_restored_and_nothing_is_named() {
    let project = project();
    let expected = plain(&project, &["app.py", "a"]);
    assert_eq!(run(&project, &["app.py", "a"]), expected);
    assert_eq!(kinds_of_files(&project), ["seen"]);
    assert_eq!(run(&project, &["app.py", "a"]), expected);
    assert_eq!(image(&project), None);
    assert_eq!(
        kinds_of_files(&project),
        ["0.cds", "0.cds.image", "building", "pace", "seen"]
    );
    assert_eq!(run(&project, &["app.py", "a"]), expected);
    let third = image(&project).expect("the run was restored");
    assert!(third.starts_with(project.path(CACHE)), "{third:?}");
    // Other arguments.
    let other = run(&project, &["app.py", "b"]);
    assert_eq!(other, plain(&project, &["app.py", "b"]));
    assert_eq!(image(&project), Some(third));
}

#[test]
fn an_edit_renews_what_is_restored() {
    let project = project();
    for _ in 0..3 {
        run(&project, &["app.py"]);
    }
    assert!(image(&project).is_some());
    project.write("helper.py", "x = 'edited later'\n");
    let is_restored = [(); 3].map(|()| {
        let after = run(&project, &["app.py"]);
        assert_eq!(after.stdout, "edited later [1] []\n");
        image(&project).is_some()
    });
    assert_eq!(is_restored, [false, false, true]);
    assert_eq!(
        kinds_of_files(&project),
        ["0.cds", "0.cds.image", "building", "pace", "seen", "uses"]
    );
}

#[test]
fn a_program_that_is_started_once_leaves_a_number() {
    let project = Project::new(&[]);
    for number in 0..20 {
        run(&project, &["-c", &format!("import json; print({number})")]);
        // The second start has caused a base image, for all of them.
        assert_eq!(image(&project).is_some(), number >= 2);
    }
    let left = files(&project.path(CACHE)).into_iter();
    let left: Vec<_> = left.filter(|file| file.ends_with("0.cds")).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    for child in [project.path(CACHE), project.path(CACHE).join("building")] {
        if let Ok(status) = fs::metadata(child) {
            assert_eq!(status.mode() & 0o077, 0, "others can read the cache");
        }
    }
}

/// Two starts of anything cause a base image: an interpreter that was frozen before its program. Each program that was
/// never seen before begins from it, and finds what it finds after a plain start.
#[test]
fn a_program_that_was_never_seen_begins_from_a_base_image() {
    const REPORT: &str = "\
import sys
print(sorted(sys.modules), sys.argv, sys.path, sys.flags, sorted(globals()), __name__, __doc__)
print(__spec__ and (__spec__.name, __spec__.origin), globals().get('__package__'))
print(sorted(sys.path_importer_cache), sys.stdin, sys.stdout, sys.warnoptions, sys._xoptions.get('dev'))
import os, site, signal
print(sorted(key for key in os.environ if 'CDS' not in key), os.getcwd(), site.ENABLE_USER_SITE)
print([signal.getsignal(number) for number in sorted(signal.valid_signals())])
lines = open('/proc/self/status').read().splitlines()
print([line for line in lines if line.startswith(('SigB', 'SigI', 'Threads', 'Umask', 'Seccomp', 'Cap'))])
# SIGILL, SIGABRT, SIGBUS and SIGSEGV have a handler that notes a crash.
print([hex(int(line[7:], 16) & ~0x468) for line in lines if line.startswith('SigCgt')])
print(open('/proc/self/comm').read(), len(os.listdir('/proc/self/fd')), sys.stdin.read())
sys.exit(7)
";
    let project = project();
    project.write("report.py", REPORT);
    project.write("pack/__init__.py", "");
    project.write("pack/__main__.py", REPORT);
    project.write("tree/__main__.py", REPORT);
    project.write("site.py", "raise SystemExit('the wrong module')\n");
    let zip = "import zipfile; zipfile.ZipFile('app.zip', 'w').write('report.py', '__main__.py')";
    plain(&project, &["-P", "-c", zip]).success();
    let outcome = |cache: &str, program: &[&str], input: &str| {
        let mut command = project.command(&[&["-X", cache], program].concat());
        command
            .env("PYTHON_CDS_CACHE", project.path(CACHE))
            .env("PYTHON_CDS_STATS", project.path("stats.json"));
        project.write("input", input);
        let input = fs::File::open(project.path("input")).unwrap();
        Outcome::reading(&mut command, input.into())
    };
    for _ in 0..2 {
        outcome("cds=auto", &["-c", "pass"], "");
        settle(&project);
    }
    for (program, input) in [
        (&["report.py"][..], "input"),
        (&["report.py", "a", "-b", ""], ""),
        (&["./report.py"], ""),
        (&["-m", "pack", "c"], ""),
        (&["-m", "report"], ""),
        (&["tree", "d"], ""),
        (&["app.zip"], ""),
        (&["-c", REPORT, "e"], ""),
        (&["-c", "import helper\ndef f(): 1/0\nf()"], ""),
        (&["-c", "1 +"], ""),
        (&["-"], REPORT),
        (&["-", "f"], "import sys; print(sys.argv)"),
        (&[], "print(__name__)"),
        (&["none.py"], ""),
        (&["-m", "none"], ""),
        (&["-m", "site", "--user-base"], ""),
        (&["-c", "import sys; sys.exit('message')"], ""),
        (&["-c", "raise KeyboardInterrupt"], ""),
        (&["-c", "import os; os.abort()"], ""),
    ] {
        let _ = fs::remove_file(project.path("stats.json"));
        let restored = outcome("cds=auto", program, input);
        let found = image(&project);
        assert!(
            found.is_some() || restored.status < 0,
            "{program:?}: {restored:?}"
        );
        assert_eq!(restored, outcome("cds=off", program, input), "{program:?}");
        settle(&project);
    }
}

#[test]
fn modules_commands_and_directories_are_programs() {
    let project = project();
    project.write("pack/__init__.py", "");
    project.write(
        "pack/__main__.py",
        "import json, sys\nprint(__name__, sys.argv)\n",
    );
    project.write("tree/__main__.py", "import json, other\nprint(other.x)\n");
    project.write("tree/other.py", "x = 'of the tree'\n");
    for program in [
        &["-m", "pack", "x"][..],
        &["-c", "import json, helper; print(helper.x)"],
        &["tree"],
        &["-m", "json.tool", "--help"],
    ] {
        let expected = plain(&project, program);
        for _ in 0..3 {
            assert_eq!(run(&project, program), expected, "{program:?}");
        }
        assert!(image(&project).is_some(), "{program:?} was not restored");
    }
}

#[test]
fn each_kind_of_surroundings_has_an_image_and_there_are_not_too_many() {
    let project = project();
    project.write("helper.py", "import os\nx = os.environ.get('MODE')\n");
    let start = |mode: &str| {
        settle(&project);
        let outcome = Outcome::of(command(&project, &["app.py"]).env("MODE", mode));
        settle(&project);
        assert_eq!(outcome.stdout, format!("{mode} [1] []\n"));
        image(&project)
    };
    for _ in 0..3 {
        for mode in ["one", "two"] {
            start(mode);
        }
    }
    let images = ["one", "two"].map(|mode| start(mode).expect("the run was restored"));
    assert_ne!(images[0], images[1]);
    for number in 0..12 {
        start(&number.to_string());
    }
    assert_eq!(
        ["one", "two"].map(|mode| start(mode).expect("its image is kept")),
        images
    );
    let found = kinds_of_files(&project);
    let found = found.iter().filter(|name| name.ends_with(".image"));
    assert_eq!(found.count(), 4);

    // An image that was not used for days makes room.
    let old = SystemTime::now() - Duration::from_secs(3 * 24 * 60 * 60);
    let image = fs::File::open(&images[0]).unwrap();
    let sealed = image.metadata().unwrap().modified().unwrap();
    let nanoseconds = sealed
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .subsec_nanos();
    let since = old.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::new(since.as_secs(), nanoseconds);
    image
        .set_times(fs::FileTimes::new().set_accessed(old).set_modified(old))
        .unwrap();
    // The images so far were rarely used.
    let mut late = (0..20).map(|_| start("late"));
    assert_eq!(late.find(Option::is_some), Some(Some(images[0].clone())));
}

/// A program whose files change more often than its image is used must not cost more than it saves.
#[test]
fn images_that_are_rarely_used_are_taken_more_rarely() {
    let project = project();
    let mut edits = 0;
    // The number of starts until one is restored, after an edit.
    let mut starts_after_edit = || {
        edits += 1;
        // CPython does not notice an edit of the same size in the same second.
        let text = "x".repeat(edits);
        project.write("helper.py", &format!("x = '{text}'\n"));
        let is_restored = |_: &usize| {
            let outcome = run(&project, &["app.py"]);
            assert_eq!(outcome.stdout, format!("{text} [1] []\n"));
            image(&project).is_some()
        };
        (1..20).find(is_restored).unwrap()
    };
    let starts: Vec<_> = (0..5).map(|_| starts_after_edit()).collect();
    assert_eq!(starts, [3, 3, 5, 9, 17]);
    let report = Outcome::of(&mut command(&project, &["-m", "cds", "status"]));
    assert!(report.stdout.contains("after 16 starts"), "{report:?}");
    for _ in 0..10 {
        run(&project, &["app.py"]);
    }
    let starts: Vec<_> = (0..2).map(|_| starts_after_edit()).collect();
    assert_eq!(starts, [2, 9]);
}

#[test]
fn a_run_that_is_killed_has_been_recorded_without_arguments_and_variables() {
    let project = project();
    project.write(
        "app.py",
        "import os, sys, helper, lib.tool\nprint(helper.x, flush=True)\n\
         if len(sys.argv) > 1: os.kill(os.getpid(), 9)\n",
    );
    let secret = "correct-horse-battery-staple";
    let killed = || {
        let mut command = command(&project, &["app.py", secret]);
        let status = command.env("PASSWORD", secret).status().unwrap();
        assert_eq!(status.signal(), Some(9));
        settle(&project);
    };
    killed();
    killed();
    for file in files(&project.path(CACHE)) {
        // An image contains what it depends on, and here the arguments are compared.
        if file.ends_with(".image") {
            continue;
        }
        let contents = fs::read(project.path(CACHE).join(&file)).unwrap();
        let mut places = contents.windows(secret.len());
        assert!(
            !places.any(|place| place == secret.as_bytes()),
            "{file} contains the secret"
        );
    }
    assert_eq!(run(&project, &["app.py"]).stdout, "helper\n");
    assert!(image(&project).is_some());
}

/// `site` runs code of the user before the interpreter can be frozen. What it keeps must not repeat in later starts, and a
/// seed that it has set must count.
#[test]
fn what_sitecustomize_keeps_is_of_its_own_start() {
    for (text, repeats) in [
        (
            "import os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\nX = 0",
            true,
        ),
        (
            "import ctypes\nctypes.CDLL(None).prctl(15, b'named', 0, 0, 0)\nX = 0",
            true,
        ),
        ("import os\nos.umask(0o77)\nX = 0", true),
        ("import random\nX = random.random()", false),
        ("import random\nrandom.seed(5)\nX = random.random()", true),
        ("import os\nX = os.urandom(4)", false),
        ("import time\nX = time.time_ns()", false),
        ("import os\nX = os.getpid()", false),
        ("import sys\nX = list(sys.argv)", false),
    ] {
        let project = Project::new(&[("lib/sitecustomize.py", text)]);
        let start = |cache: &str, argument: &str| {
            let code = "import sitecustomize; print(sitecustomize.X); \
                import random; \
                print(random.random() if hasattr(sitecustomize, 'random') else sitecustomize.X); \
                print(open('/proc/self/comm').read().strip(), [line for line in \
                open('/proc/self/status') if line.startswith(('SigBlk', 'Umask'))])";
            let mut command = project.command(["-X", cache, "-c", code, argument]);
            command
                .env("PYTHONPATH", project.path("lib"))
                .env("PYTHON_CDS_CACHE", project.path(CACHE));
            let outcome = Outcome::of(&mut command).success();
            settle(&project);
            outcome.stdout
        };
        let mut outputs = vec![start("cds=off", "0")];
        outputs.extend((1..5).map(|number| start("cds=auto", &number.to_string())));
        let expected = if repeats { 1 } else { outputs.len() };
        // What `sitecustomize` keeps, and the next random number.
        for line in 0..2 {
            let found: BTreeSet<_> = outputs.iter().map(|it| it.lines().nth(line)).collect();
            assert_eq!(found.len(), expected, "{text}: {outputs:?}");
        }
        let attributes: BTreeSet<_> = outputs.iter().map(|it| it.lines().nth(2)).collect();
        assert_eq!(attributes.len(), 1, "{text}: {outputs:?}");
    }
}

/// `sitecustomize` and `.pth` files run once for each start that the user has caused.
#[test]
fn the_background_does_not_run_what_site_runs() {
    let project = project();
    let python = environment(&project);
    let log = project.path("log");
    let append = |name: &str| format!("import os; open({log:?}, 'a').write('{name}\\n')\n");
    let packages = project.path("venv/lib/python3.13/site-packages");
    fs::write(packages.join("own.pth"), append("pth")).unwrap();
    fs::write(packages.join("sitecustomize.py"), append("sitecustomize")).unwrap();
    python(&["-X", "cds=off", "app.py"]);
    let of_one_start = fs::read_to_string(&log).unwrap();
    for _ in 0..4 {
        python(&["-X", "cds=auto", "app.py"]);
        settle(&project);
    }
    let written = files(&project.path("home"));
    assert!(
        written.iter().any(|name| name.ends_with(".cds")),
        "{written:?}"
    );
    assert_eq!(fs::read_to_string(log).unwrap(), of_one_start.repeat(5));
}

/// The program dies as in a plain start, and its image is set aside.
#[test]
fn after_a_crash_a_program_gets_no_image() {
    for (death, signal) in [
        ("import ctypes; ctypes.string_at(0)", 11),
        ("signal.raise_signal(signal.SIGILL)", 4),
        (
            "import faulthandler; faulthandler.enable(open(os.devnull, 'w')); os.abort()",
            6,
        ),
        (
            "os._exit(0) if os.fork() == 0 else os.wait(); os.kill(os.getpid(), 15)",
            15,
        ),
    ] {
        let project = Project::new(&[(
            "app.py",
            &format!(
                "import json, os, signal, sys\nprint(signal.getsignal(11), flush=True)\n\
                 if sys.stdin.read() == 'die': {death}\n"
            ),
        )]);
        let start = |input: &str, cache: &str| {
            let _ = fs::remove_file(project.path("stats.json"));
            project.write("input", input);
            let mut command = command(&project, &["app.py"]);
            command.env("PYTHON_CDS", cache);
            let input = fs::File::open(project.path("input")).unwrap();
            let outcome = Outcome::reading(&mut command, input.into());
            settle(&project);
            outcome
        };
        for _ in 0..2 {
            start("", "auto");
        }
        start("", "auto");
        assert!(image(&project).is_some(), "{death}");
        let plain = start("die", "off");
        assert_eq!(plain.status, -signal, "{plain:?}");
        assert_eq!(start("die", "auto"), plain, "{death}");
        let is_crash = signal != 15;
        for _ in 0..2 {
            assert_eq!(start("", "auto").status, 0);
            assert_eq!(image(&project).is_none(), is_crash, "{death}");
        }
        let cds = |arguments: &[&str]| {
            let mut command = command(&project, &[&["-m", "cds"], arguments].concat());
            Outcome::of(&mut command)
        };
        let explained = cds(&["explain", "app.py"]);
        assert_eq!(explained.status, i32::from(is_crash));
        assert_eq!(
            explained.stdout.contains("a restored process died of SIG"),
            is_crash
        );
        cds(&["clear"]).success();
        for _ in 0..3 {
            start("", "auto");
        }
        assert!(image(&project).is_some(), "{death}");
    }
}

/// A program that kills itself for calls that stock CPython does not make after the start: it is not killed while it is
/// recorded, when it imports a module that is new, nor at its end.
#[test]
fn a_program_that_filters_itself_is_never_killed_for_its_record() {
    let project = project();
    project.write("filter.py", FILTER_OF_WRITES);
    project.write(
        "app.py",
        "import sys, filter, helper\nfilter.install()\nimport lib.tool\n\
         for name in sys.argv[1:]: __import__(name)\nprint(helper.x, sorted(set(sys.modules) & set(sys.argv)))\n",
    );
    project.write("first.py", "");
    project.write("second.py", "");
    // Otherwise the imports would write `.pyc` files, and be killed.
    let imports = "import filter, helper, lib.tool, first, second";
    project.run(["-X", "cds=off", "-c", imports]).success();
    fs::create_dir_all(project.path("config/cpython-cds")).unwrap();
    project.write("config/cpython-cds/enabled", "");
    for enabled in [true, false] {
        let cache = project.path(format!("cache of {enabled}"));
        let start = |arguments: &[&str]| {
            // The time of the directory has changed, so its names are compared.
            let names = fs::read_dir(project.path("lib")).unwrap().count();
            project.write(&format!("lib/{names}.txt"), "");
            let mut command = project.command(&[&["app.py"], arguments].concat());
            command.env("PYTHON_CDS_CACHE", &cache);
            if enabled {
                command.env("XDG_CONFIG_HOME", project.path("config"));
            } else {
                command.env("PYTHON_CDS", "auto");
            }
            let expected = plain(&project, &[&["app.py"], arguments].concat());
            assert_eq!(expected.status, 0, "{expected:?}");
            assert_eq!(Outcome::of(&mut command), expected);
            settle(&project);
        };
        for arguments in [
            &[][..],
            &[],
            &["first"],
            &["first"],
            &["first", "second"],
            &[],
        ] {
            start(arguments);
        }
        let left = files(&cache);
        assert!(left.iter().any(|file| file.ends_with(".image")), "{left:?}");
    }
}

/// Installs a filter that kills the process if it starts a process, locks a file, or opens a file to write to it.
const FILTER_OF_WRITES: &str = "\
import ctypes, struct
PR_SET_SECCOMP, MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
LOAD, EQUAL, ANY, RETURN = 0x20, 0x15, 0x45, 0x06
KILL, ALLOW = 0x80000000, 0x7fff0000
# clone, fork, vfork, execve, wait4, kill, flock, ftruncate, rename, mkdir, rmdir, unlink, statfs, prctl, clock_gettime,
# fallocate, utimensat, prlimit64, memfd_create, statx, clone3; as in asm/unistd_64.h.
KILLED = [56, 57, 58, 59, 61, 62, 73, 77, 82, 83, 84, 87, 137, 157, 228, 285, 280, 302, 319, 332, 435]
OPENAT, TO_WRITE = 257, 0o1103

def install():
    code = [(LOAD, 0, 0, 0)]
    for position, number in enumerate(KILLED):
        code.append((EQUAL, len(KILLED) - position + 3, 0, number))
    code += [(EQUAL, 0, 2, OPENAT), (LOAD, 0, 0, 32), (ANY, 1, 0, TO_WRITE)]
    code += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, KILL)]
    code = b''.join(struct.pack('HBBI', *line) for line in code)
    code = ctypes.create_string_buffer(code)
    program = struct.pack('HxxxxxxP', len(code) // 8, ctypes.addressof(code))
    prctl = ctypes.CDLL(None).prctl
    assert prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert prctl(PR_SET_SECCOMP, MODE_FILTER, program) == 0
";

#[test]
fn a_place_that_cannot_be_used_is_not_noticed() {
    let project = project();
    let expected = plain(&project, &["app.py"]);
    project.write("file", "");
    for name in ["closed", "others", "outside"] {
        fs::create_dir(project.path(name)).unwrap();
    }
    fs::set_permissions(project.path("closed"), fs::Permissions::from_mode(0o500)).unwrap();
    fs::set_permissions(project.path("others"), fs::Permissions::from_mode(0o777)).unwrap();
    symlink("nowhere", project.path("link")).unwrap();
    let long = ["0123456789"; 100].join("/");
    let long = project.path(&long);
    let mut places = vec![
        project.path("file"),
        project.path("file/below"),
        project.path("others"),
        project.path("link"),
        long,
        PathBuf::from("relative"),
        PathBuf::from("/proc/self/cache"),
        PathBuf::from("/dev/null"),
    ];
    if !rustix::process::geteuid().is_root() {
        places.push(project.path("closed/cache"));
    }
    let before = files(&project.path(""));
    for place in places {
        for _ in 0..3 {
            let mut command = project.command(["app.py"]);
            command
                .env("PYTHON_CDS", "auto")
                .env("PYTHON_CDS_CACHE", &place);
            assert_eq!(Outcome::of(&mut command), expected, "{}", place.display());
            settle(&project);
        }
    }
    let mut homeless = project.command(["-X", "cds=auto", "app.py"]);
    assert_eq!(Outcome::of(homeless.env_remove("HOME")), expected);
    assert_eq!(files(&project.path("")), before);
}

/// With sudo(8), HOME may be the directory of another user.
#[test]
fn nothing_is_written_to_the_home_of_another_user() {
    if !rustix::process::geteuid().is_root() {
        skip!("only root can give a directory to another user");
    }
    let project = project();
    let expected = plain(&project, &["app.py"]);
    let home = project.path("home");
    fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(12345), Some(12345)).unwrap();
    for _ in 0..3 {
        let mut command = project.command(["-X", "cds=auto", "app.py"]);
        assert_eq!(Outcome::of(command.env("HOME", &home)), expected);
        settle(&project);
    }
    assert_eq!(files(&home), BTreeSet::new());
    // Another user's cache is not used either.
    fs::create_dir_all(home.join(".cache/cpython-cds")).unwrap();
    for name in [".cache", ".cache/cpython-cds"] {
        std::os::unix::fs::chown(home.join(name), Some(12345), Some(12345)).unwrap();
    }
    let mut command = project.command(["-X", "cds=auto", "app.py"]);
    assert_eq!(Outcome::of(command.env("HOME", &home)), expected);
    assert_eq!(files(&home), BTreeSet::new());
}

#[test]
fn many_at_once_have_the_same_output_and_are_restored_in_the_end() {
    let project = project();
    let expected = plain(&project, &["app.py", "a"]);
    for _ in 0..4 {
        let children: Vec<_> = (0..8)
            .map(|_| {
                let mut command = command(&project, &["app.py", "a"]);
                command.env_remove("PYTHON_CDS_STATS");
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                command.spawn().unwrap()
            })
            .collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), expected.stdout);
            assert_eq!(String::from_utf8(output.stderr).unwrap(), expected.stderr);
            assert_eq!(output.status.code(), Some(expected.status));
        }
    }
    run(&project, &["app.py", "a"]);
    assert_eq!(run(&project, &["app.py", "a"]), expected);
    assert!(image(&project).is_some());
}

/// Programs are started in several contexts, and several at once, while their files change. `CDS_DAY_STARTS` is the
/// number of starts, `CDS_DAY_SEED` chooses another day, and `CDS_DAY_PLAIN` the interpreter of the plain starts.
#[test]
fn a_day_of_starts_prints_what_plain_starts_print() {
    const DAY: &str = include_str!("cache_day.py");
    let number = |name: &str| std::env::var(name).ok();
    let starts = number("CDS_DAY_STARTS").unwrap_or("80".to_owned());
    let seed = number("CDS_DAY_SEED").unwrap_or("1".to_owned());
    let project = Project::new(&[("day.py", DAY)]);
    fs::create_dir(project.path("world")).unwrap();
    let day = ["-I", "-X", "cds=off", "day.py", &seed, &starts, "world"];
    let outcome = project.run(day).success();
    println!("{}", outcome.stdout);
    // A line about times, and a line about the starts: no difference was reported.
    assert_eq!(outcome.stdout.lines().count(), 2, "{}", outcome.stdout);
    let starts = outcome.stdout.lines().last().unwrap();
    assert!(starts.contains(" 0 different, "), "{starts}");
    assert_ne!(starts.split(", ").nth(1), Some("0 restored"));
}

/// A filter of system calls can kill a process for a call that stock CPython does not make.
#[test]
fn a_process_with_a_filter_learns_only_if_it_is_told_to() {
    let project = project();
    let expected = plain(&project, &["app.py"]);
    fs::create_dir_all(project.path("config/cpython-cds")).unwrap();
    project.write("config/cpython-cds/enabled", "");
    let filtered = |settings: &[&str]| {
        let python = python().to_string_lossy().into_owned();
        let mut command = project.command(["-I", "-X", "cds=off", "-c", FILTERED, &python]);
        command
            .args(settings)
            .arg("app.py")
            .env("XDG_CONFIG_HOME", project.path("config"))
            .env("PYTHON_CDS_CACHE", project.path(CACHE));
        assert_eq!(Outcome::of(&mut command), expected);
        settle(&project);
    };
    for _ in 0..3 {
        filtered(&[]);
    }
    assert_eq!(files(&project.path(CACHE)), BTreeSet::new());
    filtered(&["-X", "cds=auto"]);
    assert_eq!(kinds_of_files(&project), ["seen"]);
    // Restoring an image makes other calls than a plain start, too.
    let stats = format!("cds_stats={}", project.path("stats.json").display());
    for _ in 0..2 {
        run(&project, &["app.py"]);
    }
    for (settings, is_restored) in [(&[][..], false), (&["-X", "cds=auto"], true)] {
        filtered(&[&["-X", &stats], settings].concat());
        assert_eq!(image(&project).is_some(), is_restored);
    }
}

#[test]
fn a_log_says_what_was_done_in_the_background() {
    let project = project();
    for _ in 0..2 {
        let mut command = command(&project, &["app.py"]);
        Outcome::of(command.env("PYTHON_CDS_LOG", project.path("log.txt")));
        settle(&project);
    }
    let log = fs::read_to_string(project.path("log.txt")).unwrap();
    let directory = project.path("").display().to_string();
    let log = log.replace(directory.trim_end_matches('/'), "[project]");
    insta::with_settings!({filters => vec![
        (r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[\d+\]", "[time] [process]"),
        (r"[0-9a-f]{40}/[0-9a-f]{32}", "[build]/[program]"),
        (r"\S+/python\S* -X", "[python] -X"),
    ]}, { insta::assert_snapshot!(log); });
}

/// Installs a filter that allows all system calls (seccomp(2)), and runs a command.
const FILTERED: &str = "\
import ctypes, os, struct, sys
PR_SET_SECCOMP, MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
allow = ctypes.create_string_buffer(struct.pack('HBBI', 0x06, 0, 0, 0x7fff0000))
program = struct.pack('HxxxxxxP', 1, ctypes.addressof(allow))
prctl = ctypes.CDLL(None).prctl
assert prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
assert prctl(PR_SET_SECCOMP, MODE_FILTER, program) == 0
os.execv(sys.argv[1], sys.argv[1:])
";

/// An orphaned process becomes a child of the first process of a container, and of a process that asks for it. A program
/// must not see a child that it has not started.
#[test]
fn a_program_that_adopts_orphans_sees_no_child() {
    const ADOPTING: &str = "\
import ctypes, os, sys
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
";
    let project = Project::new(&[(
        "app.py",
        "import json, os, time\ntime.sleep(0.3)\ntry: print(os.waitpid(-1, os.WNOHANG))\n\
         except ChildProcessError: print('no child')\n",
    )]);
    let expected = plain(&project, &["app.py"]);
    assert_eq!(expected.stdout, "no child\n");
    let python = python().display().to_string();
    for _ in 0..3 {
        let mut command = command(&project, &["-I", "-X", "cds=off", "-c", ADOPTING]);
        command.args([&python, "app.py"]);
        assert_eq!(Outcome::of(&mut command), expected);
        settle(&project);
    }
}

/// A virtual environment in a project, with the cache in the project.
fn environment(project: &Project) -> impl Fn(&[&str]) -> Outcome {
    project
        .run(["-m", "venv", "--without-pip", "venv"])
        .success();
    let python = project.path("venv/bin/python");
    let directory = project.path("");
    let home = project.path("home");
    fs::create_dir(&home).unwrap();
    move |arguments| {
        let mut command = Command::new(&python);
        clean(&mut command);
        command
            .current_dir(&directory)
            .env("HOME", &home)
            .args(arguments);
        Outcome::of(&mut command)
    }
}

#[test]
fn an_environment_or_a_user_turns_it_on_and_off() {
    let project = project();
    let python = environment(&project);
    let expected = plain(&project, &["app.py"]);
    let start = || {
        settle(&project);
        let stats = format!("cds_stats={}", project.path("stats.json").display());
        assert_eq!(python(&["-X", &stats, "app.py"]), expected);
        settle(&project);
        image(&project).is_some()
    };
    let mut said = String::new();
    let mut cds = |arguments: &[&str]| {
        let outcome = python(&[&["-m", "cds"], arguments].concat());
        let Outcome {
            stdout,
            stderr,
            status,
        } = outcome;
        said += &format!(
            "$ cds {}\n{stdout}{stderr}({status})\n\n",
            arguments.join(" ")
        );
    };
    cds(&["status"]);
    assert_eq!([start(), start(), start()], [false; 3]);
    cds(&["enable"]);
    assert_eq!([start(), start(), start()], [false, false, true]);
    cds(&["status"]);
    cds(&["explain", "app.py"]);
    cds(&["explain", "-c", "pass"]);
    cds(&["explain", "-I", "app.py"]);
    cds(&["explain"]);
    let report = python(&["-m", "cds", "status", "--json"]).success().stdout;
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let programs = report["programs"].as_array().unwrap().iter();
    let app = programs.filter(|program| {
        program["command"]
            .as_str()
            .unwrap_or("")
            .starts_with("app.py")
    });
    let changed: Vec<_> = app
        .map(|program| &program["variants"][0]["changed"])
        .collect();
    assert_eq!(changed, [&serde_json::json!([])]);
    assert!(report["bytes"].as_u64() < report["limit_bytes"].as_u64());
    cds(&["disable"]);
    assert!(!start());
    cds(&["enable", "--user"]);
    assert!(!start(), "the setting of the environment comes first");
    let settings = fs::read_to_string(project.path("venv/pyvenv.cfg")).unwrap();
    fs::write(
        project.path("venv/pyvenv.cfg"),
        settings.replace("cds = off\n", ""),
    )
    .unwrap();
    // The image depends on the settings of the environment.
    assert_eq!([start(), start(), start()], [false, false, true]);
    cds(&["disable", "--user"]);
    assert!(!start());
    cds(&["clear"]);
    cds(&["status"]);
    assert_eq!(
        files(&project.path("home/.cache/cpython-cds")),
        BTreeSet::from(["building".into()])
    );
    // A directory that others can write to is not used.
    let cache = project.path("home/.cache/cpython-cds");
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    cds(&["enable"]);
    cds(&["status"]);
    let outside = project.run(["-m", "cds", "enable"]);
    said += &format!(
        "$ cds enable   (no environment)\n{}({})\n",
        outside.stderr, outside.status
    );
    let directory = project.path("").display().to_string();
    let said = said.replace(directory.trim_end_matches('/'), "[project]");
    insta::with_settings!({filters => vec![
        (r"\d+\.\d [KMG]iB", "[size]"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d", "[time]"),
        (r"[0-9a-f]{40}/[0-9a-f]{32}", "[build]/[program]"),
        (r"\d+ (region|package|file|other)", "[n] $1"),
        (r"compared +\d+", "compared [n]"),
        (r"(?s)Files that it maps\n.*?\n\n", ""),
    ]}, { insta::assert_snapshot!(said); });
}
