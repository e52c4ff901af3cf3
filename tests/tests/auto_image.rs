//! `-X cds_auto=FILE,image`: a background process writes and renews the archive and its startup image, and the program
//! does not notice it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use cpython_cds_tests::{Outcome, Project, clean, python, settle};

const AUTO: [&str; 4] = ["-X", "cds_auto=made/app.cds,image", "-X", "cds_stats"];
const IMAGE: &str = "made/app.cds.image";
const NOT_TAKEN: &str = "no startup image could be taken: ";

/// A program with a module beside it and one in a directory of the path. It has already run, so that `.pyc` files no
/// longer change its directories.
fn project() -> Project {
    let project = Project::new(&[
        (
            "app.py",
            "import sys, helper, tool\nprint(helper.x, tool.x, tool.data)\nsys.exit(3)\n",
        ),
        ("helper.py", "x = 'first'\n"),
        (
            "lib/tool.py",
            "import json, os\nx = json.dumps([1])\nwith open(os.path.join(os.path.dirname(__file__), 'data.txt')) as file: data = file.read()\n",
        ),
        ("lib/data.txt", "data"),
    ]);
    fs::create_dir(project.path("made")).expect("a directory can be made");
    run(&project, &["app.py"]);
    project
}

fn run(project: &Project, arguments: &[&str]) -> Outcome {
    Outcome::of(&mut project.command_with_lib(arguments))
}

fn auto(project: &Project, arguments: &[&str]) -> Outcome {
    run(project, &[&AUTO, arguments].concat())
}

/// The output of a run, and what the statistics say about its image: `restored`, the reason for a refusal, or `none` if
/// there is no image.
fn told(outcome: &Outcome) -> (&str, &str) {
    let mut lines = outcome.stderr.lines();
    let image = lines
        .find_map(|line| {
            let line = line.strip_prefix("cds: ")?;
            if line.starts_with("started from ") {
                return Some("restored");
            }
            line.split_once(" is not used: ").map(|(_, reason)| reason)
        })
        .unwrap_or("none");
    (outcome.stdout.trim_end(), image)
}

/// Runs the program until it is restored and all modules that it loads then come from the archive.
#[track_caller]
fn until_restored(project: &Project, arguments: &[&str]) -> Outcome {
    until(project, arguments, |outcome| {
        told(outcome).1 == "restored" && outcome.stderr.contains("from elsewhere: 0\n")
    })
}

/// Runs the program up to three times, and waits for background processes before each run.
#[track_caller]
fn until(project: &Project, arguments: &[&str], is_so: impl Fn(&Outcome) -> bool) -> Outcome {
    settle(project);
    let mut outcome = auto(project, arguments);
    for _ in 0..2 {
        if is_so(&outcome) {
            break;
        }
        settle(project);
        outcome = auto(project, arguments);
    }
    assert!(is_so(&outcome), "{outcome:?}");
    outcome
}

/// Whether a run starts a process, which it only does to renew something. The program itself starts none.
fn renews(project: &Project, arguments: &[&str]) -> bool {
    let mut traced = Command::new("strace");
    clean(&mut traced);
    traced
        .current_dir(project.path(""))
        .env("PYTHONPATH", project.path("lib"))
        .args([
            "-qq",
            "-o",
            "calls.txt",
            "-e",
            "trace=clone,clone3,fork,vfork",
        ])
        .arg(python())
        .args(AUTO)
        .args(arguments);
    Outcome::of(&mut traced);
    let calls = fs::read_to_string(project.path("calls.txt")).expect("strace has written it");
    !calls.is_empty()
}

#[test]
fn the_second_run_is_restored_and_so_is_the_fourth_after_an_edit() {
    let project = project();
    let plain = run(&project, &["app.py"]);
    let first = run(&project, &[AUTO[0], AUTO[1], "app.py"]);
    assert_eq!(first, plain);
    let second = until_restored(&project, &["app.py"]);
    assert_eq!(told(&second), ("first [1] data", "restored"));
    assert_eq!(second.status, plain.status);

    project.write("lib/tool.py", "x, data = 'edited', ''\n");
    let third = auto(&project, &["app.py"]);
    let reason = format!("{} has changed", project.path("lib/tool.py").display());
    assert_eq!(told(&third), ("first edited", &*reason));
    let fourth = until_restored(&project, &["app.py"]);
    assert_eq!(told(&fourth), ("first edited", "restored"));
}

