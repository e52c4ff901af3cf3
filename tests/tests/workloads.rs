//! Real programs do the same with an archive, from which all their modules come, and restored from a startup image.

use std::collections::BTreeSet;

use anyhow::Result;
use cpython_cds_tests::environment::Environment;
use cpython_cds_tests::workload::{ALL, BUSY};
use cpython_cds_tests::{Outcome, python};

#[test]
fn real_programs_do_the_same_with_an_archive() -> Result<()> {
    let environment = Environment::new(&python())?;
    let mut complaints = Vec::new();
    for workload in ALL.iter().chain(&BUSY) {
        let findings = workload.check(&environment, None, |_| ())?;
        complaints.extend(
            findings
                .complaints()
                .map(|complaint| format!("{}: {complaint}", workload.name)),
        );
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}

/// numpy's generators do not know of restored processes, nor of forked ones. One that a module of the program has made is
/// the program's own affair.
#[test]
fn numbers_of_real_programs_are_fresh_when_restored() -> Result<()> {
    let environment = Environment::new(&python())?;
    let image = environment.archives().join("fresh.img");
    let list = environment.archives().join("fresh.lst");
    std::fs::write(&list, "numpy\nnumpy.random\n")?;
    let mut dump = environment.command(&[]);
    dump.args(["-m", "cds", "dump", "-q", "--image"])
        .arg(&list)
        .arg(&image);
    Outcome::of(&mut dump).success();
    let options = [format!("-Xcds={}", image.display())];
    let code = "import sys; print('numpy' in sys.modules); import numpy
print(numpy.random.random(), numpy.random.default_rng().random(), numpy.random.SeedSequence().entropy, numpy.random.get_state()[1][0], sep='\\n')
numpy.random.seed(7)
print(numpy.random.randint(10**9))";
    let run = |options: &[String]| -> Vec<String> {
        let outcome = Outcome::of(environment.command(options).args(["-c", code])).success();
        outcome.stdout.lines().map(str::to_owned).collect()
    };
    let plain = run(&["-Xcds=off".to_owned()]);
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        let lines = run(&options);
        // With a seed they are what they always are.
        assert_eq!(
            (&*plain[0], &*lines[0], &lines[5]),
            ("False", "True", &plain[5])
        );
        for line in &lines[1..5] {
            assert!(seen.insert(line.clone()), "{line} comes twice");
        }
        let mut stats = environment.command(&options);
        stats.args(["-X", "cds_stats", "-c", "pass"]);
        let stats = Outcome::of(&mut stats).stderr;
        assert!(stats.contains("fresh.img.startup; since then:"), "{stats}");
    }
    Ok(())
}
