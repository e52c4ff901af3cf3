//! How a start checks that a source file is the one that was dumped: `dump --freshness`.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use cpython_cds_tests::{Outcome, Project, clean, is_reachable_by_others, python, skip};

const PROGRAM: &[(&str, &str)] = &[
    (
        "app.py",
        "import sys, shop.cart\nprint(shop.cart.total())\n",
    ),
    ("shop/__init__.py", ""),
    ("shop/cart.py", "def total():\n    return 'before'\n"),
];

fn project(freshness: &str) -> Project {
    let project = Project::new(PROGRAM);
    fs::create_dir(project.path("archives")).unwrap();
    project
        .run(["-X", "cds_trace=archives/app.lst", "app.py"])
        .success();
    let dump = ["-m", "cds", "dump", "-q", "--freshness", freshness];
    project
        .run(dump.iter().chain(&["archives/app.lst", "archives/app.cds"]))
        .success();
    project
}

/// Runs the program. Returns its output and the modules that did not come from the archive.
fn run(project: &Project) -> (String, Vec<String>) {
    let stats = "cds_stats=archives/stats.json";
    let options = [
        "-X",
        "cds=archives/app.cds",
        "-X",
        "cds_strict",
        "-X",
        stats,
        "app.py",
    ];
    let outcome = project.run(options).success();
    let report =
        cpython_cds_tests::report::Report::read(&project.path("archives/stats.json")).unwrap();
    let missed = report
        .modules
        .elsewhere
        .into_iter()
        .map(|missed| missed.name);
    (outcome.stdout, missed.collect())
}

fn set_modified(path: &Path, time: SystemTime) {
    File::open(path).unwrap().set_modified(time).unwrap();
}

/// Sets the modification times of all files below a directory to those that `change` returns for the old ones.
fn restamp(directory: &Path, change: &impl Fn(SystemTime) -> SystemTime) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            restamp(&path, change);
        } else {
            set_modified(&path, change(path.metadata().unwrap().modified().unwrap()));
        }
    }
    set_modified(
        directory,
        change(directory.metadata().unwrap().modified().unwrap()),
    );
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn other_times(time: SystemTime) -> SystemTime {
    time - Duration::from_secs(12345)
}

#[test]
fn by_modification_time_a_copy_with_other_times_is_the_same_and_an_edit_is_not() {
    let project = project("mtime");
    assert_eq!(run(&project), ("before\n".into(), vec![]));
    // Layers of container images keep times in whole seconds, some installers keep none, and some set all to 1.
    let ways: [&dyn Fn(SystemTime) -> SystemTime; 3] = [&whole_seconds, &other_times, &|_| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1)
    }];
    for way in ways {
        restamp(&project.path("shop"), &way);
        assert_eq!(run(&project), ("before\n".into(), vec![]));
    }
    let verify = project.run(["-m", "cds", "verify", "archives/app.cds"]);
    assert_eq!((verify.status, &*verify.stderr), (0, ""), "{verify:?}");
    // The same size. The time is in another second than the first one: else CPython itself uses the old `.pyc` file.
    project.write("shop/cart.py", "def total():\n    return 'edited'\n");
    set_modified(
        &project.path("shop/cart.py"),
        SystemTime::now() + Duration::from_secs(10),
    );
    assert_eq!(
        run(&project),
        ("edited\n".into(), vec!["shop.cart".to_owned()])
    );
    project.write(
        "shop/cart.py",
        "def total():\n    return 'longer than before'\n",
    );
    assert_eq!(run(&project).0, "longer than before\n");
}

