//! What people do with a Python that they have unpacked: `cargo xtask package` makes it, `$CPYTHON_CDS_PACKAGE` names it.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use cpython_cds_tests::report::Report;
use cpython_cds_tests::venv::Venv;
use cpython_cds_tests::{Outcome, python, repository, skip};
use tempfile::TempDir;

fn package() -> PathBuf {
    let package = env::var_os("CPYTHON_CDS_PACKAGE");
    let package = package.expect("CPYTHON_CDS_PACKAGE names a package of `cargo xtask package`");
    fs::canonicalize(package).expect("the package exists")
}

/// The package, unpacked by an installer that does not keep times, and then renamed.
fn unpacked() -> &'static Path {
    static UNPACKED: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, tree) = UNPACKED.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        run(Command::new("tar")
            .args(["--extract", "--touch", "--file"])
            .arg(package())
            .current_dir(directory.path()));
        let tree = directory.path().join("my-python");
        fs::rename(directory.path().join("python"), &tree).expect("it can be renamed");
        (directory, tree)
    });
    tree
}

fn interpreter() -> PathBuf {
    unpacked().join("bin/python3.13")
}

/// Tools that make environments, in an environment of another interpreter.
fn tool(name: &str) -> Command {
    const TOOLS: &[&str] = &[
        "nox==2026.10.20",
        "pipx==1.18.4",
        "tox==4.67.15",
        "uv==0.13.9",
        "virtualenv==21.15.11",
    ];
    static VENV: OnceLock<Venv> = OnceLock::new();
    let venv = VENV.get_or_init(|| {
        let made = Venv::new("package-tools", &python(), TOOLS);
        made.expect("the tools can be installed")
    });
    command(&venv.directory().join("bin").join(name))
}

/// A command that has all variables of this process but those for Python: pip has some of its own, which say where
/// packages come from.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("PYTHON") {
            command.env_remove(name);
        }
    }
    command
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let outcome = Outcome::of(command);
    assert_eq!(outcome.status, 0, "{command:?}: {outcome:#?}");
    outcome.stdout
}

/// A temporary directory with these files.
fn project(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    for (name, text) in files {
        let path = directory.path().join(name);
        let parent = path.parent().expect("a file has a directory");
        fs::create_dir_all(parent).expect("a directory can be made");
        fs::write(path, text).expect("a file can be written");
    }
    directory
}

/// Modules of the standard library that a run did not get from an archive.
fn missed(interpreter: &Path) -> Vec<String> {
    let directory = project(&[]);
    let stats = directory.path().join("stats.json");
    let option = format!("cds_stats={}", stats.display());
    run(command(interpreter).args(["-I", "-X", &option, "-c", "import email.message, json, ssl"]));
    let report = Report::read(&stats).expect("there is a report");
    let elsewhere = report.modules.elsewhere.into_iter();
    elsewhere.map(|missed| missed.name).collect()
}

#[test]
#[ignore = "needs a package"]
fn it_runs_where_it_is_unpacked_with_its_archive() {
    let (tree, python) = (unpacked(), interpreter());
    let code = "import sys; print(sys.prefix, sys.base_prefix, sys.executable, sep='\\n')";
    let paths = run(command(&python).args(["-I", "-c", code]));
    let tree = tree.display();
    assert_eq!(paths, format!("{tree}\n{tree}\n{}\n", python.display()));
    assert_eq!(missed(&python), [""; 0]);
    assert_eq!(missed(&unpacked().join("bin/python")), [""; 0]);
    let modules =
        "bz2, ctypes, curses, curses.panel, lzma, readline, sqlite3, ssl, uuid, _uuid, zlib";
    run(command(&python).args(["-I", "-c", &format!("import {modules}")]));
    for license in ["cpython-cds.txt", "rust-crates.txt"] {
        assert!(unpacked().join("licenses").join(license).is_file());
    }
    assert!(unpacked().join("lib/python3.13/LICENSE.txt").is_file());
}

