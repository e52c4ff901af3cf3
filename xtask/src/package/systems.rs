//! Runs a package on the oldest and the newest system that it is for, and measures it there.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use xshell::cmd;

use super::debian;
use crate::stamp;
use crate::workspace::Workspace;

/// Debian 11, 12 and 13.
const SUITES: [&str; 3] = ["bullseye", "bookworm", NEWEST];
const NEWEST: &str = "trixie";

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

/// Measures the package against Debian's own Python.
const COMPARE: &str = r#"
cd /tmp
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends python3.13 >/dev/null
/usr/bin/python3.13 --version
/opt/python/bin/python3 --version
/usr/bin/python3.13 compare.py 31 pass stdlib30.py
"#;

/// Unpacks the package in a tree of each system and uses it there.
///
/// # Errors
/// A tree cannot be made, or the package does not work in it.
pub fn check(workspace: &Workspace, tarball: &Path) -> Result<()> {
    for suite in SUITES {
        let tree = unpack(workspace, suite, tarball)?;
        eprintln!("== {suite}");
        enter(&tree, CHECK)
            .with_context(|| format!("the package does not work on Debian {suite}"))?;
    }
    Ok(())
}

/// Measures starts of the package against those of the newest Debian's own Python.
///
/// # Errors
/// A tree cannot be made, or Debian's package cannot be installed.
pub fn compare(workspace: &Workspace, tarball: &Path) -> Result<()> {
    let tree = unpack(workspace, NEWEST, tarball)?;
    let root = workspace.root();
    for file in ["packaging/compare.py", "tests/workloads/stdlib30.py"] {
        let (from, name) = (root.join(file), Path::new(file).file_name());
        let to = tree.join("tmp").join(name.unwrap_or_default());
        fs::copy(&from, &to).with_context(|| format!("cannot write {}", to.display()))?;
    }
    enter(&tree, COMPARE).context("the package cannot be compared")
}

/// A tree of a system with the package in `/opt`.
fn unpack(workspace: &Workspace, suite: &str, tarball: &Path) -> Result<PathBuf> {
    let dir = workspace.root().join("target/package").join(suite);
    debian::tree(suite, PACKAGES, &dir)?;
    let opt = dir.join("opt");
    stamp::remove_dir(&opt)?;
    fs::create_dir_all(&opt).with_context(|| format!("cannot create {}", opt.display()))?;
    let shell = workspace.shell()?;
    cmd!(shell, "tar --extract --file={tarball} --directory={opt}")
        .quiet()
        .run()?;
    Ok(dir)
}

/// Runs a script in a tree.
fn enter(tree: &Path, script: &str) -> Result<()> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--", "sh", "-euc", ENTER, "sh"]);
    command.arg(tree).arg(script).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    // pip may have to be told where packages are.
    let of_pip = |name: &str| name.starts_with("PIP_") || name.to_lowercase().ends_with("_proxy");
    command.envs(env::vars().filter(|(name, _)| of_pip(name)));
    let status = command.status().context("cannot run unshare")?;
    ensure!(status.success(), "the script failed ({status})");
    Ok(())
}
