//! The checks of the Python code, by ruff and mypy.

use anyhow::Result;
use xshell::cmd;

use crate::interpreter;
use crate::stamp::Stamp;
use crate::workspace::{Build, Workspace};

/// Pinned, because another version may report other errors.
const TOOLS: [&str; 2] = ["ruff==0.17.6", "mypy==2.4.1"];
const CHECKED: &str = "runtime/python";

/// Runs both, in a separate environment, with the settings of `pyproject.toml`.
pub fn run(workspace: &Workspace, build: &Build) -> Result<()> {
    let shell = workspace.shell()?;
    let directory = workspace.root().join("target/lint");
    let stamp = Stamp::new(directory.join("tools"));
    let python = interpreter::program(&build.installation())?;
    let wanted = format!("{} {}", python.display(), TOOLS.join(" "));
    if !stamp.is(&wanted) {
        shell.remove_path(&directory)?;
        cmd!(shell, "{python} -m venv {directory}").run()?;
        let pip = directory.join("bin/pip");
        cmd!(
            shell,
            "{pip} install --quiet --disable-pip-version-check {TOOLS...}"
        )
        .run()?;
        stamp.set(&wanted)?;
    }
    let (ruff, mypy) = (directory.join("bin/ruff"), directory.join("bin/mypy"));
    cmd!(shell, "{ruff} check {CHECKED}").run()?;
    cmd!(shell, "{ruff} format --check --quiet {CHECKED}").run()?;
    cmd!(shell, "{mypy}").run()?;
    Ok(())
}
