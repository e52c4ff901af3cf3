//! Standard streams and terminals of processes that are restored from a startup image.

use std::fs;
use std::process::Command;

use cpython_cds_tests::image::{IMPORTS, SHOW, project, refusal};
use cpython_cds_tests::{DUMP_IMAGE, Outcome, Project, clean, python, settle};

/// The program is on standard input, or the streams differ from those of the dump.
#[test]
fn standard_streams_are_those_of_the_new_process() {
    let program = format!("{IMPORTS}{SHOW}");
    let project = project(&program);
    project.write("input.txt", "a line\nanother\n");
    let python = python();
    let shell = |option: &str, redirections: &str| {
        let mut command = Command::new("sh");
        clean(&mut command);
        command.current_dir(project.path("")).arg("-c");
        let line = format!("{} -X {option} {redirections}", python.display());
        Outcome::of(command.arg(line))
    };
    for redirections in [
        "- one < app.py",
        "app.py < input.txt",
        "app.py 2>&1 | cat",
        "app.py <&-",
        "app.py < / 2>&1 | head -1",
        "app.py >&-",
        "app.py 2>&-",
        "app.py <&- >&- 2>&-",
        "app.py > /dev/full",
        "app.py < /dev/null > /dev/null",
        "-c 'print(input(), input())' < input.txt",
        "-c 'import os; os.write(1, b\"raw\"); print(1, end=\"\")'",
    ] {
        assert_eq!(
            shell("cds=app.cds", redirections),
            shell("cds=off", redirections),
            "{redirections}"
        );
    }
}

/// Imports may change or replace the standard streams: the program gets the streams that the imports have left.
#[test]
fn standard_streams_are_those_that_imports_have_left() {
    let show = "print('printed'); kept.write('kept\\n'); print('again')
os.write(1, b'at once\\n')
for stream in (sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__):
    told = [getattr(stream, name, None) for name in ('name', 'mode', 'encoding', 'errors', 'line_buffering', 'write_through', 'closed')]
    print(type(stream), told, file=sys.__stderr__)
print(kept is sys.stdout, kept is sys.__stdout__, sys.stdin.readline(), file=sys.__stderr__)
kept.write('last'); sys.__stdout__.write('last of all')
";
    for (imported, options) in [
        ("kept = sys.stdout", &[][..]),
        ("kept = sys.stdout", &["-u"]),
        ("kept = io.TextIOWrapper(sys.stdout.buffer)", &[]),
        (
            "sys.stdout = kept = io.TextIOWrapper(sys.stdout.detach(), 'latin-1'); sys.__stdout__ = sys.stdout",
            &[],
        ),
        ("sys.stdout = kept = io.StringIO()", &[]),
        (
            "class Doubled:
    def __init__(self, stream): self.stream = stream
    def write(self, text): return self.stream.write(text * 2)
    def __getattr__(self, name): return getattr(self.stream, name)
sys.stdout = kept = Doubled(sys.stdout)",
            &[],
        ),
        (
            "sys.stdout.reconfigure(encoding='utf-16', errors='replace', line_buffering=True); kept = sys.stdout",
            &[],
        ),
        (
            "sys.stdout.reconfigure(newline='\\r\\n', line_buffering=False); kept = sys.stdout",
            &[],
        ),
        (
            "sys.stderr.reconfigure(line_buffering=False, write_through=True); kept = sys.stderr",
            &[],
        ),
        ("kept = open(1, 'w', closefd=False)", &[]),
        (
            "sys.stdin.close(); sys.stdin = io.StringIO('line'); kept = sys.stdout",
            &[],
        ),
        (
            "import logging; logging.basicConfig(stream=sys.stdout); kept = logging.root.handlers[0].stream",
            &[],
        ),
    ] {
        let project = Project::new(&[
            (
                "app.py",
                &format!("import io, os, sys\nfrom lib import kept\n{show}"),
            ),
            ("path/lib.py", &format!("import io, os, sys\n{imported}\n")),
            ("app.lst", "lib\n"),
            ("input.txt", "from a file\n"),
        ]);
        let library = |command: &mut Command| {
            command.env("PYTHONPATH", project.path("path"));
        };
        let mut dump = project.command(options.iter().copied());
        dump.args(DUMP_IMAGE);
        library(&mut dump);
        Outcome::of(&mut dump).success();
        let python = python();
        let run = |option: &str, redirections: &str| {
            let mut command = Command::new("sh");
            clean(&mut command);
            library(&mut command);
            let (python, options) = (python.display(), options.join(" "));
            let line = format!("{python} {options} -X {option} {redirections}");
            Outcome::of(command.current_dir(project.path("")).args(["-c", &line]))
        };
        let restored = run("cds=app.cds -X cds_stats", "-c pass 2>&1");
        assert!(
            restored.stdout.contains("started from"),
            "{imported}: {restored:?}"
        );
        for redirections in [
            "app.py < input.txt",
            "app.py < input.txt > out.txt; cat out.txt",
            "app.py < input.txt 2>&1",
            "app.py < /dev/null >&-",
            "app.py <&-",
        ] {
            assert_eq!(
                run("cds=app.cds", redirections),
                run("cds=off", redirections),
                "{imported}: {redirections}"
            );
        }
    }
}

