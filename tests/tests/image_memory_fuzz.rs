//! Imports allocate blocks of memory of all kinds. Restored and plain processes make the same random changes to them.
//!
//! `CDS_ALLOCATION_ROUNDS` sets a higher number of changes than some hundreds, and includes packages: then the blocks
//! include numpy arrays.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cpython_cds_tests::environment::Environment;
use cpython_cds_tests::report::Report;
use cpython_cds_tests::restored::copy_package;
use cpython_cds_tests::{Outcome, Project, python};

/// The number of seeds that one process runs.
const SEEDS_A_PROCESS: usize = 4;

/// The number of failures that are shown.
const SHOWN: usize = 5;

struct Fuzz {
    project: Project,
    packages: Option<Environment>,
    rounds_a_seed: usize,
}

/// An image: the seed of its blocks, and a library that is preloaded.
struct Image {
    seed: usize,
    preload: Option<&'static str>,
}

impl Image {
    fn name(&self) -> String {
        format!("made_{}", self.seed)
    }
}

impl Fuzz {
    fn new(wanted: Option<usize>) -> Self {
        let project = Project::new(&[("allocate.py", include_str!("../restored/allocate.py"))]);
        for package in ["inventory", "allocation"] {
            copy_package(package, &project.path("path")).unwrap();
        }
        let packages = wanted.map(|_| Environment::new(&python()).unwrap());
        let rounds_a_seed = if wanted.is_some() { 100 } else { 30 };
        Self {
            project,
            packages,
            rounds_a_seed,
        }
    }

    fn command(&self, image: &Image) -> Command {
        let mut command = match &self.packages {
            Some(environment) => environment.command(&[]),
            None => self.project.command::<[&str; 0]>([]),
        };
        command.env("PYTHONPATH", self.project.path("path"));
        if let Some(library) = image.preload {
            command.env("LD_PRELOAD", library);
        }
        command.current_dir(self.project.path(""));
        command
    }

    /// Takes an image of a module that allocates blocks.
    fn take(&self, image: &Image) {
        let name = image.name();
        let text = format!(
            "from allocation.world import World\nWORLD = World({})\n",
            image.seed
        );
        self.project.write(&format!("path/{name}.py"), &text);
        self.project
            .write(&format!("{name}.lst"), &format!("{name}\n"));
        // The first run writes `.pyc` files, which changes directories that the image depends on.
        self.run("cds=off", image, &["0".to_owned()]).success();
        let mut dump = self.command(image);
        dump.args(["-m", "cds", "dump", "-q", "--image"]);
        dump.args([format!("{name}.lst"), format!("{name}.img")]);
        Outcome::of(&mut dump).success();
        let stats = format!("{name}.json");
        let mut restored = self.command(image);
        restored.args(["-X", &format!("cds={name}.img")]);
        restored.args(["-X", &format!("cds_stats={stats}"), "-c", "pass"]);
        Outcome::of(&mut restored).success();
        let report = Report::read(&self.project.path(&stats)).unwrap();
        assert!(report.startup_image.is_some(), "{name}: {report:?}");
    }

    fn run(&self, archive: &str, image: &Image, seeds: &[String]) -> Outcome {
        let mut command = self.command(image);
        command.args(["-X", archive]);
        command.args([
            "allocate.py".to_owned(),
            image.name(),
            self.rounds_a_seed.to_string(),
        ]);
        Outcome::of(command.args(seeds))
    }

    /// The difference between plain and restored runs of some seeds; none if there is no difference.
    fn compare(&self, image: &Image, seeds: &[String]) -> Option<String> {
        let plain = self.run("cds=off", image, seeds);
        let restored = self.run(&format!("cds={}.img", image.name()), image, seeds);
        assert_eq!(plain.status, 0, "{plain:?}");
        (plain != restored).then(|| {
            let preload = image.preload.unwrap_or("nothing");
            let said: Vec<_> = restored.stderr.lines().rev().take(3).collect();
            format!(
                "blocks of seed {} with {preload} preloaded, changed with seeds {seeds:?}: status {}\n{}{}",
                image.seed,
                restored.status,
                restored.stdout,
                said.join("\n")
            )
        })
    }
}

/// The libraries that are installed and can be preloaded. Prints the names of the others.
fn preloaded() -> Vec<&'static str> {
    let libraries = ["libjemalloc.so.2", "libmimalloc.so.2"];
    let is_there = |library: &&str| {
        let mut command = Command::new("true");
        let outcome = Outcome::of(command.env("LD_PRELOAD", library));
        // The dynamic linker prints an error if it does not find a library.
        let is_there = outcome.stderr.is_empty();
        if !is_there {
            println!("without {library}: it is not there");
        }
        is_there
    };
    libraries.into_iter().filter(is_there).collect()
}

#[test]
fn restored_memory_is_changed_as_any_other() {
    let wanted = std::env::var("CDS_ALLOCATION_ROUNDS").ok();
    let wanted = wanted.map(|number| number.parse::<usize>().expect("a number of rounds"));
    let fuzz = Fuzz::new(wanted);
    let a_process = fuzz.rounds_a_seed * SEEDS_A_PROCESS;
    let mut preloads = vec![None, None];
    preloads.extend(preloaded().into_iter().map(Some));
    // Each image has other blocks.
    let images = preloads.len() * wanted.unwrap_or(0).div_ceil(20_000).max(1);
    let processes = wanted
        .unwrap_or(2 * images * a_process)
        .div_ceil(images * a_process);
    let images = (0..images).map(|seed| Image {
        seed,
        preload: preloads[seed % preloads.len()],
    });
    let failures = Mutex::new(Vec::new());
    let mut rounds = 0;
    for image in images {
        fuzz.take(&image);
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= processes {
                            break;
                        }
                        let first = number * SEEDS_A_PROCESS;
                        let seeds = (first..first + SEEDS_A_PROCESS).map(|seed| seed.to_string());
                        let failure = fuzz.compare(&image, &seeds.collect::<Vec<_>>());
                        failures
                            .lock()
                            .expect("nobody has panicked")
                            .extend(failure);
                    }
                });
            }
        });
        rounds += processes * a_process;
        println!(
            "{rounds} rounds, {} failures",
            failures.lock().unwrap().len()
        );
    }
    let failures = failures.into_inner().expect("nobody has panicked");
    let shown = failures.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    assert!(
        failures.is_empty(),
        "{} of {} processes did something else:\n{}",
        failures.len(),
        rounds / a_process,
        shown.join("\n\n")
    );
}
