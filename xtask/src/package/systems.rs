//! Runs a package on the oldest and the newest system that it is for.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use xshell::cmd;

use super::debian;
use crate::digest::Inputs;
use crate::stamp::{self, Stamp};
use crate::workspace::Workspace;

/// Debian 11, 12 and 13.
const SUITES: [&str; 3] = ["bullseye", "bookworm", "trixie"];

/// pip needs certificates.
const PACKAGES: &str = "ca-certificates";

/// Runs in the tree, with the network and the certificates of this system.
const ENTER: &str = r#"
root=$1 script=$2
for path in /etc/resolv.conf /etc/hosts; do
    touch "$root$path"
    mount --bind "$path" "$root$path"
done
mount --bind /etc/ssl "$root/etc/ssl"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
exec chroot "$root" sh -euc "$script"
"#;

/// What each system must do.
const CHECK: &str = r#"
cd /tmp
python=/opt/python/bin/python3
ldd --version | head -n 1
$python -I -c 'import bz2, ctypes, curses, lzma, readline, sqlite3, ssl, uuid, zlib
print(ssl.OPENSSL_VERSION, sqlite3.sqlite_version, readline.backend)'
$python -I -X cds_stats=/tmp/stats.json -c 'import email.message, json, ssl'
$python -I -c 'import json
assert not json.load(open("/tmp/stats.json"))["modules"]["elsewhere"], open("/tmp/stats.json").read()'
rm -rf venv app.cds* app.py
$python -m venv venv
venv/bin/pip install --quiet --no-cache-dir idna
venv/bin/python -c 'import idna; print("idna", idna.__version__)'
echo 'import json, sys; print(json.dumps(1))' >app.py
for run in 1 2 3 4 5 6 7 8; do
    $python -X cds_auto=app.cds,image app.py >app.out
    sleep 1
done
$python -X cds_auto=app.cds,image -X cds_stats app.py 2>&1 >app.out | head -n 1
"#;

/// Unpacks the package in a tree of each system and uses it there.
///
/// # Errors
/// A tree cannot be made, or the package does not work in it.
pub fn check(workspace: &Workspace, tarball: &Path) -> Result<()> {
    let shell = workspace.shell()?;
    for suite in SUITES {
        let dir = workspace.root().join("target/package").join(suite);
        let stamp = Stamp::new(dir.with_extension("stamp"));
        let mut inputs = Inputs::new();
        inputs.add(suite).add(PACKAGES);
        let inputs = inputs.finish();
        if !stamp.is(&inputs) {
            stamp.clear()?;
            debian::tree(suite, PACKAGES, &dir, &dir.with_extension("log"))?;
            stamp.set(&inputs)?;
        }
        let opt = dir.join("opt");
        stamp::remove_dir(&opt)?;
        fs::create_dir_all(&opt).with_context(|| format!("cannot create {}", opt.display()))?;
        cmd!(shell, "tar --extract --file={tarball} --directory={opt}")
            .quiet()
            .run()?;

        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-euc", ENTER, "sh"]);
        command.arg(&dir).arg(CHECK).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        // pip may have to be told where packages are.
        let of_pip =
            |name: &str| name.starts_with("PIP_") || name.to_lowercase().ends_with("_proxy");
        command.envs(env::vars().filter(|(name, _)| of_pip(name)));
        eprintln!("== {suite}");
        let status = command.status().context("cannot run unshare")?;
        if !status.success() {
            bail!("the package does not work on Debian {suite} ({status})");
        }
    }
    Ok(())
}
