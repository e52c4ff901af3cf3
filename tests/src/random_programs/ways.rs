//! The ways to run a program, each of which has to do what a plain start does.

use similar::TextDiff;

use super::program::{Program, Traces};
use crate::report::Report;
use crate::{Outcome, are_settled};

/// A way to run programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// With an archive of its code, which writes itself.
    Archive,
    /// From an image of all that it imports, if nothing is reported that differs from run to run.
    ExplicitImage,
    /// With an image that makes itself.
    AutomaticImage,
}

/// What running a program in one way has shown.
#[derive(Default)]
pub struct Verdict {
    pub runs: usize,
    /// Runs that began with an image.
    pub restored: usize,
    /// Why there is no image, if one was asked for explicitly.
    pub refused: Option<String>,
    /// What was different, for people.
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

    /// Runs a program plainly and in this way, until something is different.
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
            Self::AutomaticImage => "cds_auto=../made/app.cds,image",
        };
        let stats = program.project.path("made/stats.json");
        // The program may go elsewhere.
        let report = format!("cds_stats={}", stats.display());
        let options = ["-X", option, "-X", &report];
        // One that makes itself needs two for that.
        let learning = [0, 1][..if self == Self::ExplicitImage { 0 } else { 2 }].iter();
        for run in learning.copied().chain(runs) {
            let _ = std::fs::remove_file(&stats);
            let mut has_ended = true;
            let traces = program.run(&options, run, || {
                has_ended = are_settled(&program.project.path(""))
            });
            verdict.runs += 1;
            if !has_ended {
                verdict.difference = Some("what the run has started never ends".to_owned());
                break;
            }
            // One that ends suddenly leaves none.
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

/// Takes an image of what the program imports; returns why there is none.
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
