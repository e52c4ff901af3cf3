//! Real programs do the same with an archive, from which all their modules come.

use cpython_cds_tests::workload::{ALL, Environment};

#[test]
fn real_programs_do_the_same_with_an_archive() {
    let environment = Environment::patched();
    for workload in &ALL {
        let findings = workload.check(&environment);
        let name = workload.name;
        assert_eq!(findings.differences, [""; 0], "{name}");
        assert_eq!(findings.from_elsewhere, [""; 0], "{name}");
        assert_eq!(findings.never_written_kb, 0, "{name}");
        assert!(findings.is_good(), "{name}");
    }
}
