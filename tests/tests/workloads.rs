//! Real programs do the same with an archive, from which all their modules come, and restored from a startup image.

use anyhow::Result;
use cpython_cds_tests::environment::Environment;
use cpython_cds_tests::python;
use cpython_cds_tests::workload::{ALL, BUSY};

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
