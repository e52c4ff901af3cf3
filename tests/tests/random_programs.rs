//! Random programs have the same outcome as plainly in all ways: with an archive, from an image of their imports, and
//! from an automatic image.
//!
//! Variables: `CDS_PROGRAMS` is the number of programs in each way, `CDS_PROGRAMS_FIRST` the first seed,
//! `CDS_PROGRAMS_WAYS` the ways (`archive,explicit,automatic`), `CDS_PROGRAMS_KINDS` the kinds of statements
//! (tests/random_programs/generation has them) or `all`, and `CDS_PROGRAMS_SHOWN` the number of failures that are
//! shown.

use std::collections::BTreeSet;
use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use cpython_cds_tests::progress::Progress;
use cpython_cds_tests::random_programs::{Kinds, Program, Verdict, Way, shrink};

/// Kinds of statements that are known to have another outcome with an image. They are left out of the programs of this
/// way by default.
const KNOWN_TO_DIFFER: [(Way, &[&str]); 3] = [
    (Way::Archive, &[]),
    (Way::ExplicitImage, &BEFORE_THE_PROGRAM),
    // The order of finalizers at exit depends on all garbage collections since the start.
    (Way::AutomaticImage, &["finalizers"]),
];

/// Kinds that differ because the imports of an image of a list run before the program.
const BEFORE_THE_PROGRAM: [&str; 34] = [
    "descriptors of streams",
    "what the kernel tells",
    "time zone",
    "path",
    "import hooks",
    "warnings",
    "locale",
    "decimal",
    "patched functions",
    "patched classes",
    "builtins",
    "logging",
    "signals",
    "working directory",
    "umask",
    "seeds",
    "interpreter settings",
    "hooks",
    "streams",
    "registries",
    "context variables",
    "settings",
    "kernel attributes",
    "main module",
    "callers",
    "loaded modules",
    "order of events",
    "log file at import",
    "files at import",
    "forks at import",
    "finalizers",
    "weak references",
    "lazy modules",
    "random bytes",
];

/// The default number of programs in each way.
const PROGRAMS: u64 = 20;

/// The default number of failures that are made smaller and shown.
const SHOWN: u64 = 3;

/// The results of all programs in one way.
#[derive(Default)]
struct Sum {
    programs: usize,
    runs: usize,
    restored: usize,
    refused: usize,
    different: Vec<u64>,
}

impl Sum {
    fn add(&mut self, seed: u64, verdict: &Verdict) {
        self.programs += 1;
        self.runs += verdict.runs;
        self.restored += verdict.restored;
        self.refused += usize::from(verdict.refused.is_some());
        if verdict.difference.is_some() {
            self.different.push(seed);
        }
    }
}

fn wanted(name: &str) -> Option<String> {
    env::var(name).ok()
}

fn number(name: &str) -> Option<u64> {
    let value = wanted(name)?;
    Some(value.parse().expect("a number"))
}

fn kinds(way: Way) -> Kinds {
    match wanted("CDS_PROGRAMS_KINDS").as_deref() {
        Some("all") => Kinds::AllBut(String::new()),
        Some(names) => Kinds::Only(names.to_owned()),
        None => {
            let left_out = KNOWN_TO_DIFFER.iter().filter(|(of, _)| *of == way);
            let left_out = Vec::from_iter(left_out.flat_map(|(_, names)| names.iter().copied()));
            Kinds::AllBut(left_out.join(","))
        }
    }
}

fn check(way: Way, seeds: std::ops::Range<u64>) -> Sum {
    let kinds = kinds(way);
    let wanted = seeds.end - seeds.start;
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Sum::default());
    let progress = Progress::start(format!("random programs, {}", way.name()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let program = Program::new(seed, &kinds, &BTreeSet::new());
                    let verdict = way.check(&program);
                    if verdict.difference.is_some() {
                        println!("{} of {seed}: {}", way.name(), program.kinds());
                    }
                    let mut sum = sum.lock().expect("nobody has panicked");
                    sum.add(seed, &verdict);
                    let (done, different) = (sum.programs, sum.different.len());
                    progress.say(&format!("{done} of {wanted}, {different} different"));
                }
            });
        }
    });
    sum.into_inner().expect("nobody has panicked")
}

#[test]
fn random_programs_do_the_same() {
    let first = number("CDS_PROGRAMS_FIRST").unwrap_or(0);
    let seeds = first..first + number("CDS_PROGRAMS").unwrap_or(PROGRAMS);
    let names = wanted("CDS_PROGRAMS_WAYS");
    let is_wanted = |way: &Way| {
        let names = names.as_deref();
        names.is_none_or(|names| names.split(',').any(|name| name == way.name()))
    };
    let shown = number("CDS_PROGRAMS_SHOWN").unwrap_or(SHOWN);
    let mut failures = Vec::new();
    for way in Way::ALL.into_iter().filter(is_wanted) {
        let sum = check(way, seeds.clone());
        println!(
            "{}: {} programs, {} runs, {} restored; {} images refused; {} programs different",
            way.name(),
            sum.programs,
            sum.runs,
            sum.restored,
            sum.refused,
            sum.different.len(),
        );
        // If few programs are restored, the test proves nothing.
        if way != Way::Archive && sum.programs >= 10 {
            let with_image = sum.programs - sum.refused;
            assert!(sum.restored > with_image / 2, "hardly any is restored");
        }
        failures.extend(sum.different.into_iter().map(|seed| (way, seed)));
    }
    for &(way, seed) in failures.iter().take(shown as usize) {
        let name = way.name();
        match shrink(seed, &kinds(way), way) {
            None => println!("\nseed {seed}, {name}: the same, this time"),
            Some(smallest) => println!(
                "\nseed {seed}, {name}:\n{}\n{}",
                smallest.listing, smallest.difference
            ),
        }
    }
    let failures = failures
        .iter()
        .map(|(way, seed)| format!("{seed} ({})", way.name()));
    let failures = Vec::from_iter(failures).join(", ");
    assert!(
        failures.is_empty(),
        "programs of these seeds do something else: {failures}"
    );
}
