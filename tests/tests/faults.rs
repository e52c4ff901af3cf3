//! After each failure in the runtime, including panics, the program has the same outcome as without archives.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use cpython_cds_tests::{Mode, Outcome, Project, repository};

/// Does look-ups of all kinds, and later uses the objects that came from archives.
const PROGRAM: &str = "\
import _json, decimal, json, re, shop.cart, string, sys, threading
print(shop.cart.total(), shop.NAMES, json.dumps([1]), re.match('a+b', 'aab'))
print(sys.intern('shop' + '.cart') is sys.intern('shop' + '.cart'), getattr(shop.cart, 'to' + 'tal')())
class Late(shop.cart.Cart):
    def total(self): return super().total() + 1
print(Late().total(), string.Template('$x').substitute(x=1), decimal.Decimal('1.10'))
threads = [threading.Thread(target=__import__, args=(name,)) for name in ('csv', 'queue', 'shop.late')]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted({'csv', 'queue', 'shop.late'} & set(sys.modules)))
";

fn project() -> Project {
    let project = Project::new(&[
        ("app.py", PROGRAM),
        (
            "shop/__init__.py",
            "NAMES = 'i' in {'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i'}\n",
        ),
        (
            "shop/cart.py",
            "def total(): return 3\nclass Cart:\n    def total(self): return 3\n",
        ),
        ("shop/late.py", "import textwrap\n"),
    ]);
    project.dump(["app.py"]);
    project
}

/// Every fault point in the source of the runtime.
fn points() -> BTreeSet<String> {
    let source = repository().join("runtime/library/src");
    let mut points = BTreeSet::new();
    collect_points(&source, &mut points);
    assert!(points.len() > 30, "{points:?}");
    points
}

fn collect_points(directory: &Path, points: &mut BTreeSet<String>) {
    // The names of borders, points and methods. Each of them is a fault point.
    const BEFORE: [&str; 4] = ["fenced(\"", "fenced_question(\"", "point(\"", "method!(c\""];
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_points(&path, points);
            continue;
        }
        let text: String = fs::read_to_string(&path).unwrap();
        let text: String = text.split_whitespace().collect();
        for before in BEFORE {
            let found = text.split(before).skip(1);
            points.extend(found.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
}

fn failing(command: &mut Command, point: &str, passes: usize) -> Outcome {
    Outcome::of(command.env("FAILPOINTS", format!("{point}={passes}*off->panic")))
}

/// Whether stderr names the point.
fn told(stderr: &str, point: &str) -> bool {
    stderr.contains(&format!("failpoint {point} panic"))
}

#[test]
#[ignore = "needs fault points: cargo xtask test --profile debug"]
fn a_panic_anywhere_leaves_plain_cpython() {
    let project = project();
    let expected = project.run_in(Mode::Off, ["app.py"]).success();
    let ways: [&[&str]; 6] = [
        &[],
        &["-X", "cds_stats=stats.txt"],
        &["-X", "cds=app.cds"],
        &["-X", "cds_trace=new.lst", "-X", "cds_profile=new.profile"],
        &["-X", "cds=app.cds", "-X", "cds_stats=stats.txt"],
        &["-X", "cds_auto=auto.img"],
    ];
    let mut reached = BTreeSet::new();
    for point in points() {
        for way in ways {
            for passes in [0, 4] {
                let quiet = failing(project.command(way).arg("app.py"), &point, passes);
                assert_eq!(quiet, expected, "{point} after {passes}, {way:?}");
            }
            // With `cds_strict`, the failure is reported, and an interpreter that cannot start as requested does not
            // start.
            let _ = fs::remove_file(project.path("auto.img"));
            let strict = [way, &["-X", "cds_strict", "app.py"]].concat();
            let strict = failing(&mut project.command(strict), &point, 0);
            let is_told = told(&strict.stderr, &point);
            assert_eq!(
                strict.stderr.lines().count(),
                usize::from(is_told) * 2,
                "{strict:?}"
            );
            if strict.status != 0 {
                assert_eq!(
                    (strict.status, &*strict.stdout),
                    (1, ""),
                    "{point}: {strict:?}"
                );
            } else {
                assert_eq!(strict.stdout, expected.stdout, "{point}: {strict:?}");
            }
            if is_told {
                reached.insert(point.clone());
            }
        }
    }
    println!("reached: {reached:?}");
    for point in [
        "mapped",
        "find_module",
        "missed",
        "get_code",
        "find_interned",
        "finalize",
    ] {
        assert!(reached.contains(point), "{point} was not reached");
    }
}

/// Commands of `cds` end with an error message, and an existing archive is kept.
#[test]
#[ignore = "needs fault points: cargo xtask test --profile debug"]
fn a_panic_in_a_tool_is_an_error() {
    let project = project();
    let tools: [&[&str]; 5] = [
        &["dump", "-q", "app.lst", "app.cds"],
        &["inspect", "app.cds"],
        &["verify", "app.cds"],
        &["diff", "app.cds", "app.cds"],
        &["stats", "app.py"],
    ];
    let mut reached = BTreeSet::new();
    for point in points() {
        for tool in tools {
            let before = fs::read(project.path("app.cds")).unwrap();
            let mut command = project.command(["-X", "cds_strict", "-m", "cds"]);
            let outcome = failing(command.args(tool), &point, 0);
            if told(&outcome.stderr, &point) {
                reached.insert(point.clone());
            }
            assert!(
                (0..126).contains(&outcome.status),
                "{point}, {tool:?}: {outcome:?}"
            );
            assert!(
                !outcome.stderr.contains("Traceback"),
                "{point}, {tool:?}: {outcome:?}"
            );
            if outcome.status != 0 {
                // An interpreter that does not start in strict mode only names the point.
                let mut lines = outcome.stderr.lines();
                assert!(
                    lines.any(|line| line.contains("error: ")) || told(&outcome.stderr, &point),
                    "{point}, {tool:?}: {outcome:?}"
                );
                assert!(
                    fs::read(project.path("app.cds")).unwrap() == before,
                    "{point}, {tool:?}"
                );
            }
        }
    }
    println!("reached: {reached:?}");
    for point in ["write", "collected", "emitted", "inspect", "verify"] {
        assert!(reached.contains(point), "{point} was not reached");
    }
}
