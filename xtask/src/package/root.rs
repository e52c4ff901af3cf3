//! A tree of Debian 11. Programs that are compiled in it need no newer C library than glibc 2.31.
//!
//! The repository is at `/build` in this tree and cannot be written to, with a target directory of its own. So the paths
//! that a compiler writes into its results do not depend on where the repository is. The Rust toolchain and the crates
//! are those of this system.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use xshell::cmd;

use super::debian;
use crate::workspace::Workspace;

const SUITE: &str = "bullseye";

/// The tools of the build, without the libraries that a package carries.
const PACKAGES: &str =
    "binutils,ca-certificates,gcc,git,libc6-dev,libclang-dev,make,perl,pkg-config,tcl,xz-utils";

/// Runs a command in the tree. Its mounts are seen by this command only.
const ENTER: &str = r#"
root=$1 source=$2 target=$3 toolchain=$4 crates=$5 directory=$6
shift 6
mount --bind "$source" "$root/build"
mount -o remount,bind,ro "$root/build"
mount --bind "$target" "$root/build/target"
mount --bind "$toolchain" "$root/rust/toolchain"
mount --bind "$crates" "$root/rust/crates"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
exec chroot "$root" sh -c 'cd "$0" && exec "$@"' "$directory" "$@"
"#;

pub struct Root {
    dir: PathBuf,
    source: PathBuf,
    target: PathBuf,
    toolchain: PathBuf,
    crates: PathBuf,
}

impl Root {
    /// Makes the tree, if it does not exist.
    ///
    /// # Errors
    /// Those of [`debian::tree`]; or the crates cannot be fetched.
    pub fn prepare(workspace: &Workspace) -> Result<Self> {
        let package = workspace.root().join("target/package");
        let dir = package.join("debian-11");
        debian::tree(SUITE, PACKAGES, &dir)?;
        for mount_point in ["build", "rust/toolchain", "rust/crates"] {
            let path = dir.join(mount_point);
            fs::create_dir_all(&path)
                .with_context(|| format!("cannot create {}", path.display()))?;
        }
        let target = package.join("target");
        fs::create_dir_all(&target)
            .with_context(|| format!("cannot create {}", target.display()))?;
        let shell = workspace.shell()?;
        let mut cargo = workspace.cargo();
        let fetched = cargo.args(["fetch", "--quiet", "--locked"]).status();
        ensure!(
            fetched.is_ok_and(|status| status.success()),
            "the crates cannot be fetched"
        );
        let home = PathBuf::from(env::var_os("HOME").unwrap_or_default());
        Ok(Self {
            dir,
            source: workspace.root().to_owned(),
            target,
            toolchain: cmd!(shell, "rustc --print sysroot").quiet().read()?.into(),
            crates: env::var_os("CARGO_HOME").map_or(home.join(".cargo"), PathBuf::from),
        })
    }

    /// The target directory of the tree, which is `/build/target` in it.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// A command that runs in a directory of the tree.
    pub fn command(&self, directory: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-euc", ENTER, "sh"]);
        command.args([&self.dir, &self.source, &self.target, &self.toolchain]);
        command.arg(&self.crates).arg(directory).args(arguments);
        let prefix = "/build/target/libraries";
        command.env_clear().envs([
            ("CARGO_HOME", "/rust/crates"),
            ("CARGO_NET_OFFLINE", "true"),
            ("HOME", "/root"),
            ("LC_ALL", "C.UTF-8"),
            ("PATH", "/rust/toolchain/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            // git refuses to work in a directory of another user.
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "safe.directory"),
            ("GIT_CONFIG_VALUE_0", "*"),
            // The libraries of the package. These variables reach gcc and configure, but not sysconfig.
            ("PREFIX", prefix),
            (
                "CPATH",
                &format!("{prefix}/include:{prefix}/include/ncursesw"),
            ),
            ("LIBRARY_PATH", &format!("{prefix}/lib")),
            ("PKG_CONFIG", "pkg-config --static"),
            ("PKG_CONFIG_PATH", &format!("{prefix}/lib/pkgconfig")),
            // Libraries of the system with the same symbols must not replace those of the package.
            ("LDFLAGS_NODIST", "-Wl,--exclude-libs,ALL"),
        ]);
        command
    }

    /// Runs a command in the repository, with the output of this process.
    pub fn follow(&self, arguments: &[&str]) -> Result<()> {
        let status = self
            .command("/build", arguments)
            .status()
            .context("cannot run unshare")?;
        if !status.success() {
            bail!("{} failed in Debian 11 ({status})", arguments.join(" "));
        }
        Ok(())
    }
}
