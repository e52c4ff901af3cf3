//! Trees of Debian releases, made by debootstrap(8).

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::digest::Inputs;
use crate::fetch::debian;
use crate::progress::Phase;
use crate::stamp::{self, Stamp};

/// Makes a tree with the least packages and these, from the archive that this system uses, if there is no such tree yet.
/// The log and the stamp lie beside it.
///
/// # Errors
/// The user is not root, the system does not use the archive of Debian, or the archive lacks the suite.
pub fn tree(suite: &str, packages: &str, dir: &Path) -> Result<()> {
    let stamp = Stamp::new(dir.with_extension("stamp"));
    let mut inputs = Inputs::new();
    inputs.add(suite).add(packages);
    let inputs = inputs.finish();
    if stamp.is(&inputs) {
        return Ok(());
    }
    stamp.clear()?;
    make(suite, packages, dir)?;
    stamp.set(&inputs)
}

fn make(suite: &str, packages: &str, dir: &Path) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "only root can make a tree of Debian (chroot(2), mount(2)). Run the command as root, for example in a \
         container, or use --on-this-system."
    );
    let mut failures = Vec::new();
    for archive in debian::archives()? {
        for mirror in archive.mirrors() {
            stamp::remove_dir(dir)?;
            let phase = Phase::start(format!("a tree of Debian {suite}"));
            let mut command = Command::new("debootstrap");
            command.args(["--variant=minbase", &format!("--include={packages}")]);
            if let Some(keyring) = archive.keyring() {
                command.arg(format!("--keyring={keyring}"));
            }
            command.arg(suite).arg(dir).arg(mirror);
            let made = phase.run(&mut command, &dir.with_extension("log"));
            match phase.end(made) {
                Ok(()) => return Ok(()),
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
    }
    bail!(
        "a tree of Debian {suite} cannot be made:\n{}",
        failures.join("\n")
    )
}
