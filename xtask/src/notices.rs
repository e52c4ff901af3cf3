//! `runtime/NOTICES`: the licences of all crates that are linked into the interpreter.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use xshell::cmd;

use crate::workspace::Workspace;

/// The packages of this repository that are linked into the interpreter.
const LINKED: [&str; 2] = ["cpython-cds-runtime", "launcher"];

const HEADING: &str = "\
The Rust code of this repository is linked into the interpreter together with the
standard library of Rust (https://www.rust-lang.org/policies/licenses; MIT OR
Apache-2.0, Copyright (c) The Rust Project Contributors) and crates of the list
below, which has all that a build can link.
Each is used under the licence whose text follows its name.
`cargo xtask notices` writes this file.
";

/// The used parts of the output of `cargo metadata` (The Cargo Book, cargo-metadata(1)).
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: PathBuf,
    source: Option<String>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// `None` for a dependency that is linked, other values for dependencies of build scripts and tests.
    kind: Option<String>,
}

/// Writes the file.
pub fn write(workspace: &Workspace) -> Result<()> {
    let path = path(workspace);
    fs::write(&path, text(workspace)?).with_context(|| format!("cannot write {}", path.display()))
}

/// Checks that the file is up to date.
pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let written = fs::read_to_string(path(workspace)).unwrap_or_default();
    let is_true = written == text(workspace)?;
    let problem = "runtime/NOTICES is not up to date: run `cargo xtask notices`".to_owned();
    Ok(if is_true { vec![] } else { vec![problem] })
}

fn path(workspace: &Workspace) -> PathBuf {
    workspace.root().join("runtime/NOTICES")
}

fn text(workspace: &Workspace) -> Result<String> {
    let shell = workspace.shell()?;
    let listing = cmd!(
        shell,
        "cargo metadata --format-version 1 --locked --filter-platform x86_64-unknown-linux-gnu"
    )
    .quiet()
    .ignore_stderr()
    .read()?;
    let metadata: Metadata =
        serde_json::from_str(&listing).context("cannot read the output of cargo metadata")?;
    let mut text = HEADING.to_owned();
    for package in metadata.linked()? {
        let (name, version) = (&package.name, &package.version);
        let licence = package.license.as_deref().unwrap_or("see below");
        let rule = "-".repeat(78);
        let terms = terms(package)?;
        text += &format!("\n{rule}\n{name} {version} ({licence})\n{rule}\n\n{terms}\n");
    }
    Ok(text)
}

impl Metadata {
    /// The linked crates that are not part of this repository, by name and version.
    fn linked(&self) -> Result<Vec<&Package>> {
        let packages: BTreeMap<_, _> = self.packages.iter().map(|p| (&*p.id, p)).collect();
        let nodes: BTreeMap<_, _> = self.resolve.nodes.iter().map(|n| (&*n.id, n)).collect();
        let own = self
            .packages
            .iter()
            .filter(|package| LINKED.contains(&&*package.name));
        let mut open: Vec<&str> = own.map(|package| &*package.id).collect();
        ensure!(
            open.len() == LINKED.len(),
            "the workspace lacks one of {LINKED:?}"
        );
        let mut found = BTreeSet::new();
        while let Some(id) = open.pop() {
            let package = packages.get(id).context("cargo names an unknown package")?;
            if package.is_macro() || !found.insert(id) {
                continue;
            }
            let node = nodes.get(id).context("cargo names an unknown package")?;
            let linked = node.deps.iter().filter(|dependency| {
                let mut kinds = dependency.dep_kinds.iter();
                kinds.any(|kind| kind.kind.is_none())
            });
            open.extend(linked.map(|dependency| &*dependency.pkg));
        }
        let found = found.into_iter().map(|id| packages[id]);
        let mut linked: Vec<_> = found.filter(|package| package.source.is_some()).collect();
        linked.sort_by_key(|package| (&package.name, &package.version));
        Ok(linked)
    }
}

impl Package {
    /// Whether the package is a procedural macro: the compiler runs it, and it is not linked.
    fn is_macro(&self) -> bool {
        let mut kinds = self.targets.iter().flat_map(|target| &target.kind);
        kinds.any(|kind| kind == "proc-macro")
    }
}

/// The text of a package's licence: the MIT licence, if there is a choice.
fn terms(package: &Package) -> Result<String> {
    let directory = package.manifest_path.parent().unwrap_or(Path::new("/"));
    let mut names = Vec::new();
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let upper = name.to_uppercase();
        if ["LICENSE", "LICENCE", "COPYING", "UNLICENSE"]
            .iter()
            .any(|start| upper.starts_with(start))
        {
            names.push(name);
        }
    }
    names.sort_by_key(|name| (!name.to_uppercase().contains("MIT"), name.clone()));
    let name = names
        .first()
        .with_context(|| format!("{} has no file with its licence", package.name))?;
    let path = directory.join(name);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    Ok(lines.join("\n").trim_matches('\n').to_owned())
}
