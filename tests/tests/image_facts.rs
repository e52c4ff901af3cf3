//! What imports have looked at is compared before a startup image is used: options, environment, host, directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, SystemTime};

use cpython_cds_tests::image::{IMPORTS, refusal};
use cpython_cds_tests::{DUMP_IMAGE, Outcome, Project, clean, python, skip};

/// If anything that the imports looked at has changed, the process starts as usual, and the statistics say why.
#[test]
fn what_does_not_match_is_named() {
    let program = format!(
        "{IMPORTS}import lib_a\nprint(lib_a.value, os.environ.get('FOO'), sys.flags.optimize, sys.flags.dev_mode)\n"
    );
    let project = Project::new(&[
        ("app.py", &program),
        (
            "lib/lib_a.py",
            "import importlib.util, os\ndef read(name='data.txt'): return open(__file__.replace('lib_a.py', name)).read()\nvalue = os.environ.get('LIB_A'), read(), importlib.util.find_spec('optional') is None\n",
        ),
        ("lib/data.txt", "data"),
    ]);
    let base = |command: &mut Command| {
        command.env("PYTHONPATH", project.path("lib"));
    };
    let run = |options: &[&str], change: &dyn Fn(&mut Command)| {
        let mut command = project.command(options);
        base(&mut command);
        change(&mut command);
        Outcome::of(&mut command)
    };
    let silent = |_: &mut Command| {};
    run(&["-X", "cds_trace=app.lst", "app.py"], &silent).success();
    run(&DUMP_IMAGE, &silent).success();
    let mut said = String::new();
    let mut check = |what: &str, options: &[&str], change: &dyn Fn(&mut Command)| {
        let program: &[&str] = if options.contains(&"app.py") {
            &[]
        } else {
            &["app.py"]
        };
        let stats = ["-X", "cds=app.cds", "-X", "cds_stats"];
        let restored = run(&[&stats, options, program].concat(), change);
        let plain = run(&[&["-X", "cds=off"], options, program].concat(), change);
        assert_eq!(
            (restored.status, &restored.stdout),
            (plain.status, &plain.stdout),
            "{what}"
        );
        let refusal = refusal(&restored.stderr).unwrap_or("(restored)".to_owned());
        said.push_str(&format!("{what}: {refusal}\n"));
    };
    check("nothing", &[], &silent);
    check("-O", &["-O"], &silent);
    check("-X dev", &["-X", "dev"], &silent);
    check("-W", &["-Werror"], &silent);
    check("another variable", &[], &|c| {
        c.env("FOO", "1");
    });
    check("a variable that was read", &[], &|c| {
        c.env("LIB_A", "1");
    });
    check("a variable for libraries", &[], &|c| {
        c.env("LC_ALL", "C");
    });
    check("a variable for Python", &[], &|c| {
        c.env("PYTHONHASHSEED", "1");
    });
    check("home", &[], &|c| {
        c.env("HOME", "/");
    });
    check("another way to the interpreter", &["app.py"], &|_| {});
    let lib = project.path("lib");
    let changed = |path: &std::path::Path| {
        let later = SystemTime::now() + Duration::from_secs(10);
        fs::File::open(path).unwrap().set_modified(later).unwrap();
    };
    project.write("json.py", "dumps = loads = None\n");
    check("a module beside the program", &[], &silent);
    fs::remove_file(project.path("json.py")).unwrap();
    project.write("optional.py", "");
    check("a module that imports have searched for", &[], &silent);
    fs::remove_file(project.path("optional.py")).unwrap();
    // `site` searches for this module before the program starts.
    project.write("sitecustomize.py", "");
    check("a module that only site searches for", &[], &silent);
    fs::remove_file(project.path("sitecustomize.py")).unwrap();
    fs::create_dir(project.path("json")).unwrap();
    check("a directory beside the program", &[], &silent);
    project.write("json/__init__.py", "");
    check("a package beside the program", &[], &silent);
    fs::remove_dir_all(project.path("json")).unwrap();
    let image = project.path("app.cds.image");
    fs::set_permissions(&image, fs::Permissions::from_mode(0o644)).unwrap();
    check("readable by others", &[], &silent);
    fs::set_permissions(&image, fs::Permissions::from_mode(0o600)).unwrap();
    let good = fs::read(&image).unwrap();
    fs::write(&image, &good[..good.len() - 10]).unwrap();
    check("truncated", &[], &silent);
    let mut damaged = good.clone();
    let last = damaged.len() - 5;
    damaged[last] ^= 1;
    fs::write(&image, &damaged).unwrap();
    check("damaged", &[], &silent);
    let mut damaged = good.clone();
    damaged[100_000] ^= 1;
    fs::write(&image, &damaged).unwrap();
    check("damaged in its pages", &[], &silent);
    fs::write(&image, b"").unwrap();
    check("empty", &[], &silent);
    fs::write(&image, &good).unwrap();
    check("as it was", &[], &silent);
    project.write("lib/data.txt", "other");
    check("a file that was read", &[], &silent);
    run(&DUMP_IMAGE, &silent).success();
    changed(&lib.join("lib_a.py"));
    check("a source", &[], &silent);
    run(&DUMP_IMAGE, &silent).success();
    project.write("lib/new.txt", "");
    check("a new file in a directory of its path", &[], &silent);
    project.write("lib/json.py", "dumps = loads = None\n");
    check("a module in a directory of its path", &[], &silent);
    fs::remove_file(project.path("lib/json.py")).unwrap();
    check("no module there any more", &[], &silent);
    changed(&project.path("app.cds"));
    check("the archive", &[], &silent);
    fs::remove_file(&image).unwrap();
    check("no image", &[], &silent);
    let directory = project.path("").display().to_string();
    let said = said.replace(directory.trim_end_matches('/'), "[project]");
    insta::with_settings!({filters => vec![(r"it was made with /\S+", "it was made with [python]")]}, {
        insta::assert_snapshot!(said);
    });
}

