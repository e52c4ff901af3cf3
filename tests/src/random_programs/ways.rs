//! The ways to run a program. Each has to give the same outcome as a plain start.

use similar::TextDiff;

use super::program::{Program, Traces};
use crate::report::Report;
use crate::{Outcome, are_settled};

/// A way to run programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// With an archive that `cds_auto` writes.
    Archive,
    /// From an image of all modules that it imports, if taking the image reports nothing that differs from run to run.
    ExplicitImage,
    /// From an image of the program in the cache.
    AutomaticImage,
}

/// The result of running a program in one way.
#[derive(Default)]
pub struct Verdict {
    pub runs: usize,
    /// The number of runs that were restored.
    pub restored: usize,
    /// Why the program was not checked: an explicit image was refused, or two plain runs differ.
    pub refused: Option<String>,
    /// The difference, as text for people.
    pub difference: Option<String>,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::Archive, Self::ExplicitImage, Self::AutomaticImage];

    pub fn name(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::ExplicitImage => "explicit",
            Self::AutomaticImage => "automatic",
        }
    }

    /// Runs a program plainly and in this way, until there is a difference.
    pub fn check(self, program: &Program) -> Verdict {
        let mut verdict = Verdict::default();
        let off = ["-X", "cds=off"];
        // The first run writes `.pyc` files.
        let first = program.run(&off, 0, || ());
        let runs = 0..program.runs();
        let plain = Vec::from_iter(runs.clone().map(|run| program.run(&off, run, || ())));
        if first.text() != plain[0].text() {
            verdict.refused = Some("two plain runs differ".to_owned());
            return verdict;
        }
        let option = match self {
            Self::Archive => "cds_auto=../made/app.cds",
            Self::ExplicitImage => {
                verdict.refused = take_image(program);
                if verdict.refused.is_some() {
                    return verdict;
                }
                "cds=../made/app.cds"
            }
            Self::AutomaticImage => "cds=auto",
        };
        let stats = program.project.path("made/stats.json");
        // The path is absolute because the program may change its working directory.
        let report = format!("cds_stats={}", stats.display());
        let options = ["-X", option, "-X", &report];
        // Automatic archives and images need two runs before they are used.
        let learning = [0, 1][..if self == Self::ExplicitImage { 0 } else { 2 }].iter();
        for run in learning.copied().chain(runs) {
            let _ = std::fs::remove_file(&stats);
            let mut has_ended = true;
            let traces = program.run(&options, run, || {
                has_ended = are_settled(&program.project.path(""))
            });
            verdict.runs += 1;
            if !has_ended {
                verdict.difference = Some("a process of the run does not end".to_owned());
                break;
            }
            // A process that ends suddenly leaves no statistics.
            let report = Report::read(&stats).ok();
            let is_restored = report.is_some_and(|report| report.startup_image.is_some());
            verdict.restored += usize::from(is_restored);
            if traces != plain[run] {
                let how = format!("run {}, restored: {is_restored}", verdict.runs);
                verdict.difference = Some(difference(&how, &plain[run], &traces));
                break;
            }
        }
        verdict
    }
}

/// Takes an image of the modules that the program imports. Returns the reason if there is no image.
fn take_image(program: &Program) -> Option<String> {
    program.run(&["-X", "cds_trace=../made/app.lst"], 0, || ());
    if !program.project.path("made/app.lst").exists() {
        return Some("the program leaves no list".to_owned());
    }
    let mut dump = program.command(&["-m", "cds", "dump", "-q", "--image", "--strict"]);
    let outcome = Outcome::of(dump.args(["../made/app.lst", "../made/app.cds"]));
    (outcome.status != 0).then_some(outcome.stderr)
}

fn difference(how: &str, plain: &Traces, found: &Traces) -> String {
    let [plain, found] = [plain.text(), found.text()];
    let diff = TextDiff::from_lines(&plain, &found);
    diff.unified_diff().header("plain", how).to_string()
}
