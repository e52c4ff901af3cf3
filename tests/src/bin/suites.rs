//! The program behind `cargo xtask test --packages`: runs the test suites of packages with stock CPython, with the
//! packages archived, and restored from a startup image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use cpython_cds_tests::environment::{self, succeed};
use cpython_cds_tests::progress::Progress;
use cpython_cds_tests::report::Report;
use cpython_cds_tests::venv::Venv;
use cpython_cds_tests::workload::TENSORFLOW;
use cpython_cds_tests::{Outcome, exit_code, python, repository};

/// A package and its tests.
struct Suite {
    requirement: &'static str,
    tests: Tests,
    /// The packages that its tests need, except pytest.
    needs: &'static [&'static str],
    /// Packages to archive.
    packages: &'static str,
    /// Arguments after `python`.
    arguments: &'static [&'static str],
}

/// The location of the tests of a package.
#[derive(Clone, Copy)]
enum Tests {
    /// In the source distribution. They are run in this directory of it.
    Source(&'static str),
    /// In the package itself.
    Installed,
}

const PYTEST: &[&str] = &[
    "-m",
    "pytest",
    "-q",
    "-rA",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:randomly",
];

const SETTINGS: [(&str, &str); 2] = [
    // This fixes the order of sets, and with it the names of some parameterized tests.
    ("PYTHONHASHSEED", "0"),
    // Otherwise SQLAlchemy's tests use the package in their own directory and not the installed one, which is archived.
    ("PYTHONNOUSERSITE", "1"),
];

/// Parts of packages that must not be in an image: pytest has to import them itself, to rewrite their assertions.
const FOR_TESTS: [&str; 3] = ["sqlalchemy.testing", ".tests", "sklearn.conftest"];

const SUITES: [Suite; 7] = [
    Suite {
        requirement: "jinja2==3.1.6",
        tests: Tests::Source(""),
        needs: &["trio==0.31.0"],
        packages: "jinja2,markupsafe",
        arguments: &["tests"],
    },
    Suite {
        requirement: "click==8.1.8",
        tests: Tests::Source(""),
        needs: &[],
        packages: "click",
        arguments: &["tests"],
    },
    Suite {
        requirement: "attrs==24.3.0",
        tests: Tests::Source(""),
        needs: &["hypothesis==6.140.0", "cloudpickle==3.1.1"],
        packages: "attr,attrs",
        arguments: &[
            "tests",
            "--ignore=tests/test_mypy.yml",
            "--hypothesis-seed=0",
        ],
    },
    Suite {
        requirement: "sqlalchemy==2.0.36",
        tests: Tests::Source(""),
        needs: &[],
        packages: "sqlalchemy",
        arguments: &["test/base", "test/sql", "-p", "no:logging"],
    },
    Suite {
        requirement: "django==5.1.4",
        tests: Tests::Source(""),
        needs: &[],
        packages: "django,asgiref,sqlparse",
        arguments: &[
            "tests/runtests.py",
            "--parallel=1",
            "utils_tests",
            "template_tests",
            "forms_tests",
        ],
    },
    Suite {
        // One of the last versions whose source distribution has the tests.
        requirement: "polars==1.20.0",
        // In the top directory, the source of the package would be imported instead of the installed package.
        tests: Tests::Source("py-polars/tests"),
        needs: &[
            "hypothesis==6.140.0",
            "numpy==2.5.5",
            "pandas==3.1.1",
            "pyarrow==26.0.1",
        ],
        packages: "polars",
        arguments: &[
            "unit/series",
            "unit/operations",
            "unit/dataframe",
            "unit/lazyframe",
            "unit/functions",
            "--ignore=unit/operations/namespaces/test_plot.py",
            "--import-mode=append",
            "--config-file=/dev/null",
            "--rootdir=.",
            "-m",
            "not slow and not write_disk and not release and not hypothesis and not ci_only",
        ],
    },
    Suite {
        requirement: "scikit-learn==1.9.1",
        tests: Tests::Installed,
        needs: &["numpy==2.5.5", "scipy==1.18.1"],
        packages: "sklearn,scipy,numpy,joblib,threadpoolctl",
        arguments: &[
            "--pyargs",
            "sklearn.tree.tests.test_tree",
            "sklearn.linear_model.tests.test_base",
            "sklearn.preprocessing.tests.test_data",
            "sklearn.svm.tests.test_svm",
        ],
    },
];

/// Run the test suites of packages: with a stock interpreter, archived, and restored from startup images
#[derive(Parser)]
struct Args {
    /// The interpreter without patches
    stock: PathBuf,
    /// Only these packages [default: all]
    #[arg(value_name = "PACKAGE")]
    names: Vec<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    exit_code(run(&args.stock, &args.names))
}

/// Whether all suites, or the suites of packages with these names, give the same results.
fn run(stock: &Path, names: &[String]) -> Result<bool> {
    let is_wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let mut same = !is_wanted("tensorflow") || tensorflow()?;
    let stock = Environment::new("stock", stock)?;
    let patched = Environment::new("patched", &python())?;
    println!(
        "{:<20}{:>9}{:>9}{:>10}{:>12}{:>10}{:>12}",
        "", "tests", "failed", "archived", "different", "restored", "different"
    );
    for suite in SUITES.iter().filter(|suite| is_wanted(suite.name())) {
        let progress = Progress::start(suite.requirement);
        let source = match suite.tests {
            Tests::Source(directory) => source(&stock, suite)?.join(directory),
            // A directory without packages.
            Tests::Installed => stock.empty()?,
        };
        progress.say("with stock");
        let expected = stock.results(suite, &source, &[])?;
        progress.say("archive");
        let archive = patched.archive(suite)?;
        progress.say("with the archive");
        let trace = patched.path("trace.lst");
        let (archived, report) = patched.report(suite, &source, &archive, Some(&trace))?;
        let from_archive = report.modules.from_archive;
        progress.say("take a startup image");
        let image = patched.image(suite, &source, &trace)?;
        progress.say("restored");
        let (restored, report) = patched.report(suite, &source, &image, None)?;
        ensure!(
            report.startup_image.is_some(),
            "{} is not restored: {:?}",
            suite.requirement,
            report.startup_image_refused
        );
        drop(progress);
        let archived = differences(&expected, &archived, "with the archive");
        let restored = differences(&expected, &restored, "restored");
        let failed = expected
            .values()
            .filter(|result| *result == "FAILED" || *result == "ERROR");
        println!(
            "{:<20}{:>9}{:>9}{:>10}{:>12}{:>10}{:>12}",
            suite.requirement,
            expected.len(),
            failed.count(),
            from_archive,
            archived.len(),
            "yes",
            restored.len()
        );
        for difference in archived.iter().chain(&restored) {
            println!("    {difference}");
            same = false;
        }
    }
    Ok(same)
}

impl Suite {
    fn name(&self) -> &'static str {
        self.requirement
            .split_once("==")
            .map_or(self.requirement, |(name, _)| name)
    }
}