/// C code also looks at files and variables. Files that did not exist may exist now.
const LOOKS_FROM_C: &str = r#"
import ctypes, os
c = ctypes.CDLL(None)
c.getenv.restype = c.fopen.restype = ctypes.c_void_p
c.fclose.argtypes = [ctypes.c_void_p]
top = os.path.dirname(os.path.dirname(__file__))
c.getenv(b"ONLY_IN_C")
for name in ("etc/conf", "etc/absent", "nowhere/at/all", "etc/../dots"):
    if file := c.fopen(os.fsencode(f"{top}/{name}"), b"r"):
        c.fclose(file)
found = [os.path.exists(f"{top}/{name}") for name in ("tree", "link", "lib/plugin")]
with open(f"{top}/etc/log", "a") as log:
    log.write("imported\n")
# Child processes have the observer's breakpoints in their memory until they execute another program.
import subprocess
subprocess.run(["true"], env={}, check=True)
c.system(b"true")
if (pid := os.fork()) == 0:
    c.getenv(b"IN_A_FORK")
    os._exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
"#;

#[test]
fn what_c_code_looks_at_is_compared() {
    let project = Project::new(&[
        (
            "app.py",
            "import ctypes, looks
first = ctypes.string_at(ctypes.cast(looks.c.getenv, ctypes.c_void_p).value, 1)
assert first != b'\\xcc', 'the breakpoint is in the image'
print(looks.found)
",
        ),
        ("lib/looks.py", LOOKS_FROM_C),
        ("app.lst", "looks\n"),
        ("etc/conf", "a"),
        ("etc/log", ""),
        ("dots", ""),
        ("tree/leaf", ""),
        ("other/leaf", ""),
    ]);
    let link = |target: &str| {
        let _ = fs::remove_file(project.path("link"));
        std::os::unix::fs::symlink(target, project.path("link")).unwrap();
    };
    link("tree");
    let run = |arguments: &[&str], variables: &[&str]| {
        let mut command = project.command(arguments);
        command.env("PYTHONPATH", project.path("lib"));
        Outcome::of(command.envs(variables.iter().map(|name| (name, "1"))))
    };
    let dump = || {
        run(&DUMP_IMAGE, &[]).success();
    };
    let mut said = String::new();
    let mut check = |what: &str, variables: &[&str]| {
        let stats = ["-X", "cds=app.cds", "-X", "cds_stats", "app.py"];
        let stderr = run(&stats, variables).success().stderr;
        let refusal = refusal(&stderr).unwrap_or("(restored)".to_owned());
        said.push_str(&format!("{what}: {refusal}\n"));
    };
    dump();
    check("nothing", &[]);
    check("nothing, again", &[]);
    check("a variable", &["ONLY_IN_C"]);
    check("a variable that a forked process asked for", &["IN_A_FORK"]);
    check("a variable that another program got", &["ELSE"]);
    project.write("etc/log", "somebody wrote something\n");
    check("a file that was only written to", &[]);
    project.write("tree/new", "");
    check("something in a directory that was not listed", &[]);
    project.write("etc/conf", "another");
    check("a file", &[]);
    dump();
    project.write("dots", "another");
    check("a file by a path with dots", &[]);
    dump();
    project.write("etc/absent", "");
    check("a file where none was", &[]);
    dump();
    project.write("nowhere/else", "");
    check("a directory where none was", &[]);
    dump();
    project.write("lib/plugin", "");
    check("a file where none was, in a directory of modules", &[]);
    dump();
    link("other");
    check("a link to another directory", &[]);
    dump();
    fs::remove_dir_all(project.path("tree")).unwrap();
    check("no directory any more", &[]);
    let directory = project.path("").display().to_string();
    let said = said.replace(directory.trim_end_matches('/'), "[project]");
    insta::assert_snapshot!(said);
}

