//! A program that asks for everything finds the same in a restored process as in one that was started.
//!
//! `cargo xtask test --restored` has more images, and more ways to start a process.

use cpython_cds_tests::restored::{
    Allowed, Findings, Image, Inventory, SETTINGS, Setting, programs,
};

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