/// The archive is up to date in these cases.
#[test]
fn a_file_that_imports_have_read_renews_what_is_restored() {
    let project = project();
    until_restored(&project, &["app.py"]);
    project.write("lib/data.txt", "other data");
    let stale = auto(&project, &["app.py"]);
    let reason = format!("{} has changed", project.path("lib/data.txt").display());
    assert_eq!(told(&stale), ("first [1] other data", &*reason));
    until_restored(&project, &["app.py"]);
    for damage in [
        |image: &mut Vec<u8>| image.truncate(5000),
        |image: &mut Vec<u8>| image.clear(),
    ] {
        let mut image = fs::read(project.path(IMAGE)).expect("there is one");
        damage(&mut image);
        fs::write(project.path(IMAGE), image).expect("it can be written");
        until_restored(&project, &["app.py"]);
    }
    fs::remove_file(project.path(IMAGE)).expect("there is one");
    until_restored(&project, &["app.py"]);
}

/// A restored process may miss a module, too. The sources of the modules in its image must not have changed.
#[test]
fn a_restored_run_renews_what_it_misses() {
    let project = project();
    project.write("lib/late.py", "x = 'late'\n");
    let late =
        "import sys, helper, tool\nprint('late' in sys.modules)\nif sys.argv[1:]: import late\n";
    project.write("app.py", late);
    until_restored(&project, &["app.py"]);
    project.write("helper.py", "x = 'second, and longer'\n");
    let edited = auto(&project, &["app.py"]);
    let reason = format!("{} has changed", project.path("helper.py").display());
    assert_eq!(told(&edited).1, reason);
    assert!(
        edited.stderr.contains("helper: source changed\n"),
        "{}",
        edited.stderr
    );
    until_restored(&project, &["app.py"]);
    let missed = auto(&project, &["app.py", "late"]);
    assert_eq!(told(&missed), ("False", "restored"));
    assert!(missed.stderr.contains("from elsewhere: 1\n"), "{missed:?}");
    // The module that is imported after a look at the arguments is in the archive, not in the image.
    let has_late = |outcome: &Outcome| outcome.stderr.contains("from elsewhere: 0\n");
    let found = until(&project, &["app.py", "late"], has_late);
    assert_eq!(told(&found), ("False", "restored"));
    assert!(!renews(&project, &["app.py"]));
}

/// Another program may import in another order, or do something before. It only shares the archive, and the image
/// remains that of the first program.
#[test]
fn another_program_is_not_restored() {
    let project = project();
    project.write(
        "other.py",
        "import csv, sys\nprint('tool' in sys.modules)\n",
    );
    until_restored(&project, &["app.py"]);
    for arguments in [&["other.py"][..], &["-c", "import tool"], &["-m", "tool"]] {
        for _ in 0..2 {
            let other = auto(&project, arguments);
            settle(&project);
            assert_eq!(told(&other).1, "it was made for another program");
        }
        assert!(!renews(&project, arguments));
        assert_eq!(told(&auto(&project, &["app.py"])).1, "restored");
    }
}

#[test]
fn a_variable_asks_for_what_is_restored_as_well() {
    let project = project();
    until_restored(&project, &["app.py"]);
    let with = |name: &str, value: &str, arguments: &[&str]| {
        let mut command = project.command_with_lib(arguments);
        command
            .env("PYTHON_CDS_STATS", "1")
            .env(name, value)
            .arg("app.py");
        told(&Outcome::of(&mut command)).1.to_owned()
    };
    let image = "made/app.cds,image";
    assert_eq!(with("PYTHON_CDS_AUTO", image, &[]), "restored");
    // Without `,image` there is no image, and `cds` takes precedence over `cds_auto`.
    assert_eq!(with("PYTHON_CDS_AUTO", "made/app.cds", &[]), "none");
    assert_eq!(with("PYTHON_CDS", "off", &AUTO[..2]), "none");
    assert_eq!(with("PYTHON_CDS_AUTO", image, &["-X", "cds=off"]), "none");
    // Only an ordinary start can write a trace.
    let trace = project.path("run.lst");
    let not_restored = with("PYTHON_CDS_TRACE", &trace.to_string_lossy(), &AUTO[..2]);
    assert_eq!(not_restored, "none");
    let trace = fs::read_to_string(trace).expect("it was written");
    assert!(trace.contains("tool"), "{trace}");
}