#[test]
#[ignore = "needs a package"]
fn its_image_makes_itself() {
    let project = project(&[("app.py", "import json\nprint(json.dumps([1]))\n")]);
    let start = |options: &[&str]| {
        let mut python = command(&interpreter());
        python
            .current_dir(project.path())
            .args(options)
            .arg("app.py");
        run(&mut python)
    };
    let image = project.path().join("app.cds.image");
    for _ in 0..100 {
        assert_eq!(start(&["-X", "cds_auto=app.cds,image"]), "[1]\n");
        if image.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let options = ["-X", "cds_auto=app.cds,image", "-X", "cds_stats"];
    let outcome = Outcome::of(
        command(&interpreter())
            .current_dir(project.path())
            .args(options)
            .arg("app.py"),
    );
    assert!(
        outcome
            .stderr
            .starts_with("cds: started from app.cds.image"),
        "{outcome:?}"
    );
}

#[test]
#[ignore = "needs a package"]
fn its_scripts_find_it_through_links() {
    let elsewhere = project(&[]);
    let tree = unpacked().display();
    for (script, arguments, wanted) in [
        ("pip3", &["--version"][..], format!("from {tree}/lib/")),
        ("pydoc3", &["json.dumps"], "Serialize ``obj``".to_owned()),
    ] {
        let path = elsewhere.path().join(script);
        symlink(unpacked().join("bin").join(script), &path).expect("a link can be made");
        let output = run(command(&path).args(arguments));
        assert!(output.contains(&wanted), "{script}: {output}");
    }
}

/// As Doc/extending/embedding.rst says. A program that embeds the interpreter is another interpreter for archives.
#[test]
#[ignore = "needs a package"]
fn a_program_that_embeds_it_uses_archives() {
    let project = project(&[(
        "main.c",
        "#include <Python.h>\nint main(int argc, char **argv) { return Py_BytesMain(argc, argv); }\n",
    )]);
    let config = |option: &str| {
        let mut config = command(&unpacked().join("bin/python3-config"));
        run(config.args([option, "--embed"])).trim().to_owned()
    };
    let script = format!(
        "gcc -o app main.c {} {} -Xlinker -export-dynamic",
        config("--cflags"),
        config("--ldflags")
    );
    run(Command::new("sh")
        .args(["-c", &script])
        .current_dir(project.path()));
    let start = |arguments: &[&str]| {
        let mut app = command(&project.path().join("app"));
        app.current_dir(project.path())
            .env("PYTHONHOME", unpacked());
        Outcome::of(app.args(arguments)).success()
    };
    fs::create_dir(project.path().join("archives")).expect("a directory can be made");
    start(&["-m", "cds", "dump", "-q", "--stdlib", "archives/app.cds"]);
    let options = [
        "-X",
        "cds=archives/app.cds",
        "-X",
        "cds_strict",
        "-X",
        "cds_stats",
    ];
    let outcome = start(&[&options[..], &["-c", "import json; print(json.dumps([1]))"]].concat());
    assert_eq!(outcome.stdout, "[1]\n");
    assert!(outcome.stderr.contains("from elsewhere: 0"), "{outcome:?}");
}

#[test]
#[ignore = "needs a package"]
fn uv_installs_it_from_the_catalogue() {
    let project = project(&[("hello.py", "import sys; print(sys.base_prefix)\n")]);
    let catalogue = package().with_file_name("downloads.json");
    let uv = |arguments: &[&str]| {
        let mut uv = tool("uv");
        uv.current_dir(project.path()).args(arguments);
        uv.env("UV_PYTHON_DOWNLOADS_JSON_URL", &catalogue);
        uv.env("UV_PYTHON_INSTALL_DIR", project.path().join("pythons"));
        uv.env("UV_PYTHON_BIN_DIR", project.path().join("bin"));
        uv.env("UV_TOOL_DIR", project.path().join("tools"));
        uv.env("UV_TOOL_BIN_DIR", project.path().join("bin"));
        uv.env("UV_CACHE_DIR", repository().join("target/workloads/uv"));
        uv.env("UV_MANAGED_PYTHON", "1");
        run(&mut uv)
    };
    uv(&["python", "install", "3.13"]);
    let installed = project.path().join("bin/python3.13");
    assert_eq!(missed(&installed), [""; 0]);

    uv(&["venv", "--python", "3.13", "venv"]);
    let base = uv(&["run", "--no-project", "--python", "venv", "hello.py"]);
    assert!(base.contains("/pythons/cpython-3.13"), "{base}");
    uv(&["pip", "install", "--python", "venv", "idna==3.10"]);
    let in_venv = project.path().join("venv/bin/python");
    run(command(&in_venv).args(["-c", "import idna"]));
    assert_eq!(missed(&in_venv), [""; 0]);
    uv(&["tool", "install", "--python", "3.13", "pyjokes==0.8.3"]);
    run(&mut command(&project.path().join("bin/pyjoke")));
    // uv corrects the paths in sysconfig.
    let code = "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))";
    let library = run(command(&installed).args(["-c", code]));
    assert!(library.contains("/pythons/cpython-3.13"), "{library}");
}

#[test]
#[ignore = "needs a package"]
fn environments_of_other_tools_use_it() {
    let project = project(&[
        (
            "tox.ini",
            "[tox]\nenvlist = it\n[testenv]\nskip_install = true\ndeps = idna==3.10\n\
             base_python = {env:TESTED}\n\
             commands = python -c \"import idna, sys; print('tox', sys.base_prefix)\"\n",
        ),
        (
            "noxfile.py",
            "import nox, os\n@nox.session(python=os.environ['TESTED'])\ndef tests(session):\n    \
             session.run('python', '-c', 'import sys; print(\"nox\", sys.base_prefix)')\n",
        ),
    ]);
    let bin = unpacked().join("bin");
    let path = env::join_paths([bin.clone(), "/usr/bin".into(), "/bin".into()]);
    let path = path.expect("the paths have no colon");
    let used = |name: &str, arguments: &[&str]| {
        let mut tool = tool(name);
        tool.current_dir(project.path())
            .args(arguments)
            .env("PATH", &path);
        tool.env("TESTED", interpreter());
        tool.env("PIPX_HOME", project.path().join("pipx"));
        tool.env("PIPX_BIN_DIR", project.path().join("bin"));
        let outcome = Outcome::of(&mut tool).success();
        outcome.stdout + &outcome.stderr
    };
    let python = interpreter();
    let python = python.to_str().expect("the path is text");
    let tree = unpacked().display();
    used("virtualenv", &["--quiet", "--python", python, "virtual"]);
    run(command(&bin.join("python"))
        .args(["-m", "venv", "venv"])
        .current_dir(project.path()));
    for environment in ["virtual", "venv"] {
        let program = project.path().join(environment).join("bin/python");
        let base = run(command(&program).args(["-c", "import sys; print(sys.base_prefix)"]));
        assert_eq!(base, format!("{tree}\n"), "{environment}");
        run(command(&program).args(["-m", "pip", "install", "-q", "idna==3.10"]));
        assert_eq!(missed(&program), [""; 0], "{environment}");
    }
    for (name, arguments) in [
        ("tox", &["run"][..]),
        ("nox", &["--default-venv-backend", "venv"]),
    ] {
        let output = used(name, arguments);
        assert!(output.contains(&format!("{name} {tree}")), "{output}");
    }
    used("pipx", &["install", "--python", python, "pyjokes==0.8.3"]);
    run(&mut command(&project.path().join("bin/pyjoke")));
}

/// An environment of the package with build tools, kept for the next run of the tests only if the package is the same.
fn builders() -> PathBuf {
    static BUILDERS: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, python) = BUILDERS.get_or_init(|| {
        let directory = project(&[]);
        let venv = directory.path().join("venv");
        run(command(&interpreter()).args(["-m", "venv"]).arg(&venv));
        let python = venv.join("bin/python");
        run(command(&python).args(["-m", "pip", "install", "-q"]).args([
            "cffi==2.1.1",
            "coverage==7.17.5",
            "Cython==3.3.1",
            "debugpy==1.8.22",
            "py-spy==0.4.3",
            "pybind11==3.1.0",
            "setuptools==84.2.1",
        ]));
        (directory, python)
    });
    python.clone()
}

