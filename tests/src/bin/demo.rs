//! What `cargo xtask demo` runs: the workloads, checked and timed.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use cpython_cds_tests::workload::{ALL, Environment, Findings, Workload};

/// Run real programs with and without an archive
#[derive(Parser)]
struct Args {
    /// Only these workloads [default: all]
    #[arg(long, value_name = "NAME")]
    workload: Vec<String>,
    /// Pairs of runs to time
    #[arg(long, value_name = "N", default_value_t = 15)]
    runs: usize,
    /// Compare with this interpreter, stock CPython of the same flags, instead of the same one with its archives off
    #[arg(long, value_name = "PYTHON")]
    against: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let unknown = args
        .workload
        .iter()
        .find(|name| ALL.iter().all(|workload| workload.name != **name));
    if let Some(name) = unknown {
        let names: Vec<&str> = ALL.iter().map(|workload| workload.name).collect();
        eprintln!(
            "error: there is no workload {name:?}; there are {}",
            names.join(", ")
        );
        return ExitCode::from(2);
    }
    let patched = Environment::patched();
    let control = args
        .against
        .as_ref()
        .map(|python| Environment::new(python, "stock"));
    pin();
    println!(
        "Each program is traced, its modules are dumped to an archive, and it is run from there."
    );
    println!(
        "same:     stdout, stderr and exit status are those of a run without an archive, relocated or not"
    );
    println!(
        "archived: modules whose code came from the archive, of all that were loaded from source or frozen"
    );
    println!(
        "dirty:    kB that the program wrote to sections of the archive which are never written"
    );
    match &args.against {
        Some(python) => println!(
            "ms:       medians of {} interleaved pairs: {}, then ./python with the archive",
            args.runs,
            python.display()
        ),
        None => println!(
            "ms:       medians of {} interleaved pairs: ./python -X cds=off, then with the archive",
            args.runs
        ),
    }
    println!(
        "\n{:<11} {:>5} {:>12} {:>6} {:>9} {:>9} {:>7}  range",
        "", "same", "archived", "dirty", "ms off", "ms on", "ratio"
    );
    let mut good = true;
    let chosen = ALL.iter().filter(|workload| {
        args.workload.is_empty() || args.workload.iter().any(|n| n == workload.name)
    });
    for workload in chosen {
        let findings = workload.check(&patched);
        let timed = time(workload, &patched, control.as_ref(), args.runs);
        report(workload, &findings, &timed);
        good &= findings.is_good();
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn report(workload: &Workload, findings: &Findings, timed: &Timed) {
    let loaded = findings.from_archive + findings.from_elsewhere.len() as u64;
    println!(
        "{:<11} {:>5} {:>12} {:>6} {:>9.1} {:>9.1} {:>6.2}x  {:.2}-{:.2}",
        workload.name,
        if findings.differences.is_empty() {
            "yes"
        } else {
            "NO"
        },
        format!("{} of {loaded}", findings.from_archive),
        findings.never_written_kb,
        timed.off.as_secs_f64() * 1e3,
        timed.on.as_secs_f64() * 1e3,
        timed.ratio,
        timed.lowest,
        timed.highest
    );
    for line in findings.differences.iter().chain(&findings.from_elsewhere) {
        println!("  {line}");
    }
}

/// Medians of interleaved pairs.
struct Timed {
    off: Duration,
    on: Duration,
    /// Off by on: how many times as fast.
    ratio: f64,
    lowest: f64,
    highest: f64,
}

fn time(
    workload: &Workload,
    patched: &Environment,
    control: Option<&Environment>,
    runs: usize,
) -> Timed {
    let off = || match control {
        Some(control) => workload.command(control, &[]),
        None => workload.command(patched, &["-X", "cds=off"]),
    };
    let on = || workload.command_with_archive(patched, &[]);
    // Warm up: .pyc files, page cache.
    for _ in 0..2 {
        elapsed(off());
        elapsed(on());
    }
    let pairs: Vec<(Duration, Duration)> = (0..runs.max(1))
        .map(|_| (elapsed(off()), elapsed(on())))
        .collect();
    let mut ratios: Vec<f64> = pairs
        .iter()
        .map(|(off, on)| off.as_secs_f64() / on.as_secs_f64())
        .collect();
    ratios.sort_by(f64::total_cmp);
    Timed {
        off: median(pairs.iter().map(|(off, _)| *off).collect()),
        on: median(pairs.iter().map(|(_, on)| *on).collect()),
        ratio: ratios[ratios.len() / 2],
        lowest: ratios[0],
        highest: ratios[ratios.len() - 1],
    }
}

fn elapsed(mut command: Command) -> Duration {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let start = Instant::now();
    command.status().expect("the command can be run");
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Keeps this process and its children on one processor, where that is allowed: moving between two costs time.
fn pin() {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let allowed = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    if let Some(last) = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu)) {
        let mut one = CpuSet::new();
        one.set(last);
        let _ = sched_setaffinity(None, &one);
    }
}