/// Otherwise processes with different options, which run in turn, would renew the image each time.
#[test]
fn other_options_and_variables_leave_alone_what_is_restored() {
    let project = project();
    until_restored(&project, &["app.py"]);
    for options in [
        &["-u", "app.py"][..],
        &["-O", "app.py"],
        &["-Werror", "app.py"],
        &["-i", "app.py"],
    ] {
        let outcome = auto(&project, options);
        assert_ne!(told(&outcome).1, "restored", "{options:?}");
        assert!(!renews(&project, options), "{options:?}");
        assert_eq!(told(&auto(&project, &["app.py"])).1, "restored");
    }
    let mut elsewhere = project.command_with_lib(&AUTO);
    elsewhere.env("TZ", "UTC").arg("app.py");
    let outcome = Outcome::of(&mut elsewhere);
    assert_eq!(told(&outcome), ("first [1] data", "the variable TZ is new"));
    assert_eq!(told(&auto(&project, &["app.py"])).1, "restored");
    // When there is no image, the first program with options gets an image with these options.
    fs::remove_file(project.path(IMAGE)).expect("there is one");
    until_restored(&project, &["-uWerror", "-X", "utf8", "app.py"]);
}

/// The image is for the variables, directory and signals that the run was started with, not for those that it has set.
#[test]
fn a_program_that_changes_its_process_is_restored_all_the_same() {
    let project = project();
    project.write(
        "app.py",
        "import os, signal, tool\nprint(os.environ['HOME'], os.getenv('LC_ALL'), len(signal.pthread_sigmask(signal.SIG_BLOCK, [12])))\n\
         os.environ['HOME'] = '/'\nos.environ['SOME'] = 'thing'\nos.chdir('/')\nsignal.signal(15, signal.SIG_IGN)\n",
    );
    let plain = run(&project, &["app.py"]);
    let restored = until_restored(&project, &["app.py"]);
    assert_eq!(restored.stdout, plain.stdout);
    assert!(project.path(IMAGE).exists());
}

/// When an image is taken, the program runs up to the first effect that others can see.
#[test]
fn what_a_program_does_is_not_done_for_it_to_be_restored() {
    let project = project();
    let note = "import tool\nwith open('runs.txt', 'a') as file: file.write('run\\n')\n";
    project.write("lib/package/__init__.py", "");
    project.write("lib/package/__main__.py", note);
    project.write("lib/single.py", note);
    for name in ["package", "single"] {
        run(&project, &["-m", name]);
        fs::write(project.path("runs.txt"), "").expect("a file can be written");
        let mut runs = 1;
        while told(&auto(&project, &["-m", name])).1 != "restored" {
            settle(&project);
            runs += 1;
            assert!(runs < 5, "{name} is never restored");
        }
        let noted = fs::read_to_string(project.path("runs.txt")).expect("it is there");
        assert_eq!(noted.lines().count(), runs, "{name}");
        let _ = fs::remove_file(project.path(IMAGE));
    }
}

/// The image is of the program, and not of a list of imports.
#[test]
fn imports_that_are_restored_have_seen_what_the_program_did_before() {
    let project = project();
    project.write(
        "lib/reader.py",
        "import os, sys, ctypes, json, decimal, warnings\n\
         level = os.environ.get('LEVEL'), ctypes.CDLL(None).getenv(b'OMP_NUM_THREADS') != 0\n\
         seen = json.dumps(1), decimal.getcontext().prec, 'blocked' in sys.modules, sys.path[0][-5:], len(warnings.filters) > 6\n",
    );
    project.write(
        "app.py",
        "import os, sys, json, decimal, warnings\n\
         before = 'reader' in sys.modules\n\
         os.environ['LEVEL'] = 'high'\n\
         os.environ['OMP_NUM_THREADS'] = '1'\n\
         json.dumps = lambda it: 'patched'\n\
         decimal.getcontext().prec = 5\n\
         sys.modules['blocked'] = None\n\
         sys.path.insert(0, '/nowhere/first')\n\
         warnings.simplefilter('ignore', DeprecationWarning)\n\
         warnings.filterwarnings('error', category=FutureWarning)\n\
         import reader\n\
         print(before, reader.level, reader.seen, __file__, os.environ['LEVEL'])\n",
    );
    let plain = run(&project, &["app.py"]);
    let restored = until_restored(&project, &["app.py"]);
    assert_eq!(restored.stdout, plain.stdout);
    assert!(plain.stdout.contains("'high', True"), "{plain:?}");
}