/// The number of processors is compared if imports have asked for it: libraries start as many threads.
#[test]
fn the_number_of_processors_is_compared_where_it_counts() {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let Some(first) = (0..rustix::thread::CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu)) else {
        return;
    };
    if allowed.count() == 1 {
        skip!("there is only one processor");
    }
    let count = allowed.count();
    let reason = format!("it was made with {count} usable processors, this process has 1");
    let imports = [
        ("import json\n", None),
        ("import json, counting\n", Some(reason)),
    ];
    for (imports, expected) in imports {
        let project = Project::new(&[
            ("app.py", imports),
            ("lib/counting.py", "import os\nos.sched_getaffinity(0)\n"),
        ]);
        let library = |command: &mut Command| {
            command.env("PYTHONPATH", project.path("lib"));
        };
        let mut trace = project.command(["-X", "cds_trace=app.lst", "app.py"]);
        library(&mut trace);
        Outcome::of(&mut trace).success();
        let mut dump = project.command(DUMP_IMAGE);
        library(&mut dump);
        Outcome::of(&mut dump).success();
        let mut command = Command::new("taskset");
        clean(&mut command);
        library(&mut command);
        command
            .current_dir(project.path(""))
            .args(["-c", &first.to_string()])
            .arg(python())
            .args(["-X", "cds=app.cds", "-X", "cds_stats", "app.py"]);
        assert_eq!(
            refusal(&Outcome::of(&mut command).success().stderr),
            expected
        );
    }
}

/// A module that asks for the name of its host may keep the name.
#[test]
fn the_host_is_compared_where_imports_have_asked() {
    if !rustix::process::geteuid().is_root() {
        skip!("only root may rename a host");
    }
    let project = Project::new(&[
        (
            "app.py",
            "import socket, module; print(socket.gethostname())\n",
        ),
        ("lib/module.py", ""),
        ("app.lst", "socket\nmodule\n"),
    ]);
    let run = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        clean(&mut command);
        command
            .current_dir(project.path(""))
            .env("PYTHONPATH", project.path("lib"));
        command.args(["-u", "sh", "-c", "hostname other; exec \"$0\" \"$@\""]);
        Outcome::of(command.arg(python()).args(arguments)).success()
    };
    for (module, is_compared) in [
        ("", false),
        ("import socket; socket.gethostname()\n", true),
        ("import os; os.uname()\n", true),
        ("import platform; platform.system()\n", true),
    ] {
        project.write("lib/module.py", module);
        let mut dump = project.command(DUMP_IMAGE);
        Outcome::of(dump.env("PYTHONPATH", project.path("lib"))).success();
        let outcome = run(&["-X", "cds=app.cds", "-X", "cds_stats", "app.py"]);
        assert_eq!(outcome.stdout, "other\n");
        let refusal = refusal(&outcome.stderr).unwrap_or_default();
        assert_eq!(
            refusal.starts_with("it was made on the host "),
            is_compared,
            "{refusal}"
        );
        assert!(is_compared || refusal.is_empty(), "{refusal}");
    }
}