/// Input at a terminal: code, ctrl-C at the prompt and in a program, ctrl-D, with both prompts of Python and with a
/// program that reads its input.
#[test]
fn it_is_the_same_to_talk_to_a_restored_process() {
    const STEPS: &str = r#"[
        [">>> $", "1+1\r"],
        ["\\n2\n.*>>> $", "import sys; sys.argv, __name__, sys.flags.interactive, sys.stdin.isatty()\r"],
        ["\\)\n.*>>> $", "def f(x): return x * 3\r\r"],
        ["\n.*>>> $", "f('ab'), _\r"],
        ["ababab.*>>> $", "\u0003"],
        ["KeyboardInterrupt\n.*>>> $", "1/0\r"],
        ["ZeroDivisionError: .*>>> $", "import time; print('g' + 'o'); time.sleep(60)\r"],
        ["\ngo\n", "\u0003"],
        ["KeyboardInterrupt\n.*>>> $", "f(\r"],
        ["\\.\\.\\. $", "\u0003"],
        ["KeyboardInterrupt\n.*>>> $", "input('name? ')\r"],
        ["name\\? $", "ada\r"],
        ["'ada'\n.*>>> $", "import atexit; atexit.register(print, 'at', 'exit') and None\r"],
        ["\n.*>>> $", "\u0004"]
    ]"#;
    const PROGRAM: &str = "print('ready', input('name? '))\ntry: input()\nexcept KeyboardInterrupt: print('interrupted')\ninput()\n";
    const TO_PROGRAM: &str =
        r#"[["name\\? $", "ada\r"], ["ready ada\n", "\u0003"], ["interrupted\n", "\u0004"]]"#;
    let project = Project::new(&[
        ("terminal.py", include_str!("../src/terminal.py")),
        ("app.py", PROGRAM),
    ]);
    for (prompt, basic) in [("basic", "1"), ("new", "")] {
        let configure = |command: &mut Command| {
            let home = project.path("");
            command.env("PYTHON_BASIC_REPL", basic).env("TERM", "xterm");
            command.env("NO_COLOR", "1").env("HOME", home);
        };
        let mut dump = project.command(["-m", "cds", "dump", "-q", "--image", "app.cds"]);
        configure(&mut dump);
        Outcome::of(&mut dump).success();
        for (steps, arguments) in [
            (STEPS, &[][..]),
            (STEPS, &["-q"]),
            (STEPS, &["-"]),
            (TO_PROGRAM, &["app.py"]),
        ] {
            let typed = |archive: &str| {
                let mut command = project.command(["-X", "cds=off", "terminal.py", steps]);
                configure(&mut command);
                command.env("PYTHON_CDS_CACHE", project.path("cache"));
                command.arg(python()).args(["-X", archive]);
                command.args(["-X", "cds_stats=stats.txt"]).args(arguments);
                let outcome = Outcome::of(&mut command).success();
                let stats = fs::read_to_string(project.path("stats.txt")).unwrap();
                (outcome.stdout, refusal(&stats))
            };
            let (restored, refusal) = typed("cds=app.cds");
            // The image was made without the option `-q`.
            assert_eq!(refusal.is_some(), arguments == ["-q"], "{refusal:?}");
            let (plain, _) = typed("cds=off");
            assert_eq!(restored, plain, "{prompt} {arguments:?}");
            // The same with the cache: a session is restored from a base image.
            let mut last = None;
            for _ in 0..3 {
                let (restored, _) = typed("cds=auto");
                assert_eq!(restored, plain, "{prompt} {arguments:?}");
                settle(&project);
                last = Some(fs::read_to_string(project.path("stats.txt")).unwrap());
            }
            let last = last.unwrap_or_default();
            assert!(
                last.contains("started from"),
                "{prompt} {arguments:?}: {last}"
            );
        }
    }
}

