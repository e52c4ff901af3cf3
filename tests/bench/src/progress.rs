//! A bar with the remaining time, or, if stderr is not a terminal, a line at the beginning.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// Starts the progress bar for work of so many steps.
    pub fn start(title: &str, steps: u64) -> Self {
        if !io::stderr().is_terminal() {
            eprintln!("{title} ...");
            return Self(None);
        }
        let bar = ProgressBar::new(steps);
        let style = ProgressStyle::with_template("{prefix:<12} {bar:30} {pos}/{len}  {eta} left");
        bar.set_style(style.expect("a valid template"));
        bar.set_prefix(title.to_owned());
        Self(Some(bar))
    }

    pub fn step(&self) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
