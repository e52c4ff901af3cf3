//! The contenders: the interpreters, and the ways to run a program.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use cpython_cds_tests::ancestor::Ancestor;
use cpython_cds_tests::environment::{Environment, succeed};
use cpython_cds_tests::measure::{self, Run};
use cpython_cds_tests::workload::Workload;
use tempfile::TempDir;

use crate::fork_floor::ForkServer;
use crate::results::contender::{
    ANCESTOR, ANCESTOR_STOCK, ARCHIVE, FORK, IMAGE, NO_CLASS_SLOTS, NO_PYC, STANDARD, STOCK,
    STOCK_AGAIN,
};

/// The interpreters, with the packages of the workloads.
pub struct Interpreters {
    pub patched: Environment,
    pub stock: Environment,
    pub without_class_slots: Option<Environment>,
    /// None if there is no Python for it, or if its wheel cannot be fetched.
    pub ancestor: Option<Ancestor>,
    /// Lists and archives of the ancestor, and the pycache prefix of the contender without `.pyc` files.
    scratch: TempDir,
}

/// Programs that import only the standard library, which the ancestor's Python also has.
const STANDARD_LIBRARY_ONLY: [&str; 2] = ["pass", "stdlib30"];

/// One way of running a program.
pub struct Contender {
    pub name: &'static str,
    way: Way,
}

enum Way {
    Command(Command),
    Fork(ForkServer),
}

impl Contender {
    fn command(name: &'static str, command: Command) -> Self {
        Self {
            name,
            way: Way::Command(command),
        }
    }

    /// Runs the program once.
    pub fn run(&mut self) -> Result<Run> {
        match &mut self.way {
            Way::Command(command) => measure::run(command),
            Way::Fork(server) => server.run(),
        }
        .with_context(|| format!("as {}", self.name))
    }

    /// The command, or None if the program runs in a fork.
    pub fn as_command(&self) -> Option<&Command> {
        match &self.way {
            Way::Command(command) => Some(command),
            Way::Fork(_) => None,
        }
    }
}

impl Interpreters {
    pub fn new(
        patched: Environment,
        stock: Environment,
        without_class_slots: Option<Environment>,
        ancestor: Option<Ancestor>,
    ) -> Result<Self> {
        let scratch = tempfile::tempdir().context("cannot create a temporary directory")?;
        std::fs::create_dir(scratch.path().join("no-pyc"))
            .context("cannot create a temporary directory")?;
        Ok(Self {
            patched,
            stock,
            without_class_slots,
            ancestor,
            scratch,
        })
    }

    /// Stock twice.
    pub fn against_itself(&self, workload: &Workload) -> Vec<Contender> {
        [STOCK, STOCK_AGAIN]
            .map(|name| Contender::command(name, workload.command(&self.stock)))
            .into()
    }

    /// Stock and the archive. The program `pass` uses only the standard archive.
    pub fn main(&self, workload: &Workload) -> Vec<Contender> {
        vec![
            Contender::command(STOCK, workload.command(&self.stock)),
            Contender::command(ARCHIVE, archived(workload, &self.patched)),
        ]
    }

    /// The other contenders.
    pub fn peers(&self, workload: &Workload) -> Result<Vec<Contender>> {
        let mut no_pyc = workload.command(&self.stock);
        no_pyc
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONPYCACHEPREFIX", self.scratch.path().join("no-pyc"));
        let list = workload.trace_list(&self.patched);
        let server = ForkServer::start(&self.stock, &list, workload)?;
        let mut peers = vec![
            Contender::command(IMAGE, workload.command_restored(&self.patched)?),
            Contender::command(STANDARD, workload.command(&self.patched)),
            Contender::command(NO_PYC, no_pyc),
            Contender {
                name: FORK,
                way: Way::Fork(server),
            },
        ];
        if let Some(environment) = &self.without_class_slots {
            workload.check(environment, None, |_| ())?;
            let command = archived(workload, environment);
            peers.push(Contender::command(NO_CLASS_SLOTS, command));
        }
        if let Some(ancestor) = &self.ancestor
            && STANDARD_LIBRARY_ONLY.contains(&workload.name)
        {
            let arguments = workload.arguments();
            let archive = ancestor_archive(ancestor, self.scratch.path(), workload)?;
            let mut plain = ancestor.plain_command();
            plain.args(&arguments);
            let mut shared = ancestor.command();
            shared
                .env("PYCDSMODE", "SHARE")
                .env("PYCDSARCHIVE", archive)
                .args(&arguments);
            peers.push(Contender::command(ANCESTOR_STOCK, plain));
            peers.push(Contender::command(ANCESTOR, shared));
        }
        Ok(peers)
    }
}

fn archived(workload: &Workload, environment: &Environment) -> Command {
    if workload.name == "pass" {
        workload.command(environment)
    } else {
        workload.command_on(environment)
    }
}

/// Traces a program with code-data-share, and dumps the code that it loads.
fn ancestor_archive(ancestor: &Ancestor, scratch: &Path, workload: &Workload) -> Result<PathBuf> {
    let [list, archive] =
        ["lst", "img"].map(|suffix| scratch.join(format!("{}.{suffix}", workload.name)));
    // If the trace finds no module, it writes no list: the modules of the start-up are loaded before the trace begins.
    std::fs::write(&list, "").with_context(|| format!("cannot write {}", list.display()))?;
    let mut trace = ancestor.command();
    trace.env("PYCDSMODE", "TRACE").env("PYCDSLIST", &list);
    succeed(trace.args(workload.arguments()))?;
    let mut dump = ancestor.command();
    dump.args(["-m", "cds.dump"]).arg(&list).arg(&archive);
    succeed(&mut dump)?;
    Ok(archive)
}
