//! What a process has looked at that is to become an image, and what it was started with: the image's key.

use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use startup_image::command_line::CommandLine;
use startup_image::facts::Fact;
use startup_image::key::{self, Key, Machine, Stamp};
use startup_image::searched::{self, Searched};
use startup_image::streams::Terminal;

use super::failure::Failure;
use super::loaded;
use crate::cpython::module_suffixes;
use crate::cpython::object::{Object, Raised};
use crate::image::restored::variables::{self, Compared, Variable};
use crate::runtime::Runtime;

/// Whoever sees it has mixed two installations.
const OTHER_PACKAGE: &str = "the Python package cds does not belong to this interpreter: install the interpreter again, with its library";

/// What the imports looked at, and what the process was started with.
pub struct Observed {
    build_id: String,
    executable: Vec<u8>,
    options: Vec<Vec<u8>>,
    program: Option<Program>,
    environment: Vec<Compared>,
    whole_environment: Option<Vec<Variable>>,
    user_site: Option<UserSite>,
    paths: Vec<(Vec<u8>, Stamp)>,
    searched: Vec<SearchedDirectory>,
    terminals: Vec<Terminal>,
    counts_signals: bool,
    directory: Option<Vec<u8>>,
    facts: Vec<(Fact, Vec<u8>)>,
    has_safe_path: bool,
    top_level_modules: Vec<String>,
    pub reported: Vec<String>,
    modules: Vec<u8>,
    machine: Machine,
}

/// A directory, and what was searched for there.
struct SearchedDirectory {
    path: Vec<u8>,
    names: Vec<u8>,
    state: searched::State,
}

impl SearchedDirectory {
    fn now(path: &[u8], names: &[u8]) -> Result<Self, Failure> {
        let state = searched::State::now(path, names, module_suffixes()).ok_or_else(|| {
            Failure::Reason(format!("cannot list {}", String::from_utf8_lossy(path)))
        })?;
        Ok(Self {
            path: path.to_vec(),
            names: names.to_vec(),
            state,
        })
    }
}

/// The only program that an image is of.
struct Program {
    identity: Vec<u8>,
    argument_count: Option<u64>,
    arguments: Option<Vec<Vec<u8>>>,
    is_for_any_arguments: bool,
}

/// What counts of HOME, if only `site` knows of it.
struct UserSite {
    missing: Option<Vec<u8>>,
}

fn program_identity(line: &CommandLine) -> Result<Vec<u8>, Failure> {
    // It may have been removed; then no relative path leads to a program.
    let here = std::env::current_dir().unwrap_or_default();
    let identity = line.program.identity(here.as_os_str().as_bytes());
    identity.ok_or_else(|| Failure::from("a program that is read from standard input has no image"))
}