#[test]
fn a_new_name_in_a_directory_with_other_times_is_found() {
    let project = project("mtime");
    restamp(&project.path(""), &other_times);
    let missed = |module: &str| {
        let (output, missed) = run(&project);
        assert_eq!(missed, [module], "{output}");
        output
    };
    // The names of the directory are compared when `shop` is imported, and change afterwards.
    project.write(
        "app.py",
        "import sys, shop.cart, importlib\n\
         open('shop/late.py', 'w').write('x = 1')\n\
         importlib.invalidate_caches()\n\
         import shop.late\n\
         print(shop.cart.total(), shop.late.x)\n",
    );
    assert_eq!(missed("shop.late"), "before 1\n");
    fs::remove_file(project.path("shop/late.py")).unwrap();

    // The cache of compiled modules can be imported, whether or not it was there when the archive was written.
    project.write(
        "app.py",
        "import shop.__pycache__ as c\nprint(c.__spec__.loader)\n",
    );
    fs::create_dir_all(project.path("shop/__pycache__")).unwrap();
    restamp(&project.path(""), &other_times);
    assert!(run(&project).0.contains("NamespaceLoader"));

    // A package takes precedence over a module.
    project.write("app.py", PROGRAM[0].1);
    project.write(
        "shop/cart/__init__.py",
        "def total():\n    return 'shadowing'\n",
    );
    restamp(&project.path(""), &other_times);
    assert_eq!(missed("shop.cart"), "shadowing\n");
    // So does an extension module; an empty file is none.
    fs::remove_dir_all(project.path("shop/cart")).unwrap();
    project.write("shop/cart.abi3.so", "");
    restamp(&project.path(""), &other_times);
    let outcome = project.run(["-X", "cds=archives/app.cds", "app.py"]);
    assert!(outcome.stderr.contains("ImportError"), "{outcome:?}");
}

/// Changes a program at random after its dump, and sets times at random. Each import must find what it finds without an
/// archive. The argument is the seed.
const CHANGES: &str = r#"
import os, random, shutil, sys
choose = random.Random(int(sys.argv[1]))
names = ["a", "b", "shop", "cart", "__pycache__", "x.y"]
suffixes = ["", ".py", ".pyc", ".so", ".abi3.so", ".txt"]
def anywhere(kind=None):
    found = ["."]
    for directory, inner, files in os.walk("."):
        found += [os.path.join(directory, name) for name in inner if kind != "file"]
        found += [os.path.join(directory, name) for name in files if kind == "file"]
    return choose.choice(found[1:] if kind == "file" else found)
def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)
for _ in range(choose.randint(1, 6)):
    path = os.path.join(anywhere(), choose.choice(names) + choose.choice(suffixes))
    match choose.randrange(6):
        case 0:
            remove(path)
            open(path, "w").write(f"value = {choose.randrange(1000, 9999)}\n")
        case 1:
            remove(path)
            os.mkdir(path)
            if choose.random() < 0.5:
                open(path + "/__init__.py", "w").write(f"value = {choose.randrange(1000, 9999)}\n")
        case 2:
            remove(path)
            os.symlink(choose.choice(["a.py", "shop", "nowhere"]), path)
        case 3:
            if path != "./app.py" and path != "./shop":
                remove(path)
        case 4:  # an edit that keeps the size
            source = anywhere("file")
            if source != "./app.py" and not os.path.islink(source):
                text = open(source).read().replace("value = 1", "value = 2")
                open(source, "w").write(text)
        case 5:
            copy = choose.choice(names) + "_copy"
            remove(copy)
            if os.path.isdir("shop"):
                shutil.copytree("shop", copy, symlinks=True)
time = choose.choice([None, 1, 1_600_000_000, 1_600_000_000.5])
for directory, inner, files in os.walk(".", topdown=False):
    for path in [os.path.join(directory, name) for name in inner + files] + [directory]:
        if time is not None and choose.random() < 0.9:
            os.utime(path, (time, time), follow_symlinks=False)
"#;

#[test]
fn random_changes_with_random_times_are_noticed() {
    const APP: &str = "\
import importlib
for name in ('a', 'b', 'shop', 'shop.a', 'shop.b', 'shop.cart', 'shop.cart.a', 'shop.shop', 'shop.shop.cart', 'cart',
             'shop.__pycache__', '__pycache__', 'a.b', 'b.a', 'a_copy.cart', 'shop_copy.a'):
    try:
        module = importlib.import_module(name)
    except BaseException as error:
        print(name, type(error).__name__, error)
    else:
        print(name, getattr(module, '__file__', None), getattr(module, 'value', None), module.__spec__.loader is None)
";
    let rounds = std::env::var("CDS_FRESHNESS_ROUNDS").map_or(60, |n| n.parse().unwrap());
    let mut used = 0;
    for seed in 0..rounds {
        let project = Project::new(&[
            ("app.py", APP),
            ("a.py", "value = 1111\n"),
            ("shop/__init__.py", "value = 1222\n"),
            ("shop/a.py", "value = 1333\n"),
            ("shop/cart.py", "value = 1444\n"),
            ("shop/shop/__init__.py", ""),
            ("shop/shop/cart.py", "value = 1555\n"),
        ]);
        let archives = tempfile::tempdir().unwrap();
        let list = archives.path().join("app.lst");
        let archive = archives.path().join("app.cds");
        let option = format!("cds={}", archive.display());
        fs::write(
            &list,
            "a\nshop\nshop.a\nshop.cart\nshop.shop\nshop.shop.cart\n",
        )
        .unwrap();
        let mut dump = project.command(["-m", "cds", "dump", "-q"]);
        dump.arg(&list).arg(&archive).env("PYTHONPATH", ".");
        Outcome::of(&mut dump).success();
        project
            .run(["-X", "cds=off", "-c", CHANGES, &seed.to_string()])
            .success();
        let plain = project.run(["-B", "-X", "cds=off", "app.py"]);
        let archived = project.run(["-B", "-X", &option, "-X", "cds_stats", "app.py"]);
        assert_eq!(archived.stdout, plain.stdout, "seed {seed}");
        assert_eq!(archived.status, plain.status, "seed {seed}");
        used += usize::from(archived.stderr.contains(&*archive.to_string_lossy()));
    }
    assert!(
        used > rounds / 2,
        "{used} of {rounds} runs used the archive"
    );
}

