//! Real programs have the same outcome with an archive, from which all their modules come, and restored from a startup
//! image.

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

/// If imports have seeded the generators, the numbers of a program depend on this seed.
#[test]
fn numbers_of_real_programs_follow_from_a_seed() -> Result<()> {
    let environment = Environment::new(&python())?;
    let image = environment.archives().join("seeded.img");
    let list = environment.archives().join("seeded.lst");
    let modules = tempfile::tempdir()?;
    let code = "import module, random, numpy; print(random.random(), numpy.random.random())";
    for (module, is_seeded) in [
        (
            "import random; random.random(); import numpy; numpy.random.random(10_000)",
            false,
        ),
        (
            "import numpy, random; random.seed(7); random.random(); numpy.random.seed(8)",
            true,
        ),
        (
            "import numpy.random; numpy.random.seed(8); import random; random.seed('x'); random.gauss()",
            true,
        ),
    ] {
        std::fs::write(modules.path().join("module.py"), module)?;
        std::fs::write(&list, "module\n")?;
        let run = |arguments: &[&str]| -> Result<Outcome> {
            let mut command = environment.command(&[]);
            let command = command.env("PYTHONPATH", modules.path()).args(arguments);
            Ok(Outcome::of(command).success())
        };
        let (list, archive) = (list.display().to_string(), image.display().to_string());
        run(&["-m", "cds", "dump", "-q", "--image", &list, &archive])?;
        let option = format!("cds={archive}");
        let stats = run(&["-X", &option, "-X", "cds_stats", "-c", "pass"])?.stderr;
        assert!(stats.contains("seeded.img.startup; since then:"), "{stats}");
        let restored = run(&["-X", &option, "-c", code])?.stdout;
        let plain = run(&["-X", "cds=off", "-c", code])?.stdout;
        assert_eq!(restored == plain, is_seeded, "{module}: {restored} {plain}");
        let again = run(&["-X", &option, "-c", code])?.stdout;
        assert_eq!(restored == again, is_seeded, "{module}: {restored} {again}");
    }
    Ok(())
}

/// The global generators of numpy are renewed in restored processes, although numpy does not notice forks. Generators
/// that modules of the program have made are not renewed.
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
        // With a seed, the numbers are always the same.
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