#[test]
#[ignore = "needs a package"]
fn extension_modules_are_built_for_it() {
    let project = project(&[
        (
            "setup.py",
            "from Cython.Build import cythonize\n\
             from pybind11.setup_helpers import Pybind11Extension\n\
             from setuptools import Extension, setup\n\
             setup(name='four', version='1', py_modules=[],\n    \
             ext_modules=[Extension('plain', ['plain.c']), Pybind11Extension('bound', ['bound.cpp']),\n        \
             *cythonize(['cythonized.pyx'])],\n    cffi_modules=['ffi.py:builder'])\n",
        ),
        (
            "plain.c",
            "#include <Python.h>\n\
             static PyObject *one(PyObject *m, PyObject *a) { return PyLong_FromLong(1); }\n\
             static PyMethodDef methods[] = {{\"one\", one, METH_NOARGS, 0}, {0}};\n\
             static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, \"plain\", 0, -1, methods};\n\
             PyMODINIT_FUNC PyInit_plain(void) { return PyModule_Create(&module); }\n",
        ),
        (
            "bound.cpp",
            "#include <pybind11/pybind11.h>\n\
             PYBIND11_MODULE(bound, m) { m.def(\"two\", []() { return 2; }); }\n",
        ),
        ("cythonized.pyx", "def three():\n    return 3\n"),
        (
            "ffi.py",
            "from cffi import FFI\nbuilder = FFI()\nbuilder.cdef('int four(void);')\n\
             builder.set_source('viaffi', 'int four(void) { return 4; }')\n",
        ),
    ]);
    let python = builders();
    let pip = [
        "-m",
        "pip",
        "install",
        "--no-build-isolation",
        "--quiet",
        ".",
    ];
    run(command(&python).args(pip).current_dir(project.path()));
    let code = "import plain, bound, cythonized, viaffi\n\
                print(plain.one(), bound.two(), cythonized.three(), viaffi.lib.four())";
    assert_eq!(run(command(&python).args(["-I", "-c", code])), "1 2 3 4\n");
}