/// If no image can be taken, a note says why. The next attempt is made when the archive is renewed, or after a day.
#[test]
fn what_cannot_be_restored_is_tried_once() {
    let project = project();
    project.write(
        "lib/sitecustomize.py",
        "import sys\nsys.addaudithook(lambda *arguments: None)\n",
    );
    let plain = run(&project, &["app.py"]);
    let noted = until(&project, &["app.py"], |outcome| told(outcome).1 != "none");
    let reason = "the interpreter has an audit hook (of sitecustomize or a .pth file)";
    let refused = format!("{NOT_TAKEN}{reason}");
    assert_eq!(told(&noted), (plain.stdout.trim_end(), &*refused));
    for (command, status) in [("inspect", 0), ("verify", 1)] {
        let of_note = run(&project, &["-m", "cds", command, IMAGE]);
        assert!(of_note.stdout.contains(&refused), "{of_note:?}");
        assert_eq!(of_note.status, status);
        // The archive itself is good.
        let of_archive = run(&project, &["-m", "cds", command, "made/app.cds"]);
        assert!(of_archive.success().stdout.contains(&refused));
    }
    let stats = run(
        &project,
        &["-m", "cds", "stats", "--archive", "made/app.cds", "app.py"],
    );
    assert!(stats.stderr.contains(&refused), "{stats:?}");
    let note = fs::read_to_string(project.path(IMAGE)).expect("it is text");
    assert!(
        note.starts_with("no startup image could be taken") && note.contains(reason),
        "{note}"
    );
    assert!(!renews(&project, &["app.py"]));
    let a_day_ago = SystemTime::now() - Duration::from_secs(24 * 3600 + 60);
    let file = File::open(project.path(IMAGE)).expect("it is there");
    file.set_modified(a_day_ago).expect("it is our own");
    assert!(renews(&project, &["app.py"]));
    settle(&project);
    assert!(!renews(&project, &["app.py"]));
    project.write("lib/sitecustomize.py", "edited = True\n");
    until_restored(&project, &["app.py"]);
}

/// An image would be renewed each time if writing it changed a file that it depends on.
#[test]
fn what_cannot_be_restored_for_where_it_lies_is_tried_once() {
    let project = project();
    project.write("lib/data.txt", "data");
    project.write(
        "lib/tool.py",
        "import os\nx, data = 1, sorted(os.listdir('made'))\n",
    );
    auto(&project, &["app.py"]);
    settle(&project);
    let refused = format!("{NOT_TAKEN}changed while the image was taken, perhaps by taking it: ");
    let noted = auto(&project, &["app.py"]);
    assert!(told(&noted).1.starts_with(&refused), "{noted:?}");
    let note = fs::read_to_string(project.path(IMAGE)).expect("it is text");
    let reason = format!("by taking it: {}\n", project.path("made").display());
    assert!(note.contains(&reason), "{note}");
}

/// The programs end without finalizing the interpreter.
#[test]
fn two_runs_that_end_in_any_way_have_the_third_restored() {
    for end in [
        "os._exit(4)",
        "os.kill(os.getpid(), 15)",
        "os.kill(os.getpid(), 9)",
        "os.execv('/bin/echo', ['echo', 'executed'])",
    ] {
        let project = project();
        let program = fs::read_to_string(project.path("app.py")).expect("it is there");
        // The program ends in the ordinary way if standard input is not empty.
        let begin = "import os, sys\nend = sys.exit\nsys.exit = lambda status: end(status) if os.read(0, 1) else END\n";
        let begin = begin.replace("END", &format!("(sys.stdout.flush(), {end})"));
        let normal = || {
            let input = File::open(project.path("app.py")).expect("it is there");
            let arguments = [&AUTO, &["app.py"][..]].concat();
            Outcome::reading(&mut project.command_with_lib(&arguments), input.into())
        };
        project.write("app.py", &format!("{begin}{program}"));
        let plain = run(&project, &["app.py"]);
        for _ in 0..2 {
            assert_eq!(run(&project, &[AUTO[0], AUTO[1], "app.py"]), plain, "{end}");
            settle(&project);
        }
        let third = normal();
        assert_eq!(told(&third).1, "restored", "{end}: {third:?}");
        // Such runs also renew the image alone.
        project.write("lib/data.txt", "other data");
        let plain = run(&project, &["app.py"]);
        for _ in 0..3 {
            assert_eq!(run(&project, &[AUTO[0], AUTO[1], "app.py"]), plain, "{end}");
            settle(&project);
        }
        let last = normal();
        assert_eq!(told(&last), ("first [1] other data", "restored"), "{end}");
    }
}

