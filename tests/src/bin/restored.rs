//! The program behind `cargo xtask test --restored`: runs a program that asks for everything, plainly and restored.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use cpython_cds_tests::exit_code;
use cpython_cds_tests::progress::Progress;
use cpython_cds_tests::restored::{
    Allowed, Findings, Image, Inventory, SETTINGS, Setting, programs,
};

/// Compare what a process can learn about itself in a plain start and when it is restored
#[derive(Parser)]
struct Args {
    /// Plain runs of each kind
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..))]
    plain: u32,
    /// Restored runs of each kind
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..))]
    runs: u32,
    /// Only the first setting
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    exit_code(run(&Args::parse()))
}

/// Whether there are only allowed differences.
fn run(args: &Args) -> Result<bool> {
    let allowed = Allowed::read(&programs().join("differences.txt"))?;
    let inventory = Inventory::new()?;
    let mut findings = Findings::default();
    let settings: &[Setting] = if args.quick {
        &SETTINGS[..1]
    } else {
        &SETTINGS
    };
    for image in &Image::ALL {
        let progress = Progress::start(image.name);
        for setting in settings {
            progress.say(&format!("{}: take the image", setting.name));
            if let Err(reason) = inventory.take(image, setting)? {
                println!("no image of {}: {reason}", image.name);
                break;
            }
            let title = format!("{}, {}", image.name, setting.name);
            let say = |way: &str, number| progress.say(&format!("{title}, {way} {number}"));
            let plain = (0..args.plain).map(|number| {
                say("plain", number + 1);
                inventory.plain(image, setting)
            });
            let plain = plain.collect::<Result<Vec<_>>>()?;
            let archived = inventory.archived(image, setting)?;
            let restored = (0..args.runs).map(|number| {
                say("restored", number + 1);
                inventory.restored(image, setting)
            });
            match restored.collect::<Result<Result<Vec<_>, _>>>()? {
                Ok(restored) => findings.compare(&title, &allowed, &plain, &archived, &restored),
                Err(reason) => findings.note_not_restored(&title, reason),
            }
        }
        progress.done();
    }
    print!("{}", findings.describe());
    let unused = allowed.unused();
    // Fewer runs show fewer differences.
    if args.quick || unused.is_empty() {
        return Ok(findings.is_clean());
    }
    println!("\nthese lines of tests/restored/differences.txt match no difference; remove them:");
    unused.iter().for_each(|pattern| println!("    {pattern}"));
    Ok(false)
}
