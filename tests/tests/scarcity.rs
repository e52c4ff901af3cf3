//! With too little of a resource, a program has the same outcome as without an archive.

use std::os::unix::process::CommandExt;

use cpython_cds_tests::{Mode, Outcome, Project, skip};
use rustix::process::{Resource, Rlimit, setrlimit};

fn project() -> Project {
    let project = Project::new(&[
        (
            "app.py",
            "import json, shop.cart\nprint(shop.cart.total(), json.dumps([1]))\n",
        ),
        (
            "shop/__init__.py",
            "NAMES = frozenset({'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i'})\n",
        ),
        ("shop/cart.py", "def total(): return 3\n"),
    ]);
    project.dump(["app.py"]);
    project
}

/// Runs the program with a limit on a resource.
fn run(project: &Project, option: &str, resource: Resource, limit: u64) -> Outcome {
    let mut command = project.command(["-X", option, "app.py"]);
    let limit = Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    let set = move || Ok(setrlimit(resource, limit)?);
    // SAFETY: the closure only calls setrlimit(), which is async-signal-safe (signal-safety(7)).
    unsafe { command.pre_exec(set) };
    Outcome::of(&mut command)
}

/// Asserts that a program that works under a limit without an archive also works with one, whether or not the archive
/// can be used.
fn assert_never_worse(resource: Resource, limits: impl Iterator<Item = u64>) -> (usize, usize) {
    let project = project();
    let expected = project.run_in(Mode::Off, ["app.py"]).success().stdout;
    let (mut without, mut refused) = (0, 0);
    for limit in limits {
        let plain = run(&project, "cds=off", resource, limit);
        let archived = run(&project, "cds=app.cds", resource, limit);
        if plain.status == 0 {
            assert_eq!(
                (archived.status, &archived.stdout),
                (0, &expected),
                "{limit}: {archived:?}"
            );
            without += 1;
        }
        refused += usize::from(archived.stderr.contains("app.cds is not used: "));
    }
    (without, refused)
}

#[test]
fn with_few_file_descriptors() {
    let (worked, refused) = assert_never_worse(Resource::Nofile, 3..12);
    assert!(worked > 0 && refused > 0, "{worked} {refused}");
}

/// The limits range from too little for an interpreter to enough for everything. In between, archives cannot be mapped,
/// or they leave little memory.
#[test]
fn with_little_address_space() {
    const MB: u64 = 1 << 20;
    for resource in [Resource::As, Resource::Data] {
        let (worked, refused) = assert_never_worse(resource, (4..80).map(|size| size * 2 * MB));
        assert!(
            worked > 10 && refused > 0,
            "{resource:?} {worked} {refused}"
        );
    }
}

/// Opening an archive must use little stack.
#[test]
fn with_a_small_stack() {
    const KB: u64 = 1 << 10;
    let (worked, _) = assert_never_worse(
        Resource::Stack,
        [128, 256, 512, 1024].into_iter().map(|size| size * KB),
    );
    assert!(worked > 0);
}

#[test]
fn without_proc() {
    let project = project();
    let mut command = std::process::Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-c",
        "umount -l /proc && exec \"$@\"",
        "sh",
    ]);
    let inner = project.command(["-X", "cds=app.cds", "app.py"]);
    command
        .arg(inner.get_program())
        .args(inner.get_args())
        .current_dir(project.path(""));
    let outcome = Outcome::of(&mut command);
    if outcome.stderr.contains("Operation not permitted")
        || outcome.stderr.contains("not permitted")
    {
        skip!("only root can be without /proc");
    }
    let expected = project.run_in(Mode::Off, ["app.py"]).success();
    assert_eq!(
        (outcome.status, outcome.stdout),
        (0, expected.stdout),
        "{}",
        outcome.stderr
    );
}