/// Tests whose results differ from the expected ones.
fn differences(
    expected: &BTreeMap<String, String>,
    found: &BTreeMap<String, String>,
    way: &str,
) -> BTreeSet<String> {
    let tests = expected.keys().chain(found.keys());
    let different = tests.filter(|test| expected.get(*test) != found.get(*test));
    different
        .map(|test| {
            let (expected, found) = (expected.get(test), found.get(test));
            format!("{test}: {expected:?}, {way} {found:?}")
        })
        .collect()
}

/// Whether TensorFlow, the largest package, has the same outcome when it is restored from a startup image.
fn tensorflow() -> Result<bool> {
    let python = python();
    let environment = environment::Environment::with(&python, "tensorflow.lock", &[])?;
    let progress = Progress::start("tensorflow");
    progress.say("without an archive, and restored from a startup image");
    let complaints = TENSORFLOW.check_restored(&environment)?;
    drop(progress);
    let same = if complaints.is_empty() { "yes" } else { "NO" };
    println!("tensorflow, restored from a startup image: the same: {same}");
    for complaint in &complaints {
        println!("{complaint}");
    }
    Ok(complaints.is_empty())
}

/// A virtual environment with pytest and the packages.
struct Environment {
    venv: Venv,
}

impl Environment {
    fn new(name: &str, interpreter: &Path) -> Result<Self> {
        let mut wanted = vec!["pytest==8.4.2", "trustme==1.2.1"];
        for suite in &SUITES {
            wanted.push(suite.requirement);
            wanted.extend(suite.needs);
        }
        wanted.sort_unstable();
        wanted.dedup();
        let venv = Venv::new(&format!("suites-{name}"), interpreter, &wanted)?;
        Ok(Self { venv })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.venv.directory().join(name)
    }

    /// A directory without packages.
    fn empty(&self) -> Result<PathBuf> {
        let empty = self.path("empty");
        fs::create_dir_all(&empty).with_context(|| format!("cannot create {}", empty.display()))?;
        Ok(empty)
    }

    fn archive(&self, suite: &Suite) -> Result<PathBuf> {
        let archive = self.path("packages.img");
        let mut dump = self.venv.command();
        dump.args(["-m", "cds", "dump", "-q", "--package", suite.packages]);
        succeed(dump.arg(&archive))?;
        Ok(archive)
    }

