//! If no startup image can be taken or used, the program starts in the ordinary way, and a line says why.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use cpython_cds_tests::image::{NOTE, project, refusal};
use cpython_cds_tests::{
    DUMP_IMAGE, Outcome, Project, clean, is_reachable_by_others, python, skip,
};

/// If a process has something that cannot be restored, the dump takes no image and names the thing.
#[test]
fn what_cannot_be_restored_is_refused() {
    let mut said = String::new();
    for (what, code) in [
        (
            "a thread",
            "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True, name='worker').start()\n",
        ),
        ("a file", "kept = open(__file__)\n"),
        ("a socket", "import socket\nkept = socket.socketpair()\n"),
        (
            "a timer",
            "import signal\nsignal.signal(signal.SIGALRM, print)\nsignal.setitimer(signal.ITIMER_REAL, 60)\n",
        ),
        ("shared memory", "import mmap\nkept = mmap.mmap(-1, 4096)\n"),
        ("a wait", "import select\nkept = select.epoll()\n"),
        (
            "what the kernel keeps",
            "import os, resource, signal\nos.chdir('/'); os.umask(0o77); os.nice(1)\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\nresource.setrlimit(resource.RLIMIT_NOFILE, (99, 99))\nwith open('/proc/self/comm', 'w') as name: name.write('renamed')\n",
        ),
        (
            "a breakpoint",
            "import ctypes\nlibc = ctypes.CDLL(None)\nplace = ctypes.cast(libc.hcreate, ctypes.c_void_p).value\npage = ctypes.c_void_p(place & -4096)\nlibc.mprotect(page, 4096, 7)\nctypes.memset(place, 0xcc, 1)\nlibc.mprotect(page, 4096, 5)\n",
        ),
    ] {
        let project = Project::new(&[("lib/kept.py", code), ("app.lst", "kept\n")]);
        let mut dump = project.command(DUMP_IMAGE);
        let outcome = Outcome::of(dump.env("PYTHONPATH", project.path("lib")));
        assert_eq!(
            (outcome.status, &*outcome.stdout),
            (1, ""),
            "{what}: {outcome:?}"
        );
        let note = fs::read_to_string(project.path("app.cds.image"));
        let note = note.expect("there is a note in its place");
        let reason = note.strip_prefix(NOTE).expect("it is one");
        let (reason, attempts) = reason.split_once("\n\nattempts: ").expect("it counts them");
        assert_eq!(attempts, "1\n", "{what}");
        assert!(outcome.stderr.contains(reason), "{what}: {note}");
        assert!(project.path("app.cds").exists(), "{what}");
        let directory = project.path("").display().to_string();
        let text = outcome
            .stderr
            .replace(directory.trim_end_matches('/'), "[project]");
        said.push_str(&format!("{what}:\n{text}"));
    }
    // Debug builds print warnings about files that are left open.
    insta::with_settings!({filters => vec![(r"<sys>:0: ResourceWarning.*\n", ""), (r"\d+ \(", "[n] ("), (r"\[\d+\]", "[id]"), (r"app.cds.image", "[image]"), (r"/\S+/libc", "[libraries]/libc")]}, {
        insta::assert_snapshot!(said);
    });
}

/// With a relative path, a process finds other modules in another directory.
#[test]
fn a_relative_path_is_refused_and_not_restored_elsewhere() {
    let project = Project::new(&[
        ("one/lib/tool.py", "x = 'one'\n"),
        ("two/lib/tool.py", "x = 'two'\n"),
        ("app.lst", "tool\n"),
    ]);
    let run = |directory: &str, path: &str, arguments: &[&str]| {
        let mut command = project.command(arguments);
        command.current_dir(project.path(directory));
        Outcome::of(command.env("PYTHONPATH", path))
    };
    let dump = [
        "-m",
        "cds",
        "dump",
        "-q",
        "--image",
        "../app.lst",
        "../app.cds",
    ];
    let code = ["-X", "cds=../app.cds", "-c", "import tool; print(tool.x)"];
    for (path, told) in [("lib", "'lib'"), ("/nowhere::lib", "'', 'lib'")] {
        let outcome = run("one", path, &dump);
        let reason = format!(
            "cds: no startup image: PYTHONPATH has relative directories: {told}; make them absolute\n"
        );
        assert_eq!(outcome.status, 1);
        assert!(outcome.stderr.starts_with(&reason), "{outcome:?}");
        for directory in ["one", "two"] {
            let outcome = run(directory, path, &code);
            assert_eq!(outcome.stdout, format!("{directory}\n"));
        }
    }
    // Without relative paths, or if the variable is ignored, a process may start in any directory.
    let path = project.path("one/lib").display().to_string();
    run("one", &path, &dump).success();
    assert_eq!(run("two", &path, &code).stdout, "one\n");
    run("one", "lib", &[&["-E"], &dump[..]].concat()).success();
}

