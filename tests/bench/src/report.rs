//! The results as text and tables.

use cpython_cds_tests::measure::{Run, median};

use crate::results::contender::{
    ANCESTOR, ANCESTOR_STOCK, ARCHIVE, FORK, IMAGE, NO_CLASS_SLOTS, NO_PYC, STANDARD, STOCK,
    STOCK_AGAIN,
};
use crate::results::{Program, Results};
use crate::statistics::{Ratio, geometric_mean};
use crate::table::Table;

const ABSENT: &str = "–";

/// The circumstances of the measurement, in a few sentences.
pub fn circumstances(results: &Results) -> String {
    let machine = &results.machine;
    let cpu = match results.cpu {
        Some(_) => "all on one processor",
        None => "on any processor",
    };
    format!(
        "{}, {} processors: {}, {}, Linux {}. CPython {} against itself unpatched, both built with {}. Medians of {} rounds. \
         In each round, all run once in turn, {cpu}, with warm caches and `.pyc` files unless stated otherwise.",
        results.date,
        machine.processors,
        machine.processor,
        machine.system,
        machine.kernel,
        results.python,
        results.build,
        results.rounds,
    )
}

/// All tables that have figures.
pub fn tables(results: &Results) -> Vec<Table> {
    let all = [
        against_itself(results),
        programs(results),
        processor(results),
        peers(results),
        class_slots(results),
        ancestor(results),
        cold(results),
        load_cost(results),
        memory(results),
    ];
    all.into_iter()
        .filter(|table| !table.rows.is_empty())
        .collect()
}

/// The table that is also in the README.
pub fn programs(results: &Results) -> Table {
    let mut table = Table::new(
        "Time from start to end, stock against an archive of the program, and against a startup image",
        &[
            "program",
            "modules from the archive",
            "stock, ms",
            "archive, ms",
            "ratio",
            "95 % interval",
            "image, ms",
            "ratio",
            "95 % interval",
        ],
    );
    let (mut ratios, mut of_images) = (Vec::new(), Vec::new());
    for program in &results.programs {
        let Some(ratio) = program.ratio(STOCK, ARCHIVE) else {
            continue;
        };
        ratios.push(ratio.median);
        let modules = program.modules.map_or_else(
            || ABSENT.to_owned(),
            |(archived, all)| format!("{archived} of {all}"),
        );
        let mut row = vec![
            program.name.clone(),
            modules,
            milliseconds(program, STOCK),
            milliseconds(program, ARCHIVE),
            format!("{:.2}{}", ratio.median, mark(&ratio)),
            interval(&ratio),
        ];
        let image = program.ratio(STOCK, IMAGE);
        of_images.extend(image.as_ref().map(|ratio| ratio.median));
        let of_image = image.map_or_else(
            || [ABSENT; 3].map(str::to_owned),
            |ratio| {
                let median = format!("{:.1}{}", ratio.median, mark(&ratio));
                let interval = format!("{:.1} – {:.1}", ratio.low, ratio.high);
                [milliseconds(program, IMAGE), median, interval]
            },
        );
        row.extend(of_image);
        table.row(row);
    }
    if ratios.len() > 1 {
        let mut row = vec![String::new(); table.header.len()];
        row[0] = "geometric mean".to_owned();
        if let Some(mean) = geometric_mean(ratios.into_iter()) {
            row[4] = format!("{mean:.2}");
        }
        if let Some(mean) = geometric_mean(of_images.into_iter()) {
            row[7] = format!("{mean:.1}");
        }
        table.row(row);
    }
    table
}

fn against_itself(results: &Results) -> Table {
    let mut table = Table::new(
        "Stock against itself: in 95 of 100 such tables, all intervals contain 1",
        &[
            "program",
            "first, ms",
            "second, ms",
            "ratio",
            "interval",
            "contains 1.00",
        ],
    );
    for program in &results.programs {
        let ratio = program.ratio_of_many(results.programs.len(), STOCK, STOCK_AGAIN);
        if let Some(ratio) = ratio {
            table.row(vec![
                program.name.clone(),
                milliseconds(program, STOCK),
                milliseconds(program, STOCK_AGAIN),
                format!("{:.3}{}", ratio.median, mark(&ratio)),
                format!("{:.3} – {:.3}", ratio.low, ratio.high),
                if ratio.contains(1.0) { "yes" } else { "NO" }.to_owned(),
            ]);
        }
    }
    table
}

