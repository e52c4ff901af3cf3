//! The interpreter starts without a dynamic linker and loads it itself. Programs do not notice this.

use std::process::Command;

use cpython_cds_tests::{Outcome, Project, clean, python};

/// Prints what a process can find out about its own program and the dynamic linker.
const SHOW: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
libc.getauxval.restype = ctypes.c_ulong
maps = [line.split() for line in open("/proc/self/maps")]
def mapped(address):
    for fields in maps:
        start, end = (int(number, 16) for number in fields[0].split("-"))
        if start <= address < end:
            return os.path.basename(fields[5] if len(fields) > 5 else ""), fields[1], address - start
AT_PHDR, AT_PHNUM, AT_BASE, AT_ENTRY = 3, 5, 7, 9
linker, _, distance = mapped(libc.getauxval(AT_BASE))
print("base", linker.startswith("ld-"), distance)
print("entry", mapped(libc.getauxval(AT_ENTRY))[0] == os.path.basename(os.path.realpath(sys.executable)))
headers = [struct.unpack("<IIQQQQQQ", ctypes.string_at(libc.getauxval(AT_PHDR) + 56 * n, 56)) for n in range(libc.getauxval(AT_PHNUM))]
[interpreter] = [header for header in headers if header[0] == 3]
print("interpreter", os.path.basename(ctypes.string_at(interpreter[3], interpreter[5] - 1).decode()) == linker)
print("executable", os.path.samefile("/proc/self/exe", sys.executable))
print(sys.argv[1:], os.environ.get("LD_BIND_NOW"), os.environ.get("WORD"))
"#;

const EXPECTED: &str = "base True 0\nentry True\ninterpreter True\nexecutable True\n";

/// The auxiliary vector and the program headers are the same as when the kernel loads the dynamic linker.
#[test]
fn the_dynamic_linker_is_loaded_as_by_the_kernel() {
    let project = Project::new(&[("app.py", SHOW)]);
    let mut command = project.command(["app.py", "a", ""]);
    let outcome = Outcome::of(command.env("LD_BIND_NOW", "1").env("WORD", "b c")).success();
    assert_eq!(outcome.stdout, format!("{EXPECTED}['a', ''] 1 b c\n"));
}

/// Programs can have arguments, and values of options, that look like options of the launcher. With the option itself and
/// nothing to wait for, the interpreter starts, too.
#[test]
fn arguments_that_look_like_options_are_left_to_the_program() {
    let project = Project::new(&[("app.py", "import sys\nprint(sys.argv[1:])\nsys.exit(3)\n")]);
    for option in [
        "-Xcds_after_run",
        "-Xcds=auto",
        "-Xcds_auto=app.cds,image",
        "-Xcds_image=none",
    ] {
        let outcome = Outcome::of(&mut project.command(["app.py", option]));
        let expected = format!("['{option}']\n");
        assert_eq!((outcome.stdout, outcome.status), (expected, 3), "{option}");
    }
    for options in [
        &["-Xcds_after_run"][..],
        &["-X", "cds_after_run"],
        &["-W", "ignore", "-Xcds_after_run"],
    ] {
        let outcome = Outcome::of(&mut project.command(&[options, &["app.py"]].concat()));
        assert_eq!(
            (&*outcome.stdout, outcome.status),
            ("[]\n", 3),
            "{options:?}"
        );
    }
}

/// Without address space randomization, with an unlimited stack, with little memory, without standard streams.
#[test]
fn it_is_loaded_under_any_limits() {
    let project = Project::new(&[("app.py", SHOW)]);
    for limits in [
        "exec setarch -R \"$0\" \"$@\"",
        "ulimit -s unlimited; exec \"$0\" \"$@\"",
        "ulimit -v 400000; exec \"$0\" \"$@\"",
        "exec setpriv --no-new-privs \"$0\" \"$@\"",
        "exec \"$0\" \"$@\" <&- 2>&-",
    ] {
        let mut command = Command::new("sh");
        clean(&mut command);
        command.current_dir(project.path("")).args(["-c", limits]);
        command.arg(python()).arg("app.py");
        let outcome = Outcome::of(&mut command).success();
        assert_eq!(
            outcome.stdout,
            format!("{EXPECTED}[] None None\n"),
            "{limits}"
        );
    }
}

/// A dynamic linker that runs the interpreter (`ld.so ./python`) is not loaded a second time.
#[test]
fn a_dynamic_linker_may_run_it() {
    let project = Project::new(&[("app.py", "import sys\nprint(sys.argv, len(sys.path) > 1)\n")]);
    let shown = project.run([
        "-c",
        "print(next(line.split()[5] for line in open('/proc/self/maps') if '/ld-' in line))",
    ]);
    let mut command = Command::new(shown.success().stdout.trim());
    clean(&mut command);
    command
        .current_dir(project.path(""))
        .arg(python())
        .args(["app.py", "x"]);
    assert_eq!(
        Outcome::of(&mut command).success().stdout,
        "['app.py', 'x'] True\n"
    );
}

/// Preloaded libraries are loaded, and the dynamic linker reports missing ones.
#[test]
fn variables_of_the_dynamic_linker_count() {
    let project = Project::new(&[(
        "app.py",
        "print(any('libutil' in line for line in open('/proc/self/maps')))\n",
    )]);
    let mut command = project.command(["app.py"]);
    let outcome = Outcome::of(command.env("LD_PRELOAD", "libutil.so.1")).success();
    assert_eq!(outcome.stdout, "True\n");
    let mut command = project.command(["app.py"]);
    let outcome = Outcome::of(command.env("LD_TRACE_LOADED_OBJECTS", "1")).success();
    assert!(outcome.stdout.contains("libc.so.6 => "), "{outcome:?}");
}