impl Observed {
    /// `observation` is a `cds.image.preparing.Observation`.
    ///
    /// # Errors
    /// It is something else, or the process has what no image can have.
    pub fn new(runtime: &Runtime, observation: &Object) -> Result<Self, Failure> {
        let own = std::fs::read("/proc/self/cmdline")
            .map_err(|_| Failure::from("cannot read /proc/self/cmdline"))?;
        let arguments: Vec<&[u8]> = own
            .strip_suffix(b"\0")
            .unwrap_or(&own)
            .split(|&byte| byte == 0)
            .collect();
        let line = CommandLine::parse(&arguments)
            .ok_or_else(|| Failure::from("these options do not go with an image"))?;
        let items = |name| observation.attribute(name)?.to_items();
        let is_true = |name| Ok::<_, Raised>(observation.attribute(name)?.is_true());
        let environment = observation.attribute(c"environment")?;
        let (environment, whole_environment) = variables::looked_at(&environment)?;
        let mut files = Vec::new();
        for item in items(c"paths")? {
            let fields = item.to_items()?;
            let [path, kind, mtime_ns, ctime_ns, inode, size] = fields.as_slice() else {
                return Err(OTHER_PACKAGE.into());
            };
            let ctime_ns = ctime_ns.to_i64()?;
            let stamp = match kind.to_str()? {
                "contents" => Stamp::Contents {
                    mtime_ns: mtime_ns.to_i64()?,
                    ctime_ns,
                    inode: inode.to_i64()?.cast_unsigned(),
                    size: size.to_i64()? as u64,
                },
                "directory" => Stamp::Directory,
                "status" => Stamp::Status {
                    ctime_ns,
                    inode: inode.to_i64()?.cast_unsigned(),
                },
                "link" => Stamp::Link { ctime_ns },
                _ => Stamp::Missing,
            };
            files.push((path.to_bytes()?.to_vec(), stamp));
        }
        let mut searched = Vec::new();
        let directories = observation.attribute(c"searched")?;
        for item in directories
            .attribute(c"items")?
            .call(Vec::new())?
            .to_items()?
        {
            let fields = item.to_items()?;
            let [path, names] = fields.as_slice() else {
                return Err(OTHER_PACKAGE.into());
            };
            searched.push(SearchedDirectory::now(path.to_bytes()?, names.to_bytes()?)?);
        }
        let texts = |name| -> Result<Vec<String>, Raised> {
            let texts = items(name)?.into_iter();
            texts.map(|text| Ok(text.to_str()?.to_owned())).collect()
        };
        let here = is_true(c"counts_directory")?.then(std::env::current_dir);
        let here = here
            .transpose()
            .map_err(|_| Failure::from("there is no working directory"))?;
        let here = here.map(|path| path.into_os_string().into_vec());
        let mut asked = Vec::new();
        for item in items(c"terminals")? {
            let fields = item.to_items()?;
            let [number, with_modes, with_size] = fields.as_slice() else {
                return Err(OTHER_PACKAGE.into());
            };
            let number = number.to_i64()? as u8;
            asked.push(Terminal::of(
                number,
                with_modes.is_true(),
                with_size.is_true(),
            ));
        }
        let own = arguments.get(line.rest..).unwrap_or_default();
        let program = match is_true(c"is_of_program")? {
            false => None,
            true => Some(Program {
                identity: program_identity(&line)?,
                argument_count: is_true(c"counts_arguments")?.then_some(own.len() as u64),
                arguments: is_true(c"compares_arguments")?
                    .then(|| own.iter().map(|argument| argument.to_vec()).collect()),
                is_for_any_arguments: is_true(c"is_for_any_arguments")?,
            }),
        };
        let facts_asked = texts(c"facts")?;
        let facts = Fact::ALL.into_iter();
        let facts = facts.filter(|fact| facts_asked.iter().any(|name| name == fact.name()));
        let user_site = if is_true(c"renews_user_site")? {
            let missing = observation.attribute(c"missing_user_site")?;
            let is_looked_for = !missing.is_none();
            Some(UserSite {
                missing: is_looked_for
                    .then(|| missing.to_bytes())
                    .transpose()?
                    .map(<[u8]>::to_vec),
            })
        } else {
            None
        };
        Ok(Self {
            build_id: runtime.executable.build_id().unwrap_or_default().to_owned(),
            executable: runtime.config.executable().unwrap_or_default().into_bytes(),
            options: line.options,
            program,
            environment,
            whole_environment,
            user_site,
            paths: files,
            searched,
            terminals: asked,
            counts_signals: is_true(c"counts_signals")?,
            directory: here,
            facts: facts.map(|fact| (fact, fact.now())).collect(),
            has_safe_path: runtime.config.has_safe_path(),
            top_level_modules: texts(c"top_level_modules")?,
            reported: texts(c"reported")?,
            modules: loaded::plain_modules()?,
            machine: machine(is_true(c"counts_processors")?)
                .map_err(|_| Failure::from("cannot read /proc/self/auxv"))?,
        })
    }

    pub fn key(&self) -> Key<'_> {
        let environment = self.environment.iter();
        let paths = self.paths.iter();
        let facts = self.facts.iter();
        Key {
            build_id: &self.build_id,
            executable: &self.executable,
            options: self.options.iter().map(Vec::as_slice).collect(),
            program: self.program.as_ref().map(|program| key::Program {
                identity: &program.identity,
                argument_count: program.argument_count,
                arguments: program.arguments.as_ref().map(|arguments| {
                    let arguments = arguments.iter();
                    arguments.map(Vec::as_slice).collect()
                }),
                is_for_any_arguments: program.is_for_any_arguments,
            }),
            machine: self.machine.clone(),
            environment: environment
                .map(|(name, value)| (name.as_slice(), value.as_deref()))
                .collect(),
            whole_environment: self.whole_environment.as_ref().map(|variables| {
                let variables = variables.iter();
                variables
                    .map(|(name, value)| (name.as_slice(), value.as_slice()))
                    .collect()
            }),
            user_site: self.user_site.as_ref().map(|site| key::UserSite {
                missing: site.missing.as_deref(),
            }),
            paths: paths
                .map(|(path, stamp)| (path.as_slice(), *stamp))
                .collect(),
            searched: self
                .searched
                .iter()
                .map(|directory| Searched {
                    path: &directory.path,
                    names: &directory.names,
                    state: directory.state.clone(),
                })
                .collect(),
            terminals: self.terminals.clone(),
            counts_signals: self.counts_signals,
            directory: self.directory.as_deref(),
            facts: facts.map(|(fact, then)| (*fact, then.as_slice())).collect(),
            has_safe_path: self.has_safe_path,
            top_level_modules: self.top_level_modules.iter().map(String::as_str).collect(),
            modules: &self.modules,
            suffixes: module_suffixes().collect(),
        }
    }
}

/// As the launcher finds it: the C library's getauxval() has values of its own.
fn machine(counts_processors: bool) -> io::Result<Machine> {
    let vector = std::fs::read("/proc/self/auxv")?;
    let words: Vec<u64> = vector
        .chunks_exact(size_of::<u64>())
        .filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)))
        .collect();
    let value = |kind| words.chunks_exact(2).find(|pair| pair[0] == kind);
    let machine = Machine::current(|kind| value(kind).map_or(0, |pair| pair[1]));
    Ok(if counts_processors {
        machine.with_processors()
    } else {
        machine
    })
}