fn processor(results: &Results) -> Table {
    let mut table = Table::new(
        "Processor time (user and system), page faults, peak memory, instructions: stock, archive",
        &[
            "program",
            "cpu, ms",
            "",
            "faults",
            " ",
            "peak RSS, MB",
            "  ",
            "million instructions",
            "   ",
        ],
    );
    for program in &results.programs {
        if !program.runs.contains_key(ARCHIVE) {
            continue;
        }
        let mut row = vec![program.name.clone()];
        let mut figure = |digits: usize, figure: fn(&Run) -> f64| {
            for contender in [STOCK, ARCHIVE] {
                let median = program.median(contender, figure);
                row.push(
                    median.map_or_else(|| ABSENT.to_owned(), |value| format!("{value:.digits$}")),
                );
            }
        };
        figure(1, |run| run.cpu_ms);
        figure(0, |run| run.faults as f64);
        figure(1, |run| run.peak_rss_kb as f64 / 1024.0);
        for contender in [STOCK, ARCHIVE] {
            let count = program.instructions.get(contender);
            row.push(count.map_or_else(
                || ABSENT.to_owned(),
                |count| format!("{:.1}", *count as f64 / 1e6),
            ));
        }
        table.row(row);
    }
    table
}

fn peers(results: &Results) -> Table {
    let mut table = Table::new(
        "Against stock with .pyc files: how many times faster",
        &["program", ARCHIVE, IMAGE, STANDARD, NO_PYC, FORK],
    );
    for program in &results.programs {
        if !program.runs.contains_key(FORK) {
            continue;
        }
        let mut row = vec![program.name.clone()];
        for contender in [ARCHIVE, IMAGE, STANDARD, NO_PYC, FORK] {
            let ratio = program.ratio(STOCK, contender);
            row.push(ratio.map_or_else(
                || ABSENT.to_owned(),
                |ratio| format!("{:.2}{}", ratio.median, mark(&ratio)),
            ));
        }
        table.row(row);
    }
    table
}

fn class_slots(results: &Results) -> Table {
    let mut table = Table::new(
        "Archives with and without the patch class-slots, which is not about archives: how many times faster than stock",
        &[
            "program",
            "stock, ms",
            "without it, ms",
            "ratio",
            "with it, ms",
            "ratio",
        ],
    );
    for program in &results.programs {
        let without = program.ratio(STOCK, NO_CLASS_SLOTS);
        if let (Some(without), Some(with)) = (without, program.ratio(STOCK, ARCHIVE)) {
            table.row(vec![
                program.name.clone(),
                milliseconds(program, STOCK),
                milliseconds(program, NO_CLASS_SLOTS),
                format!("{:.2}{}", without.median, mark(&without)),
                milliseconds(program, ARCHIVE),
                format!("{:.2}{}", with.median, mark(&with)),
            ]);
        }
    }
    table
}

fn ancestor(results: &Results) -> Table {
    let mut table = Table::new(
        "code-data-share 0.1.0 against the Python that it runs on",
        &[
            "program",
            "its Python, ms",
            "code-data-share, ms",
            "ratio",
            "95 % interval",
        ],
    );
    for program in &results.programs {
        if let Some(ratio) = program.ratio(ANCESTOR_STOCK, ANCESTOR) {
            table.row(vec![
                program.name.clone(),
                milliseconds(program, ANCESTOR_STOCK),
                milliseconds(program, ANCESTOR),
                format!("{:.2}{}", ratio.median, mark(&ratio)),
                interval(&ratio),
            ]);
        }
    }
    table
}

