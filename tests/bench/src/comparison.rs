//! Compares two sets of results: is anything faster or slower?

use crate::results::Results;
use crate::results::contender::{ARCHIVE, STOCK};
use crate::table::Table;

/// The changes of the ratios of programs that both results contain. A change counts only if the intervals do not
/// overlap.
pub fn table(old: &Results, new: &Results) -> Table {
    let mut table = Table::new(
        &format!("Changes since the results of {}", old.date),
        &["program", "ratio then", "ratio now", "change", ""],
    );
    for program in &new.programs {
        let before = old
            .programs
            .iter()
            .find(|before| before.name == program.name);
        let ratios = (
            before.and_then(|before| before.ratio(STOCK, ARCHIVE)),
            program.ratio(STOCK, ARCHIVE),
        );
        let (Some(before), Some(now)) = ratios else {
            continue;
        };
        let verdict = if now.low > before.high {
            "faster"
        } else if now.high < before.low {
            "slower"
        } else {
            "the same"
        };
        table.row(vec![
            program.name.clone(),
            format!("{:.2}", before.median),
            format!("{:.2}", now.median),
            format!("{:+.1} %", (now.median / before.median - 1.0) * 100.0),
            verdict.to_owned(),
        ]);
    }
    table
}