/// An image that is out of date is not broken. The command that is printed renews it.
#[test]
fn what_is_out_of_date_is_restored_again_by_the_command_that_verify_prints() {
    let project = project();
    until_restored(&project, &["app.py"]);
    settle(&project);
    let cds = |arguments: &[&str]| run(&project, &[&["-m", "cds"], arguments].concat());
    let good = cds(&["verify", "made/app.cds"]).success().stdout;
    let image = "\nmade/app.cds.image: good, and nothing that it depends on has changed\n";
    assert!(
        good.starts_with("made/app.cds: good (") && good.contains(image),
        "{good}"
    );
    let inspected = cds(&["inspect", "made/app.cds"]).success().stdout;
    let program = project.path("app.py").display().to_string();
    let image = inspected.split_once("\nStartup image\n  made/app.cds.image: ");
    let (_, image) = image.expect("it tells of the image");
    assert!(
        image.contains("Nothing that it depends on has changed.\n"),
        "{image}"
    );

    project.write("lib/tool.py", "x, data = 'edited', ''\n");
    let stale = cds(&["verify", "made/app.cds"]);
    let changed = project.path("lib/tool.py").display().to_string();
    for line in [
        "made/app.cds: 1 out of date",
        &format!("  tool: source changed: {changed}"),
        "made/app.cds.image: 1 out of date",
        &format!("  {changed}"),
    ] {
        assert!(
            stale.stdout.lines().any(|found| found == line),
            "{line}: {stale:?}"
        );
    }
    assert!(
        !stale.stdout.contains("roken") && stale.status == 1,
        "{stale:?}"
    );
    let json = cds(&["verify", "--json", "made/app.cds"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(json["startup_image"]["changed"][0], *changed);
    let inspected = cds(&["inspect", "made/app.cds"]).success().stdout;
    assert!(
        inspected.contains(&format!(
            "  Changed since the image was taken, so it is not used\n    {changed}\n"
        )),
        "{inspected}"
    );
    let commands = stale
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("Write it again: "));
    let commands = Vec::from_iter(commands);
    assert!(
        commands.len() == 2 && commands[0] == commands[1],
        "{commands:?}"
    );
    assert!(
        commands[0].contains(",image ") && commands[0].ends_with("app.py"),
        "{program}: {commands:?}"
    );
    let mut shell = Command::new("sh");
    clean(&mut shell);
    shell.env("PYTHONPATH", project.path("lib"));
    Outcome::of(shell.args(["-c", commands[0]]));
    settle(&project);
    cds(&["verify", "made/app.cds"]).success();
    assert_eq!(told(&auto(&project, &["app.py"])).1, "restored");
}

#[test]
fn many_at_once_are_restored_in_the_end() {
    let project = project();
    let plain = run(&project, &["app.py"]);
    for _ in 0..3 {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    assert_eq!(run(&project, &[AUTO[0], AUTO[1], "app.py"]), plain);
                });
            }
        });
    }
    until_restored(&project, &["app.py"]);
    settle(&project);
    let made = fs::read_dir(project.path("made")).expect("it can be listed");
    let mut names: Vec<_> = made.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    assert_eq!(names, ["app.cds", "app.cds.image"]);
    let mode = fs::metadata(project.path(IMAGE)).expect("there is one");
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
}

/// The working directory is missing when the image is taken, and the program does not need it.
#[test]
fn a_program_whose_directory_was_removed_is_restored() {
    let project = project();
    let script = project.path("app.py").display().to_string();
    let archive = project.path("made/app.cds").display().to_string();
    let in_vain = |option: &str| {
        let mut command = Command::new("sh");
        clean(&mut command);
        let enter = "mkdir gone; cd gone; rmdir ../gone; exec \"$0\" \"$@\"";
        command.current_dir(project.path("")).args(["-c", enter]);
        command.env("PYTHONPATH", project.path("lib"));
        command
            .arg(python())
            .args(["-X", option, "-X", "cds_stats"]);
        let outcome = Outcome::of(command.arg(&script));
        settle(&project);
        outcome
    };
    let plain = in_vain("cds=off");
    let auto = format!("cds_auto={archive},image");
    for _ in 0..2 {
        assert_eq!(in_vain(&auto).stdout, plain.stdout);
    }
    let last = in_vain(&auto);
    assert_eq!(
        told(&last),
        (plain.stdout.trim_end(), "restored"),
        "{last:?}"
    );
}