fn cold(results: &Results) -> Table {
    let mut table = Table::new(
        "With a cold page cache",
        &[
            "program",
            "stock, ms",
            "archive, ms",
            "ratio",
            "95 % interval",
        ],
    );
    for program in &results.cold {
        if let Some(ratio) = program.ratio(STOCK, ARCHIVE) {
            table.row(vec![
                program.name.clone(),
                milliseconds(program, STOCK),
                milliseconds(program, ARCHIVE),
                format!("{:.2}{}", ratio.median, mark(&ratio)),
                interval(&ratio),
            ]);
        }
    }
    table
}

fn load_cost(results: &Results) -> Table {
    let mut table = Table::new(
        "`-c pass` with an archive that is not used",
        &[
            "modules",
            "archive, MB",
            "ms",
            "more than the smallest",
            "million instructions",
        ],
    );
    let smallest = results.load_cost.first();
    for cost in &results.load_cost {
        let times = |runs: &[Run]| runs.iter().map(|run| run.wall_ms).collect::<Vec<_>>();
        let own = times(&cost.runs);
        let more: Vec<f64> = smallest.map_or_else(Vec::new, |smallest| {
            let pairs = own.iter().zip(times(&smallest.runs));
            pairs.map(|(own, smallest)| own - smallest).collect()
        });
        if own.is_empty() || more.is_empty() {
            continue;
        }
        table.row(vec![
            cost.modules.to_string(),
            format!("{:.1}", cost.archive_bytes as f64 / f64::from(1 << 20)),
            format!("{:.2}", median(&own)),
            format!("{:+.3}", median(&more)),
            cost.instructions.map_or_else(
                || ABSENT.to_owned(),
                |count| format!("{:.3}", count as f64 / 1e6),
            ),
        ]);
    }
    table
}

fn memory(results: &Results) -> Table {
    let mut table = Table::new(
        "Memory of processes that have imported pandas, in MB",
        &[
            "processes",
            "all, stock",
            "all, archive",
            "code, stock",
            "code, archive",
            "ratio",
            "of this, written",
        ],
    );
    let of = |contender: &'static str| {
        results
            .memory
            .iter()
            .filter(move |m| m.contender == contender)
    };
    let megabytes = |kilobytes: u64| format!("{:.1}", kilobytes as f64 / 1024.0);
    for (stock, archive) in of(STOCK).zip(of(ARCHIVE)) {
        table.row(vec![
            stock.processes.to_string(),
            megabytes(stock.pss_kb),
            megabytes(archive.pss_kb),
            megabytes(stock.code_kb),
            megabytes(archive.code_kb),
            format!("{:.2}", archive.code_kb as f64 / stock.code_kb as f64),
            megabytes(archive.archive_private_kb),
        ]);
    }
    table
}

fn milliseconds(program: &Program, contender: &str) -> String {
    let median = program.median(contender, |run| run.wall_ms);
    median.map_or_else(|| ABSENT.to_owned(), |median| format!("{median:.1}"))
}

fn interval(ratio: &Ratio) -> String {
    format!("{:.2} – {:.2}", ratio.low, ratio.high)
}

/// The mark after a ratio with a wide interval.
fn mark(ratio: &Ratio) -> &'static str {
    if ratio.is_noisy() { " (noisy)" } else { "" }
}

/// All results as a document, with the pictures in the same directory.
pub fn markdown(results: &Results, pictures: &[(&str, &str)]) -> String {
    let mut text = format!("# Benchmarks\n\n{}\n\n", circumstances(results));
    text += "Ratios are medians of the ratios of each round; above 1 the second is faster. The interval is a 95 % bootstrap over \
             rounds; if it is wider than ±5 %, the ratio is marked as noisy.\n";
    for table in tables(results) {
        text += &format!("\n## {}\n\n{}", table.title, table.to_markdown());
    }
    for (file, title) in pictures {
        text += &format!("\n![{title}]({file})\n");
    }
    if !results.notes.is_empty() {
        text += "\n## Not measured, or measured with restrictions\n\n";
        for note in &results.notes {
            text += &format!("- {note}\n");
        }
    }
    text
}