    /// Takes an image of the modules of the packages that a run has imported.
    fn image(&self, suite: &Suite, source: &Path, trace: &Path) -> Result<PathBuf> {
        let archive = self.path("image.img");
        let list = self.path("image.lst");
        let traced = fs::read_to_string(trace)
            .with_context(|| format!("cannot read {}", trace.display()))?;
        let is_of_package = |line: &&str| {
            let name = line.split(['.', ' ']).next();
            let mut packages = suite.packages.split(',');
            packages.any(|known| Some(known) == name)
                && !FOR_TESTS.iter().any(|part| line.contains(part))
        };
        let lines = traced.lines().filter(is_of_package);
        let lines = lines.map(|line| format!("{line}\n")).collect::<String>();
        fs::write(&list, lines).with_context(|| format!("cannot write {}", list.display()))?;
        let mut dump = self.venv.command();
        // Some packages ask for the working directory when they are imported.
        dump.current_dir(source).envs(SETTINGS);
        dump.args(["-m", "cds", "dump", "-q", "--image"]);
        succeed(dump.arg(&list).arg(&archive))?;
        Ok(archive)
    }

    /// Runs a suite with an archive, or restored from the image beside it. With `trace`, the run writes a trace list.
    fn report(
        &self,
        suite: &Suite,
        source: &Path,
        archive: &Path,
        trace: Option<&Path>,
    ) -> Result<(BTreeMap<String, String>, Report)> {
        let stats = self.path("stats.json");
        let mut settings = vec![
            ("PYTHON_CDS", archive.to_owned()),
            ("PYTHON_CDS_STATS", stats.clone()),
        ];
        if let Some(trace) = trace {
            fs::write(trace, "").with_context(|| format!("cannot write {}", trace.display()))?;
            settings.push(("PYTHON_CDS_TRACE", trace.to_owned()));
        }
        let results = self.results(suite, source, &settings)?;
        Ok((results, Report::read(&stats)?))
    }

    /// Runs a suite and returns the result of each test.
    fn results(
        &self,
        suite: &Suite,
        source: &Path,
        settings: &[(&str, PathBuf)],
    ) -> Result<BTreeMap<String, String>> {
        let is_pytest = !suite.arguments[0].ends_with(".py");
        let mut command = self.venv.command();
        command
            .current_dir(source)
            .envs(SETTINGS)
            .envs(settings.iter().map(|(name, value)| (name, value)));
        if is_pytest {
            command.args(PYTEST);
        }
        command.args(suite.arguments);
        if !is_pytest {
            command.args(["-v", "2"]);
        }
        let outcome = Outcome::of(&mut command);
        let text = format!("{}\n{}", outcome.stdout, outcome.stderr);
        let results = if is_pytest {
            pytest(&text)
        } else {
            unittest(&text)
        };
        ensure!(
            results.len() > 50,
            "the tests of {} do not run:\n{}",
            suite.requirement,
            text.lines()
                .rev()
                .take(30)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect::<Vec<_>>()
                .join("\n")
        );
        Ok(results)
    }
}

/// The unpacked source distribution.
fn source(environment: &Environment, suite: &Suite) -> Result<PathBuf> {
    let directory = repository()
        .join("target/workloads/sources")
        .join(suite.requirement.replace("==", "-"));
    let unpacked = |directory: &Path| -> Option<PathBuf> {
        let entries = fs::read_dir(directory).ok()?;
        entries
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.is_dir())
    };
    if let Some(found) = unpacked(&directory) {
        return Ok(found);
    }
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let mut download = environment.venv.pip();
    // Only for the package itself: the packages that its build needs may be wheels.
    download.args([
        "download",
        "-q",
        "--no-deps",
        "--no-binary",
        suite.name(),
        "-d",
    ]);
    succeed(download.arg(&directory).arg(suite.requirement))?;
    let mut unpack = environment.venv.command();
    unpack.args(["-c", "import glob, shutil, sys; [shutil.unpack_archive(file, sys.argv[1], filter='data') for file in glob.glob(sys.argv[1] + '/*.tar.gz')]"]);
    succeed(unpack.arg(&directory))?;
    unpacked(&directory).with_context(|| format!("{} has no directory", suite.requirement))
}

/// Parses lines such as `PASSED test_a.py::test_b`, which `-rA` prints.
fn pytest(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines
        .filter(|(result, _)| ["PASSED", "FAILED", "ERROR", "XFAIL", "XPASS"].contains(result))
        // A message may follow a dash. It may contain addresses.
        .map(|(result, rest)| {
            let test = rest.split(" - ").next().unwrap_or(rest);
            // The path of an installed test depends on the environment.
            let (_, test) = test.rsplit_once("/site-packages/").unwrap_or(("", test));
            (test.to_owned(), result.to_owned())
        })
        .collect()
}

/// Parses lines such as `test_a (module.Class.test_a) ... ok`.
fn unittest(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.rsplit_once(" ... "));
    lines
        .filter(|(test, _)| test.contains(" ("))
        .map(|(test, result)| {
            let result = match result {
                "ok" => "PASSED",
                "FAIL" | "ERROR" => "FAILED",
                _ => "SKIPPED",
            };
            (test.to_owned(), result.to_owned())
        })
        .collect()
}