/// If the kernel refuses a system call (seccomp, gVisor), the process is restored without it, or starts as usual.
#[test]
fn refused_system_calls_do_no_harm() {
    let project = project("import json, os\nprint(json.dumps([1]), os.getpid() > 0)\n");
    let mut said = String::new();
    for (call, error) in [
        ("prctl", "EPERM"),
        ("prctl", "ENOSYS"),
        ("mremap", "EPERM"),
        ("mremap:when=2", "EPERM"),
        ("rseq", "EPERM"),
        ("rseq", "ENOSYS"),
        ("set_robust_list", "ENOSYS"),
        // The calls for the launcher's own memory, the writable memory of the process, and the arguments.
        ("mmap:when=1", "ENOMEM"),
        ("mmap:when=2", "ENOMEM"),
        ("mmap:when=3", "ENOMEM"),
        // The reads of the header and of the description.
        ("pread64:when=1", "EIO"),
        ("pread64:when=2", "EIO"),
        ("fstat:when=1", "EIO"),
        ("fstat:when=4", "EIO"),
        ("openat:when=1", "EMFILE"),
        ("openat:when=3", "EMFILE"),
        ("getdents64:when=1", "EIO"),
    ] {
        let (call, when) = call.split_once(':').unwrap_or((call, "when=1+"));
        let mut command = Command::new("strace");
        clean(&mut command);
        let fault = format!("inject={call}:error={error}:{when}");
        command
            .current_dir(project.path(""))
            .args(["-qq", "-o", "calls.txt", "-e", &fault]);
        command
            .arg(python())
            .args(["-X", "cds=app.cds", "-X", "cds_stats", "app.py"]);
        let outcome = Outcome::of(&mut command);
        assert_eq!(
            (outcome.status, &*outcome.stdout),
            (0, "[1] True\n"),
            "{call}: {outcome:?}"
        );
        let refusal = refusal(&outcome.stderr).unwrap_or("(restored)".to_owned());
        said.push_str(&format!("{call} {when} {error}: {refusal}\n"));
    }
    let directory = fs::canonicalize(project.path("")).unwrap();
    let said = said.replace(&*directory.to_string_lossy(), "[project]");
    insta::assert_snapshot!(said);
}

/// An image of another user is not used, and no image is used if the address space is limited. A read-only file system
/// and a missing `/proc` make no difference.
#[test]
fn it_matters_whose_it_is_and_not_where() {
    let project = project("import json, os\nprint(json.dumps([1]))\n");
    let run = |prefix: &[&str]| {
        let mut command = Command::new(prefix[0]);
        clean(&mut command);
        command.current_dir(project.path("")).args(&prefix[1..]);
        command
            .arg(python())
            .args(["-X", "cds=app.cds", "-X", "cds_stats", "app.py"]);
        Outcome::of(&mut command)
    };
    let limited = run(&["prlimit", "--as=4000000000"]);
    let reason = "address space is limited (ulimit -v, ulimit -d)";
    assert_eq!(
        (&*limited.stdout, refusal(&limited.stderr).as_deref()),
        ("[1]\n", Some(reason))
    );
    if !rustix::process::geteuid().is_root() {
        skip!("the rest needs root");
    }
    fs::set_permissions(project.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    if !is_reachable_by_others() {
        skip!("others cannot reach this directory");
    }
    let other = run(&[
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "env",
    ]);
    assert!(
        other.stdout == "[1]\n" || other.stderr.contains("Permission denied"),
        "{other:?}"
    );
    assert!(!other.stderr.contains("started from"), "{other:?}");
    // On a read-only file system, and without /proc.
    for mounts in [
        "mount --bind . . && mount -o remount,bind,ro . && cd .",
        "mount -t tmpfs none /proc",
    ] {
        let script = format!("{mounts} && exec \"$@\"");
        let outcome = run(&["unshare", "-m", "sh", "-c", &script, "sh"]);
        assert_eq!(
            (&*outcome.stdout, refusal(&outcome.stderr)),
            ("[1]\n", None),
            "{mounts}: {outcome:?}"
        );
    }
}