/// Some imports look at the working directory, some only keep it, and some change the state of the process.
#[test]
fn the_working_directory_is_compared_where_it_counts() {
    let project = Project::new(&[
        (
            "lib/absolute.py",
            "import tempfile\nfound = open(__file__).read(), tempfile.gettempdir()\n",
        ),
        ("lib/asking.py", "import os\nfound = os.getcwd()\n"),
        (
            "lib/relative.py",
            "import os\nfound = os.path.exists('settings.toml')\n",
        ),
        (
            "lib/remembering.py",
            "import multiprocessing.process as p\nfound = p.ORIGINAL_DIR\n",
        ),
        ("lib/timed.py", "import logging\nfound = None\n"),
        (
            "app.py",
            "import sys, logging\nname = sys.argv[1]; found = getattr(__import__(name), 'found')\nif name == 'remembering': found = sys.modules['multiprocessing.process'].ORIGINAL_DIR\nprint(found, logging._startTime > int(sys.argv[2]))\n",
        ),
        ("elsewhere/settings.toml", ""),
    ]);
    let run = |directory: &str, arguments: &[&str]| {
        let mut command = project.command(arguments);
        command.current_dir(project.path(directory));
        command.env("PYTHONPATH", project.path("lib"));
        command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("TMPDIR", "/tmp");
        Outcome::of(&mut command).success()
    };
    let mut said = String::new();
    for module in ["absolute", "asking", "relative", "remembering", "timed"] {
        project.write("app.lst", module);
        run("", &DUMP_IMAGE);
        fs::copy(project.path("app.cds"), project.path("elsewhere/app.cds")).unwrap();
        let image = "app.cds.image";
        let there = project.path("elsewhere").join(image);
        fs::hard_link(project.path(image), &there).unwrap();
        for directory in ["", "elsewhere"] {
            let program = project.path("app.py").display().to_string();
            let now = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap();
            let program = [&*program, module, &now.as_nanos().to_string()];
            let stats = ["-X", "cds=app.cds", "-X", "cds_stats"];
            let restored = run(directory, &[&stats[..], &program].concat());
            let plain = run(directory, &[&["-X", "cds=off"][..], &program].concat());
            assert_eq!(restored.stdout, plain.stdout, "{module} in {directory:?}");
            let refusal = refusal(&restored.stderr).unwrap_or("(restored)".to_owned());
            said.push_str(&format!("{module}, {directory:?}: {refusal}\n"));
        }
        fs::remove_file(there).unwrap();
    }
    let here = project.path("").display().to_string();
    insta::assert_snapshot!(said.replace(here.trim_end_matches('/'), "[project]"));
}

#[test]
fn an_image_is_made_where_nothing_can_be_traced() {
    let project = Project::new(&[
        ("lib/looks.py", LOOKS_FROM_C),
        ("etc/conf", ""),
        ("app.lst", "looks\n"),
    ]);
    let mut strace = Command::new("strace");
    clean(&mut strace);
    strace
        .current_dir(project.path(""))
        .env("PYTHONPATH", project.path("lib"))
        .args(["-f", "-qq", "-o", "calls.txt"])
        .args(["-e", "inject=ptrace:error=EPERM"])
        .arg(python())
        .args(["-m", "cds", "dump", "-v", "--image", "app.lst", "app.cds"]);
    let dumped = Outcome::of(&mut strace).success();
    assert_eq!(
        dumped.stderr,
        "cds dump: note: system calls are not watched, so each start compares all variables, but only the files that Python code looked at: \
         ptrace: Operation not permitted (os error 1)\n"
    );
    let mut run = project.command(["-X", "cds=app.cds", "-X", "cds_stats", "-c", "pass"]);
    run.env("PYTHONPATH", project.path("lib"));
    assert_eq!(refusal(&Outcome::of(&mut run).success().stderr), None);
    let refused = Outcome::of(run.env("ONLY_IN_C", "1")).success();
    let reason = refusal(&refused.stderr).unwrap_or_default();
    assert_eq!(reason, "the variable ONLY_IN_C is new");
}
