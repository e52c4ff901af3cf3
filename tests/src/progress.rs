//! The progress that the user sees during long operations.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Seconds between two lines if stderr is not a terminal.
const BETWEEN_LINES: u64 = 30;

/// A spinner with the current step. If stderr is not a terminal: a line at the beginning, and then one from time to
/// time.
pub struct Progress {
    title: String,
    bar: Option<ProgressBar>,
    start: Instant,
    /// When the last line was written, in seconds since the start.
    told: AtomicU64,
}

impl Progress {
    pub fn start(title: impl Into<String>) -> Self {
        let title = title.into();
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed:>5}  {wide_msg}");
            bar.set_style(style.expect("a valid template"));
            bar.set_prefix(title.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("{title} ...");
        }
        Self {
            title,
            bar,
            start: Instant::now(),
            told: AtomicU64::new(0),
        }
    }

    /// Shows the current step.
    pub fn say(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
            return;
        }
        let now = self.start.elapsed().as_secs();
        let told = self.told.load(Ordering::Relaxed);
        let order = Ordering::Relaxed;
        if now >= told + BETWEEN_LINES
            && self.told.compare_exchange(told, now, order, order).is_ok()
        {
            eprintln!("{}: {what}", self.title);
        }
    }

    /// Stops drawing until [`Self::say`], so that drawing does not disturb a measurement.
    pub fn pause(&self) {
        if let Some(bar) = &self.bar {
            bar.disable_steady_tick();
        }
    }

    /// Ends with a line that says how long the operation took.
    pub fn done(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!(
            "{}: {:.1} s",
            self.title,
            self.start.elapsed().as_secs_f64()
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