#[test]
#[ignore = "needs a package"]
fn extension_modules_in_rust_are_built_for_it() {
    let project = project(&[
        (
            "Cargo.toml",
            "[package]\nname = \"rusty\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
             [lib]\ncrate-type = [\"cdylib\"]\n[dependencies]\npyo3 = \"=0.26.0\"\n",
        ),
        (
            "pyproject.toml",
            "[build-system]\nrequires = [\"maturin==1.16.0\"]\nbuild-backend = \"maturin\"\n\
             [project]\nname = \"rusty\"\nversion = \"0.1.0\"\n",
        ),
        (
            "src/lib.rs",
            "use pyo3::prelude::*;\n#[pymodule]\nmod rusty {\n    use super::*;\n    \
             #[pyfunction]\n    fn five() -> u8 {\n        5\n    }\n}\n",
        ),
    ]);
    let venv = project.path().join("venv");
    run(command(&interpreter()).args(["-m", "venv"]).arg(&venv));
    let python = venv.join("bin/python");
    let mut pip = command(&python);
    // cargo sets variables for the programs that it runs, and maturin runs cargo.
    for (name, _) in
        env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG"))
    {
        pip.env_remove(name);
    }
    run(pip
        .args(["-m", "pip", "install", "--quiet", "."])
        .current_dir(project.path()));
    let code = "import rusty; print(rusty.five())";
    assert_eq!(run(command(&python).args(["-I", "-c", code])), "5\n");
}

#[test]
#[ignore = "needs a package"]
fn tools_that_look_at_programs_understand_it() {
    let project = project(&[
        (
            "app.py",
            "import sys, time\ndef waits():\n    print('ready', flush=True)\n    time.sleep(60)\nwaits()\n",
        ),
        ("quick.py", "if True:\n    x = 1\nelse:\n    x = 2\n"),
    ]);
    let python = builders();
    let bin = python.parent().expect("it is in a directory");
    let mut app = command(&python)
        .arg("app.py")
        .current_dir(project.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started");
    let mut line = String::new();
    let output = app.stdout.take().expect("it has an output");
    BufReader::new(output)
        .read_line(&mut line)
        .expect("it can be read");
    let pid = app.id().to_string();
    let stack = Outcome::of(command(&bin.join("py-spy")).args(["dump", "--pid", &pid]));
    app.kill().expect("it can be killed");
    app.wait().expect("it ends");
    assert!(stack.stdout.contains("waits (app.py"), "{stack:?}");

    let in_project =
        |arguments: &[&str]| run(command(&python).args(arguments).current_dir(project.path()));
    in_project(&["-m", "coverage", "run", "--branch", "quick.py"]);
    let report = in_project(&["-m", "coverage", "report", "--show-missing"]);
    assert!(report.contains("quick.py"), "{report}");
    let code = "import debugpy; debugpy.listen(0); print('listens')";
    assert_eq!(
        in_project(&["-X", "frozen_modules=off", "-c", code]),
        "listens\n"
    );
    // perf(1) reads the names of functions from this file.
    let code = "import os; print(os.path.exists(f'/tmp/perf-{os.getpid()}.map'))";
    assert_eq!(in_project(&["-X", "perf", "-c", code]), "True\n");
}

/// The tree of `packaging/Dockerfile`, stage `minimal`: the interpreter and the libraries that it needs.
fn minimal_tree(root: &Path) {
    run(Command::new("mkdir").arg("-p").arg(root.join("usr")));
    let local = root.join("usr/local");
    run(Command::new("cp").arg("-a").arg(unpacked()).arg(&local));
    let modules = fs::read_dir(local.join("lib/python3.13/lib-dynload")).expect("it is there");
    let modules = modules.map(|module| module.expect("it can be read").path());
    let files = modules.chain([local.join("bin/python3.13")]);
    let needed = run(Command::new("ldd").args(files));
    let paths = needed
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for path in paths.filter(|path| !path.ends_with(':')) {
        let to = root.join(path.trim_start_matches('/'));
        if !to.exists() {
            fs::create_dir_all(to.parent().expect("it has a parent")).expect("it can be made");
            fs::copy(path, to).expect("a library can be copied");
        }
    }
}

/// Runs a program in a tree, as root or as a user without rights on a file system that cannot be written to.
fn in_tree(root: &Path, is_build: bool, arguments: &[&str]) -> Outcome {
    let (mount, user) = if is_build {
        ("", "0:0")
    } else {
        ("mount -o remount,bind,ro \"$0\";", "65534:65534")
    };
    let script = format!(
        "mount --bind \"$0\" \"$0\"; {mount} exec chroot --userspec={user} \"$0\" /usr/local/bin/python3 \"$@\""
    );
    let mut command = command(Path::new("unshare"));
    command
        .args(["--mount", "--", "sh", "-ec", &script])
        .arg(root);
    Outcome::of(command.args(arguments))
}

#[test]
#[ignore = "needs a package"]
fn in_a_container_archives_are_used_without_rights_and_whatever_the_times() {
    let script = "mount --bind /mnt /mnt";
    let mounts = Outcome::of(Command::new("unshare").args(["--mount", "--", "sh", "-c", script]));
    if mounts.status != 0 {
        skip!("this user cannot mount file systems");
    }
    let directory = project(&[(
        "tree/srv/app/main.py",
        "import email.message, json, shop.cart\nprint(json.dumps(shop.cart.total()))\n",
    )]);
    let tree = directory.path().join("tree");
    let shop = tree.join("srv/app/shop");
    fs::create_dir(&shop).expect("it can be made");
    fs::write(shop.join("__init__.py"), "").expect("it can be written");
    fs::write(shop.join("cart.py"), "def total():\n    return 3\n").expect("it can be written");
    minimal_tree(&tree);
    let dump = [
        "-m",
        "cds",
        "dump",
        "-q",
        "/srv/app/archives/app.cds",
        "--script",
    ];
    fs::create_dir(tree.join("srv/app/archives")).expect("it can be made");
    let dumped = in_tree(&tree, true, &[&dump[..], &["/srv/app/main.py"]].concat());
    assert_eq!((dumped.status, &*dumped.stderr), (0, ""), "{dumped:?}");

    // A layer is an archive of tar with times in whole seconds. Some tools set all times to 1 or to now.
    for change in [
        "true",
        "find . -exec touch -hd @1 {} +",
        "find . -exec touch -h {} +",
    ] {
        let layer = directory.path().join("layer");
        fs::create_dir(&layer).expect("it can be made");
        let copy = "tar --create --format=gnu --directory=../tree . | tar --extract";
        let script = format!("{copy}; {change}");
        run(Command::new("sh")
            .args(["-ec", &script])
            .current_dir(&layer));
        let options = [
            "-X",
            "cds=/srv/app/archives/app.cds",
            "-X",
            "cds_strict",
            "-X",
            "cds_stats",
        ];
        let outcome = in_tree(
            &layer,
            false,
            &[&options[..], &["/srv/app/main.py"]].concat(),
        );
        assert_eq!(
            (outcome.status, &*outcome.stdout),
            (0, "3\n"),
            "{change}: {outcome:?}"
        );
        assert!(
            outcome.stderr.contains("from elsewhere: 0"),
            "{change}: {outcome:?}"
        );
        fs::remove_dir_all(&layer).expect("it can be removed");
    }
}
