//! The libraries that a package carries (`packaging/libraries.toml`), built in the tree of Debian 11.

use std::fs;
use std::thread;

use anyhow::{Context, Result};
use serde::Deserialize;
use xshell::cmd;

use super::root::Root;
use crate::digest::Inputs;
use crate::fetch;
use crate::pins::Pin;
use crate::progress::Phase;
use crate::stamp::{self, Stamp};
use crate::workspace::Workspace;

/// Static libraries become parts of shared ones: extension modules.
const FLAGS: &str = "-O2 -fPIC";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    library: Vec<Library>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Library {
    license: String,
    build: String,
    source: Pin,
}

/// Builds the libraries that have changed, and those after them: a library may use the ones before it.
pub fn build(workspace: &Workspace, root: &Root) -> Result<()> {
    let mut inputs = String::new();
    for library in table(workspace)? {
        let mut own = Inputs::new();
        own.add(&inputs)
            .add(FLAGS)
            .add(&library.build)
            .add(&library.source.sha256);
        inputs = own.finish();
        let name = &library.source.name;
        let stamp = Stamp::new(root.target().join(format!("{name}.stamp")));
        if !stamp.is(&inputs) {
            stamp.clear()?;
            library
                .build(workspace, root)
                .with_context(|| format!("cannot build {name} {}", library.source.version))?;
            stamp.set(&inputs)?;
        }
    }
    Ok(())
}

pub fn pins(workspace: &Workspace) -> Result<Vec<Pin>> {
    let libraries = table(workspace)?.into_iter();
    Ok(libraries.map(|library| library.source).collect())
}

fn table(workspace: &Workspace) -> Result<Vec<Library>> {
    let path = workspace.root().join("packaging/libraries.toml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let what = || format!("{} is not a table of libraries", path.display());
    let table: Table = toml::from_str(&text).with_context(what)?;
    for library in &table.library {
        library.source.check()?;
    }
    Ok(table.library)
}

impl Library {
    fn build(&self, workspace: &Workspace, root: &Root) -> Result<()> {
        let name = &self.source.name;
        let tarball = fetch::tarball(&workspace.downloads(), &self.source, None)?;
        let source = root.target().join("source").join(name);
        stamp::remove_dir(&source)?;
        fs::create_dir_all(&source)
            .with_context(|| format!("cannot create {}", source.display()))?;
        let shell = workspace.shell()?;
        cmd!(
            shell,
            "tar --extract --file={tarball} --directory={source} --strip-components=1"
        )
        .quiet()
        .run()?;

        let phase = Phase::start(format!("{name} {}", self.source.version));
        let script = format!("set -eu\n{}", self.build);
        let mut command = root.command(
            &format!("/build/target/source/{name}"),
            &["sh", "-c", &script],
        );
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        command.env("JOBS", jobs.to_string());
        command.env("CFLAGS", FLAGS);
        phase.run(&mut command, &root.target().join(format!("{name}.log")))?;

        let licenses = root.target().join("libraries/licenses");
        fs::create_dir_all(&licenses)
            .with_context(|| format!("cannot create {}", licenses.display()))?;
        let license = source.join(&self.license);
        fs::copy(&license, licenses.join(format!("{name}.txt")))
            .with_context(|| format!("cannot copy {}", license.display()))?;
        phase.done();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_this_repository_is_valid() {
        let libraries = table(&Workspace::new()).unwrap();
        let names: Vec<_> = libraries.iter().map(|l| l.source.name.as_str()).collect();
        assert!(names.contains(&"openssl"), "{names:?}");
    }
}