/// Imports ask whether a stream is a terminal, and for its width.
#[test]
fn terminals_are_compared_where_imports_have_asked() {
    const LINE: &str =
        "a line that is much longer than forty columns are, so that it has to be wrapped";
    let project = Project::new(&[
        ("terminal.py", include_str!("../src/terminal.py")),
        (
            "app.py",
            "import sys; print(input('? ') if sys.stdin.isatty() else 0)\n",
        ),
        ("lib/unasked.py", ""),
        (
            "lib/coloured.py",
            "import sys\ncoloured = sys.stdout.isatty()\n",
        ),
        (
            "lib/wide.py",
            "import os\ntry: os.get_terminal_size(2)\nexcept OSError: pass\n",
        ),
        ("lib/edited.py", "import readline\n"),
        ("lib/asked.py", "import readline, sys\nsys.stdin.isatty()\n"),
    ]);
    let steps = format!(r#"[["\\? $", "{LINE}\r"]]"#);
    let python = python().display().to_string();
    let run = |columns: Option<u32>, steps: &str, arguments: &[&str]| {
        let mut command = project.command(["-X", "cds=off"]);
        command.env("PYTHONPATH", project.path("lib"));
        command.env("TERM", "xterm").env("INPUTRC", "/dev/null");
        if let Some(columns) = columns {
            let resized = format!("stty rows 20 cols {columns}; exec \"$0\" \"$@\"");
            command.args(["terminal.py", steps, "sh", "-c", &resized, &python]);
        } else {
            command = {
                let mut plain = project.command(<[&str; 0]>::default());
                plain.env("PYTHONPATH", project.path("lib"));
                plain.env("TERM", "xterm").env("INPUTRC", "/dev/null");
                plain
            };
        }
        Outcome::of(command.args(arguments)).success().stdout
    };
    let mut said = String::new();
    for module in ["unasked", "coloured", "wide", "edited", "asked"] {
        project.write("app.lst", module);
        for taken in [None, Some(40)] {
            run(taken, "[]", &DUMP_IMAGE);
            for columns in [None, Some(40), Some(60)] {
                let stats = ["-X", "cds=app.cds", "-X", "cds_stats=stats.txt", "app.py"];
                let restored = run(columns, &steps, &stats);
                assert_eq!(restored, run(columns, &steps, &["-X", "cds=off", "app.py"]));
                let stats = fs::read_to_string(project.path("stats.txt")).unwrap();
                let refusal = refusal(&stats).unwrap_or("(restored)".to_owned());
                said.push_str(&format!("{module}, {taken:?}, {columns:?}: {refusal}\n"));
            }
        }
    }
    insta::assert_snapshot!(said);
}
