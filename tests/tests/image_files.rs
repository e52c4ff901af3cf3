//! Files of startup images: files of other users, files that killed writers leave, and the background processes of
//! `-X cds_auto=FILE,image`.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use cpython_cds_tests::{Outcome, Project, clean, python, settle};

const AUTO: [&str; 4] = ["-X", "cds_auto=made/app.cds,image", "-X", "cds_stats"];
const IMAGE: &str = "made/app.cds.image";
const NOT_OWN: &str = "it must be a file that you own and nobody else may read (mode 600)";

/// Some files, and a directory for archives.
fn project(files: &[(&str, &str)]) -> Project {
    let project = Project::new(files);
    fs::create_dir_all(project.path("made")).expect("a directory can be made");
    fs::create_dir_all(project.path("lib")).expect("a directory can be made");
    project
}

fn command(project: &Project, arguments: &[&str]) -> Command {
    let mut command = project.command(arguments);
    command
        .env("PYTHONPATH", project.path("lib"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn run(project: &Project, arguments: &[&str]) -> Outcome {
    Outcome::of(&mut command(project, arguments))
}

/// Runs a program with an automatic image, and waits until the image is written.
fn auto(project: &Project, arguments: &[&str]) -> Outcome {
    let outcome = run(project, &[&AUTO, arguments].concat());
    settle(project);
    outcome
}

/// `restored`, the reason why a process was not restored, or `none` if there is no image.
fn how(outcome: &Outcome) -> &str {
    let said = outcome.stderr.lines().find_map(|line| {
        let line = line.strip_prefix("cds: ")?;
        match line.starts_with("started from ") {
            true => Some("restored"),
            false => Some(line.split_once(" is not used: ")?.1),
        }
    });
    said.unwrap_or("none")
}

#[track_caller]
fn until_restored(project: &Project, arguments: &[&str]) {
    for _ in 0..4 {
        if how(&auto(project, arguments)) == "restored" {
            return;
        }
    }
    panic!("{arguments:?}: {}", note(project));
}

fn note(project: &Project) -> String {
    let note = fs::read(project.path(IMAGE)).unwrap_or_default();
    let end = note.len().min(2000);
    String::from_utf8_lossy(&note[..end]).into_owned()
}

const DUMP: [&str; 7] = [
    "-m",
    "cds",
    "dump",
    "-q",
    "--image",
    "app.lst",
    "made/app.cds",
];

/// Dumps an image of some modules.
fn dump(project: &Project, modules: &str) {
    project.write("app.lst", modules);
    run(project, &DUMP).success();
}

/// Runs a program with the image that [`dump`] has taken.
fn with_image(project: &Project, arguments: &[&str]) -> Outcome {
    let options = ["-X", "cds=made/app.cds", "-X", "cds_stats"];
    run(project, &[&options, arguments].concat())
}

/// The system calls of a run for the file of the image.
fn calls(project: &Project, options: &[&str]) -> String {
    let mut traced = Command::new("strace");
    clean(&mut traced);
    traced
        .current_dir(project.path(""))
        .args(["-qq", "-y", "-o", "calls.txt", "-P", IMAGE, "-P"])
        .arg(project.path(IMAGE))
        .arg(python())
        .args(options)
        .args(["-c", "print('ran')"]);
    let outcome = Outcome::of(&mut traced).success();
    assert_eq!(outcome.stdout, "ran\n");
    settle(project);
    fs::read_to_string(project.path("calls.txt")).expect("strace has written it")
}

/// A file of another user must not be read: reading a file of terabytes would take hours, and a mapped file that is
/// truncated meanwhile would kill the reader.
#[test]
fn what_is_restored_is_ones_own_and_nothing_else_is_read() {
    let project = project(&[]);
    dump(&project, "json\n");
    let good = fs::read(project.path(IMAGE)).expect("there is one");
    let plant = |mode: u32, owner: Option<u32>| {
        let _ = fs::remove_file(project.path(IMAGE));
        let file = File::create(project.path(IMAGE)).expect("it can be created");
        let word = |index: usize| {
            let bytes = &good[8 + 8 * index..][..8];
            u64::from_le_bytes(bytes.try_into().expect("there are eight"))
        };
        let (end, length) = (word(1) as usize, word(2) as usize);
        let far = 4_u64 << 40;
        let mut header = good[..40].to_vec();
        header[16..24].copy_from_slice(&far.to_le_bytes());
        file.write_all_at(&header, 0).expect("it can be written");
        let description = &good[end..end + length];
        file.write_all_at(description, far).expect("it is sparse");
        file.set_permissions(fs::Permissions::from_mode(mode))
            .expect("it is ours");
        owner.is_none_or(|owner| chown(project.path(IMAGE), Some(owner), None).is_ok())
    };
    for (mode, owner) in [
        (0o644, None),
        (0o660, None),
        (0o600, Some(65534)),
        (0o644, Some(65534)),
    ] {
        // Only root can give a file to another user.
        if !plant(mode, owner) {
            continue;
        }
        let refused = with_image(&project, &["-c", "print('ran')"]);
        assert_eq!((how(&refused), &*refused.stdout), (NOT_OWN, "ran\n"));
        let told = run(&project, &["-m", "cds", "inspect", IMAGE]);
        assert_ne!(told.status, 0, "{told:?}");
        assert!(told.stderr.contains(NOT_OWN), "{told:?}");
        let used = calls(&project, &["-X", "cds=made/app.cds"]);
        let renewed = calls(&project, &["-X", "cds_auto=made/app.cds,image"]);
        for calls in [used, renewed] {
            assert!(calls.contains("open"), "{calls}");
            for call in ["read", "mmap"] {
                assert!(!calls.contains(call), "{mode:o} {owner:?}: {calls}");
            }
        }
        let _ = fs::remove_file(project.path("made/app.cds"));
        dump(&project, "json\n");
    }
}

/// Files in the directory for archives, except archives and images.
fn leftovers(project: &Project) -> Vec<String> {
    let entries = fs::read_dir(project.path("made")).expect("it is there");
    let names = entries.map(|entry| {
        let name = entry.expect("it can be listed").file_name();
        name.to_string_lossy().into_owned()
    });
    names.filter(|name| !name.starts_with("app.cds")).collect()
}

/// Writes an archive while strace(1) injects errors into system calls, or kills the writer at one.
fn dump_with(project: &Project, faults: &[&str]) -> Outcome {
    let mut traced = Command::new("strace");
    clean(&mut traced);
    traced
        .current_dir(project.path(""))
        .args(["-qq", "-f", "-o", "calls.txt"]);
    if faults.contains(&WITHOUT_TMPFILE) {
        traced.args(["-P", "made", "-P", "made/app.cds"]);
    }
    for fault in faults {
        traced.args(["-e", fault]);
    }
    traced.arg(python());
    traced.args(["-m", "cds", "dump", "-q", "app.lst", "made/app.cds"]);
    Outcome::of(&mut traced)
}

const KILLED: &str = "inject=rename,renameat,renameat2,linkat:signal=SIGKILL";
/// The directory is opened twice: to list it, and to create a file without a name in it (O_TMPFILE).
const WITHOUT_TMPFILE: &str = "inject=openat:error=EOPNOTSUPP:when=2";

#[test]
fn a_killed_writer_leaves_nothing_or_the_next_one_removes_it() {
    let project = project(&[("app.lst", "json\n")]);
    let made = || fs::read_to_string(project.path("calls.txt")).expect("strace has written it");
    // The writer is killed before the file has a name, with a temporary name, and on a file system without O_TMPFILE.
    for (faults, remains) in [
        (&["inject=linkat:signal=SIGKILL"][..], 0),
        (&["inject=fsync:signal=SIGKILL", KILLED], 0),
        (
            &["inject=rename,renameat,renameat2:error=EIO:signal=SIGKILL"],
            1,
        ),
        (
            &[
                WITHOUT_TMPFILE,
                "inject=rename,renameat,renameat2:error=EIO:signal=SIGKILL",
            ],
            1,
        ),
    ] {
        let killed = dump_with(&project, faults);
        assert_eq!(killed.status, -9, "{killed:?}");
        assert!(leftovers(&project).len() <= 1, "{faults:?}: {}", made());
        if remains == 1 {
            assert_eq!(leftovers(&project).len(), 1, "{faults:?}: {}", made());
        }
        if faults.contains(&WITHOUT_TMPFILE) {
            let refused = made()
                .lines()
                .any(|call| call.contains("O_TMPFILE") && call.contains("(INJECTED)"));
            assert!(refused, "{}", made());
        }
        dump_with(&project, &["trace=none"]).success();
        assert_eq!(leftovers(&project), [""; 0], "{faults:?}");
        fs::remove_file(project.path("made/app.cds")).expect("it was written");
    }
    dump_with(&project, &[WITHOUT_TMPFILE]).success();
    assert_eq!(leftovers(&project), [""; 0]);
    run(&project, &["-m", "cds", "verify", "made/app.cds"]).success();
}

/// Files that another process is writing, and files with similar names, are kept.
#[test]
fn a_writer_removes_only_what_was_left() {
    let project = project(&[
        ("app.lst", "json\n"),
        ("made/.cds-0123456789abcdef", "written just now"),
        ("made/.cds-fedcba9876543210", "left"),
        ("made/.cds-notes", "of somebody"),
        ("made/.cds-0123456789abcdef.txt", "of somebody"),
    ]);
    let writing = File::open(project.path("made/.cds-0123456789abcdef")).expect("it is there");
    writing.lock().expect("nobody else has it");
    dump_with(&project, &["trace=none"]).success();
    let mut left = leftovers(&project);
    left.sort();
    let kept = [
        ".cds-0123456789abcdef",
        ".cds-0123456789abcdef.txt",
        ".cds-notes",
    ];
    assert_eq!(left, kept);
    drop(writing);
    dump_with(&project, &["trace=none"]).success();
    assert_eq!(leftovers(&project).len(), 2);
}

/// So a killed dump cannot leave temporary files there.
#[test]
fn a_dump_of_what_is_restored_needs_no_temporary_directory() {
    let list = "import os, sys; print('temporary files:', os.listdir(os.environ['TMPDIR']), file=sys.stderr)\n";
    let project = project(&[
        ("lib/tool.py", list),
        ("app.lst", "tool\n"),
        ("tmp/.keep", ""),
    ]);
    let mut dump = command(&project, &DUMP);
    let dumped = Outcome::of(dump.env("TMPDIR", project.path("tmp"))).success();
    let said = "temporary files: ['.keep']\n";
    assert!(dumped.stderr.contains(said), "{dumped:?}");
}

/// A lock is released when the program that had it ends, because the background process has no file descriptor of it.
#[test]
fn whoever_writes_what_is_restored_has_no_files_of_the_program() {
    let slow = "import time, sys\nif sys.orig_argv[-1] != 'quick': time.sleep(20)\n";
    let project = project(&[("lib/tool.py", slow), ("app.py", "import tool\n")]);
    run(&project, &["app.py", "quick"]);
    let mut shell = Command::new("sh");
    clean(&mut shell);
    let python = python();
    let line = format!(
        "( flock 9; {} -X {} app.py quick ) 9> lock; flock -n lock true && echo free
        cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c '^cds.auto$'",
        python.display(),
        AUTO[1]
    );
    shell
        .current_dir(project.path(""))
        .env("PYTHONPATH", project.path("lib"))
        .args(["-c", &line]);
    let outcome = Outcome::of(&mut shell);
    let (free, writers) = outcome.stdout.split_once('\n').unwrap_or_default();
    assert_eq!(free, "free", "{outcome:?}");
    assert_ne!(writers.trim(), "0", "{outcome:?}");
    // The background process takes some time to import the modules of the image.
    settle(&project);
}

/// A user who sets the option for all programs has several programs with one archive. The image of one program must not
/// run another program.
#[test]
fn what_minus_m_has_run_is_not_run_again_for_another_to_be_restored() {
    let note = "with open('runs.txt', 'a') as file: file.write(__name__ + '\\n')\n";
    let project = project(&[
        ("lib/first.py", &format!("import json\n{note}")),
        (
            "lib/second.py",
            "import csv, sys\nprint('json' in sys.modules)\nif sys.argv[1:]: import xml.dom.minidom",
        ),
        ("lib/package/__init__.py", ""),
        ("lib/package/tool.py", note),
    ]);
    let runs = || fs::read_to_string(project.path("runs.txt")).unwrap_or_default();
    until_restored(&project, &["-m", "first"]);
    fs::remove_file(project.path(IMAGE)).expect("there is one");
    until_restored(&project, &["-m", "package.tool"]);
    fs::remove_file(project.path(IMAGE)).expect("there is one");
    let before = runs();
    assert!(before.lines().all(|name| name == "__main__"), "{before}");
    until_restored(&project, &["-m", "second"]);
    let missed = auto(&project, &["-m", "second", "more"]);
    assert_eq!((how(&missed), &*missed.stdout), ("restored", "False\n"));
    let renewed = auto(&project, &["-m", "second", "more"]);
    assert_eq!((how(&renewed), &*renewed.stdout), ("restored", "False\n"));
    assert!(
        renewed.stderr.contains("from elsewhere: 0\n"),
        "{renewed:?}"
    );
    assert_eq!(runs(), before);
}

/// `-m` would run the module again and warn.
#[test]
fn a_module_that_minus_m_runs_is_restored_by_no_image_that_has_imported_it() {
    let project = project(&[
        ("lib/package/__init__.py", ""),
        ("lib/package/__main__.py", "print('main')"),
        ("lib/package/tool.py", "print('tool')"),
        ("lib/single.py", "print('single')"),
    ]);
    let same = |arguments: &[&str]| {
        let plain = run(&project, &[&["-X", "cds=off"], arguments].concat());
        let mut imaged = with_image(&project, arguments);
        let how = how(&imaged).to_owned();
        imaged.stderr.retain(|_| false);
        assert_eq!((imaged.stdout, imaged.status), (plain.stdout, plain.status));
        how
    };
    dump(&project, "package\npackage.tool\nsingle\n");
    assert_eq!(same(&["-m", "package"]), "restored");
    for module in ["package.tool", "single"] {
        let reason = format!("it has already imported {module}, which -m would run again");
        assert_eq!(same(&["-m", module]), reason);
    }
    dump(&project, "package\n");
    assert_eq!(same(&["-m", "package.tool"]), "restored");
    project.write("lib/importer.py", "import package.__main__\n");
    dump(&project, "importer\n");
    let reason = "it has already imported package.__main__, which -m would run again";
    assert_eq!(same(&["-m", "package"]), reason);
}

/// A trace list says which modules were run by `-m`. They are in the archive and not in the image.
#[test]
fn a_traced_module_that_minus_m_has_run_is_restored_without() {
    let project = project(&[("lib/tool.py", "print('ran as', __name__)\n")]);
    for (module, arguments) in [("tool", &[][..]), ("json.tool", &["--help"])] {
        let _ = fs::remove_file(project.path("run.lst"));
        let program = [&["-W", "error", "-m", module], arguments].concat();
        run(
            &project,
            &[&["-X", "cds_trace=run.lst"], &program[..]].concat(),
        )
        .success();
        let list = fs::read_to_string(project.path("run.lst")).expect("it was written");
        let line = format!("{module}  # not imported");
        assert!(list.lines().any(|found| found.starts_with(&line)), "{list}");
        project.write("run.lst", &list);
        let dumped = run(
            &project,
            &[
                "-W",
                "error",
                "-m",
                "cds",
                "dump",
                "-q",
                "--image",
                "run.lst",
                "made/app.cds",
            ],
        );
        assert_eq!(
            dumped,
            Outcome {
                stdout: String::new(),
                stderr: String::new(),
                status: 0
            }
        );
        let plain = run(&project, &[&["-X", "cds=off"], &program[..]].concat());
        let restored = with_image(&project, &program);
        assert_eq!(how(&restored), "restored", "{restored:?}");
        assert_eq!(restored.stdout, plain.stdout);
        let from_archive = "from elsewhere: 0\n";
        assert!(restored.stderr.contains(from_archive), "{restored:?}");
        // Merged lists keep this information.
        let merged = run(&project, &["-m", "cds", "merge", "run.lst"]).success();
        assert_eq!(merged.stdout, list);
    }
}

/// A module that reads a variable, and sets one.
const READER: &str =
    "import os\nlevel = os.environ.get('LEVEL', 'none')\nos.environ['BY_READER'] = 'set'\n";

/// A module that reads a variable during its import finds the current value, in runs that set the variable and in runs
/// that do not.
#[test]
fn modules_read_what_a_program_has_set_before_it_is_restored() {
    let show = "import reader\nprint(reader.level, end='')\n";
    let set = "import os, sys\nif sys.argv[1:]: os.environ['LEVEL'] = 'high'\n";
    for program in [
        set,
        "import os, sys\nif sys.argv[1:]: os.putenv(b'LEVEL', b'high'); os.environ['LEVEL'] = 'high'\n",
        "import os, sys\nos.environ['LEVEL'] = 'high'\nif not sys.argv[1:]: os.environ.pop('LEVEL', None)\n",
        "import os, sys\nif len(sys.argv) > 1: os.environ['LEVEL'] = 'high'\n",
    ] {
        let project = project(&[
            ("app.py", &format!("{program}{show}")),
            ("lib/reader.py", READER),
        ]);
        assert_restored_as_plain(&project, &["app.py"], "none", "high");
    }
    // The variable is set by a module beside the script, or by `-c` text.
    let program = project(&[
        ("app.py", &format!("import helper\n{show}")),
        ("helper.py", set),
        ("lib/reader.py", READER),
    ]);
    assert_restored_as_plain(&program, &["app.py"], "none", "high");
    let command = project(&[("lib/reader.py", READER)]);
    let text = format!("{set}{show}");
    assert_restored_as_plain(&command, &["-c", &text], "none", "high");
    // The script is edited so that it sets the variable.
    let edited = project(&[("app.py", show), ("lib/reader.py", READER)]);
    until_restored(&edited, &["app.py"]);
    edited.write("app.py", &format!("{set}{show}"));
    assert_restored_as_plain(&edited, &["app.py"], "none", "high");
}

/// Asserts that each run prints the expected text, without and with an argument, and that the program is restored at
/// last.
#[track_caller]
fn assert_restored_as_plain(project: &Project, arguments: &[&str], without: &str, with: &str) {
    let has_argument = [arguments, &["set"]].concat();
    for _ in 0..3 {
        assert_eq!(auto(project, arguments).stdout, without);
        assert_eq!(auto(project, &has_argument).stdout, with);
    }
    let restored = [arguments, &has_argument].map(|arguments| auto(project, arguments));
    assert!(
        restored.iter().any(|outcome| how(outcome) == "restored"),
        "{restored:?}"
    );
    assert_eq!(restored[1].stdout, with);
}

/// `inspect` shows the program of an image.
#[test]
fn what_one_program_is_restored_from_names_it() {
    let project = project(&[("app.py", "import json\n")]);
    let told = || {
        let program = run(&project, &["-m", "cds", "inspect", IMAGE]).success();
        let line = program
            .stdout
            .lines()
            .find(|line| line.starts_with("  program "));
        line.unwrap_or_default()
            .split_once("program")
            .unwrap_or_default()
            .1
            .trim()
            .to_owned()
    };
    dump(&project, "json\n");
    assert_eq!(told(), "any");
    let directory = fs::canonicalize(project.path("")).expect("it is there");
    for (arguments, name) in [
        (&["app.py"][..], "app.py"),
        (&["-c", "import json"], "-c import json"),
    ] {
        let _ = fs::remove_file(project.path(IMAGE));
        until_restored(&project, arguments);
        assert_eq!(told(), format!("{name} in {}", directory.display()));
    }
}

/// A program that reads a variable, or changes a variable that nothing reads, can have an image.
#[test]
fn a_program_that_sets_variables_for_others_is_restored() {
    let program = "import os, subprocess, sys
import reader
print(reader.level, os.environ.get('OMP_NUM_THREADS'), os.getenv('TZ', 'local'), 'LC_ALL' in os.environ)
os.environ['OWN'] = 'x'
settings = {}
settings['own'] = 1
for name in sys.argv: settings[name] = 2
subprocess.run(['true'], env=dict(os.environ, PYTHONPATH='x'))
";
    let project = project(&[("app.py", program), ("lib/reader.py", READER)]);
    until_restored(&project, &["app.py"]);
    let plain = run(&project, &["app.py"]);
    assert_eq!(auto(&project, &["app.py"]).stdout, plain.stdout);
}

/// Standard input cannot be read a second time, so no image is taken of such a program.
#[test]
fn a_program_from_standard_input_leaves_nothing_to_be_restored() {
    let project = project(&[("app.py", "import json\n")]);
    let shell = || {
        let mut shell = Command::new("sh");
        clean(&mut shell);
        let python = python();
        let line = format!("{} {} < app.py", python.display(), AUTO.join(" "));
        shell.current_dir(project.path("")).args(["-c", &line]);
        shell.env("PYTHONPATH", project.path("lib"));
        let outcome = Outcome::of(shell.env("PYTHONDONTWRITEBYTECODE", "1"));
        settle(&project);
        outcome
    };
    for _ in 0..2 {
        assert_eq!(how(&shell()), "none");
    }
    assert!(!project.path(IMAGE).exists());
    until_restored(&project, &["app.py"]);
    assert_eq!(how(&shell()), "it was made for another program");
}

/// The name of a program need not be text.
#[test]
fn a_program_of_any_name_is_restored() {
    let project = project(&[("lib/reader.py", READER)]);
    let name = PathBuf::from(std::ffi::OsStr::from_bytes(b"app\xff.py"));
    fs::write(project.path(&name), "import reader\nprint(reader.level)\n")
        .expect("it can be written");
    let run = || {
        let mut program = command(&project, &AUTO);
        let outcome = Outcome::of(program.arg(&name));
        settle(&project);
        outcome
    };
    run();
    run();
    let restored = run();
    assert_eq!((how(&restored), &*restored.stdout), ("restored", "none\n"));
}