#[test]
fn by_hash_only_contents_count() {
    let project = project("hash");
    restamp(&project.path("shop"), &other_times);
    assert_eq!(run(&project), ("before\n".into(), vec![]));
    // An edit that keeps the size and the time.
    let cart = project.path("shop/cart.py");
    let time = cart.metadata().unwrap().modified().unwrap();
    project.write("shop/cart.py", "def total():\n    return 'edited'\n");
    set_modified(&cart, time);
    assert_eq!(
        run(&project),
        ("edited\n".into(), vec!["shop.cart".to_owned()])
    );
    let verify = project.run(["-m", "cds", "verify", "archives/app.cds"]);
    assert!(
        verify.stdout.contains("  shop.cart: source changed: "),
        "{verify:?}"
    );
    // A new package is found, although the archive has an index of its directory.
    project.write(
        "shop/cart/__init__.py",
        "def total():\n    return 'shadowing'\n",
    );
    assert_eq!(run(&project).0, "shadowing\n");
}

#[test]
fn unchecked_the_archive_is_believed() {
    let project = project("unchecked");
    restamp(&project.path("shop"), &other_times);
    assert_eq!(run(&project), ("before\n".into(), vec![]));
    project.write(
        "shop/cart.py",
        "def total():\n    return 'edited, and longer'\n",
    );
    assert_eq!(run(&project), ("before\n".into(), vec![]));
    let verify = project.run(["-m", "cds", "verify", "archives/app.cds"]);
    assert_eq!(
        verify.status, 1,
        "verify looks at the sources all the same: {verify:?}"
    );
    // A module that is not in the archive is searched for as usual.
    project.write(
        "app.py",
        "import shop.cart, late\nprint(shop.cart.total(), late.x)\n",
    );
    project.write("late.py", "x = 1\n");
    assert_eq!(
        run(&project),
        ("before 1\n".into(), vec!["late".to_owned()])
    );
}

/// As in a container image: the files belong to root, have times in whole seconds, and are read-only for the user who
/// runs the program.
#[test]
fn a_program_runs_from_a_read_only_directory_as_somebody_else() {
    let is_root = rustix::process::geteuid().is_root();
    if is_root && !is_reachable_by_others() {
        skip!("others cannot reach this directory");
    }
    let project = project("unchecked");
    restamp(&project.path(""), &|time| {
        whole_seconds(time) - Duration::from_secs(60)
    });
    fs::set_permissions(project.path(""), fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = if is_root {
        // Like `docker run --user nobody`.
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        command.arg(fs::canonicalize(python()).unwrap());
        command
    } else {
        Command::new(python())
    };
    clean(&mut command);
    let code = "import app, os, sys; print(os.access('.', os.W_OK), file=sys.stderr)";
    command
        .current_dir(project.path(""))
        .args(["-X", "cds=archives/app.cds"]);
    command.args(["-X", "cds_strict", "-X", "cds_stats", "-B", "-c", code]);
    let outcome = Outcome::of(&mut command);
    fs::set_permissions(project.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let outcome = outcome.success();
    assert_eq!(outcome.stdout, "before\n");
    assert!(outcome.stderr.starts_with("False\n"), "{}", outcome.stderr);
    // `-c` imports `app`, which ran as `__main__` when it was traced.
    let expected = "from elsewhere: 1\ncds:   app: not in the archive\n";
    assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
}
