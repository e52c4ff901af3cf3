//! A program that asks for everything finds the same in a restored process as in a plain start.
//!
//! `cargo xtask test --restored` has more images and more ways to start a process.

use std::process::Command;

use cpython_cds_tests::restored::{
    Allowed, Findings, Image, Inventory, SETTINGS, Setting, programs,
};
use cpython_cds_tests::{Outcome, python};

#[test]
fn a_restored_process_learns_nothing_else_about_itself() {
    let allowed = Allowed::read(&programs().join("differences.txt")).unwrap();
    let inventory = Inventory::new().unwrap();
    let image = &Image::MEMORY;
    let mut findings = Findings::default();
    for setting in [&SETTINGS[0], &Setting::IGNORING] {
        inventory.take(image, setting).unwrap().unwrap();
        let plain = [(); 2].map(|()| inventory.plain(image, setting).unwrap());
        let archived = inventory.archived(image, setting).unwrap();
        let restored = [(); 2].map(|()| inventory.restored(image, setting).unwrap().unwrap());
        findings.compare(setting.name, &allowed, &plain, &archived, &restored);
    }
    assert!(findings.is_clean(), "{}", findings.describe());
}

#[test]
fn digits_within_a_digest_are_no_process_id() {
    let code = "\
import os
from inventory.lines import Lines
pid = os.getpid()
lines = Lines()
lines.add('digest', f'4053{pid}6 0c{pid}f')
lines.add('link', f'/proc/{pid}/fd')
print(lines.text().replace(str(pid), 'PID'), end='')
";
    let outcome = Outcome::of(
        Command::new(python())
            .env("PYTHONPATH", programs())
            .args(["-B", "-c", code]),
    );
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        (".digest: 4053PID6 0cPIDf\n.link: /proc/<pid>/fd\n", "")
    );
}
