//! The data for the key of an image: what the process has looked at, and how it was started.

use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use startup_image::bytes::Bytes;
use startup_image::command_line::CommandLine;
use startup_image::facts::Fact;
use startup_image::key::{Key, Machine, Program, Stamp, UserSite};
use startup_image::searched::{Searched, State};
use startup_image::streams::Terminal;

use super::failure::Failure;
use super::loaded;
use crate::cpython::module_suffixes;
use crate::cpython::object::{Object, Raised};
use crate::image::restored::variables;
use crate::runtime::Runtime;

/// Reported if two installations were mixed.
const OTHER_PACKAGE: &str = "the Python package cds does not belong to this interpreter: install the interpreter again, with its library";

type Result<T> = std::result::Result<T, Failure>;

/// What the process has looked at, and how it was started.
pub struct Observed {
    pub key: Key<'static>,
    /// What the key cannot compare.
    pub reported: Vec<String>,
}

/// A `cds.image.preparing.Observation`.
struct Observation<'a>(&'a Object);

impl Observed {
    /// `observation` is a `cds.image.preparing.Observation`.
    ///
    /// # Errors
    /// `observation` is another object, or the process has something that an image cannot have.
    pub fn new(runtime: &Runtime, observation: &Object) -> Result<Self> {
        let observation = Observation(observation);
        let own = std::fs::read("/proc/self/cmdline")
            .map_err(|_| Failure::from("cannot read /proc/self/cmdline"))?;
        let arguments = own.strip_suffix(b"\0").unwrap_or(&own);
        let arguments: Vec<&[u8]> = arguments.split(|&byte| byte == 0).collect();
        let line = CommandLine::parse(&arguments)
            .ok_or_else(|| Failure::from("images do not support these options of Python"))?;
        let program = observation.program(&line, &arguments)?;
        let is_base = observation.is(c"is_base")?;
        if is_base
            && (observation.is(c"counts_arguments")? || observation.is(c"compares_arguments")?)
        {
            return Err("the start of the interpreter looks at the arguments (sitecustomize or a .pth file), so no image can be for any program".into());
        }
        let (environment, whole) = variables::looked_at(&observation.0.attribute(c"environment")?)?;
        let environment = environment.into_iter();
        let environment = environment.map(|(name, value)| (name.into(), value.map(Bytes::from)));
        let whole = whole.map(|variables| {
            let variables = variables.into_iter();
            let variables = variables.map(|(name, value)| (name.into(), value.into()));
            variables.collect()
        });
        let executable = runtime.config.executable().unwrap_or_default().into_bytes();
        let modules = observation.texts(c"top_level_modules")?.into_iter();
        let key = Key {
            build_id: runtime
                .executable
                .build_id()
                .unwrap_or_default()
                .to_owned()
                .into(),
            executable: executable.into(),
            options: line.options.into_iter().map(Bytes::from).collect(),
            program,
            is_base,
            machine: observation.machine()?,
            environment: environment.collect(),
            whole_environment: whole,
            user_site: observation.user_site()?,
            paths: observation.paths()?,
            searched: observation.searched()?,
            terminals: observation.terminals()?,
            counts_signals: observation.is(c"counts_signals")?,
            directory: observation.directory()?,
            facts: observation.facts()?,
            has_safe_path: runtime.config.has_safe_path(),
            top_level_modules: modules.map(Bytes::from).collect(),
            modules: loaded::plain_modules()?.into(),
            suffixes: module_suffixes().map(Bytes::from).collect(),
        };
        let reported = observation.texts(c"reported")?;
        Ok(Self { key, reported })
    }
}

impl Observation<'_> {
    fn is(&self, name: &std::ffi::CStr) -> Result<bool> {
        Ok(self.0.attribute(name)?.is_true())
    }

    fn items(&self, name: &std::ffi::CStr) -> Result<Vec<Object>> {
        Ok(self.0.attribute(name)?.to_items()?)
    }

    fn texts(&self, name: &std::ffi::CStr) -> Result<Vec<String>> {
        let texts = self.items(name)?.into_iter();
        let texts = texts.map(|text| Ok::<_, Raised>(text.to_str()?.to_owned()));
        Ok(texts.collect::<std::result::Result<_, _>>()?)
    }

    /// The program of an image of a program.
    fn program(&self, line: &CommandLine, arguments: &[&[u8]]) -> Result<Option<Program<'static>>> {
        if !self.is(c"is_of_program")? {
            return Ok(None);
        }
        let own = arguments.get(line.rest..).unwrap_or_default();
        let owned = || own.iter().map(|argument| argument.to_vec().into());
        Ok(Some(Program {
            identity: program_identity(line)?.into(),
            argument_count: self.is(c"counts_arguments")?.then_some(own.len() as u64),
            arguments: self.is(c"compares_arguments")?.then(|| owned().collect()),
            is_for_any_arguments: self.is(c"is_for_any_arguments")?,
        }))
    }

    fn machine(&self) -> Result<Machine> {
        let machine = machine().map_err(|_| Failure::from("cannot read /proc/self/auxv"))?;
        Ok(if self.is(c"counts_processors")? {
            machine.with_processors()
        } else {
            machine
        })
    }

    /// What the key compares instead of HOME, if only `site` has used HOME.
    fn user_site(&self) -> Result<Option<UserSite<'static>>> {
        if !self.is(c"renews_user_site")? {
            return Ok(None);
        }
        let missing = self.0.attribute(c"missing_user_site")?;
        let missing = if missing.is_none() {
            None
        } else {
            Some(missing.to_bytes()?.to_vec().into())
        };
        Ok(Some(UserSite { missing }))
    }

    fn paths(&self) -> Result<Vec<(Bytes<'static>, Stamp)>> {
        let mut paths = Vec::new();
        for item in self.items(c"paths")? {
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
                "missing" => Stamp::Missing,
                _ => return Err(OTHER_PACKAGE.into()),
            };
            paths.push((path.to_bytes()?.to_vec().into(), stamp));
        }
        Ok(paths)
    }

    fn searched(&self) -> Result<Vec<Searched<'static>>> {
        let mut searched = Vec::new();
        let directories = self.0.attribute(c"searched")?;
        let directories = directories.attribute(c"items")?.call(Vec::new())?;
        for item in directories.to_items()? {
            let fields = item.to_items()?;
            let [path, names] = fields.as_slice() else {
                return Err(OTHER_PACKAGE.into());
            };
            let (path, names) = (path.to_bytes()?, names.to_bytes()?);
            let state = State::now(path, names, module_suffixes()).ok_or_else(|| {
                Failure::Reason(format!("cannot list {}", String::from_utf8_lossy(path)))
            })?;
            searched.push(Searched {
                path: path.to_vec().into(),
                names: names.to_vec().into(),
                state,
            });
        }
        Ok(searched)
    }

    fn terminals(&self) -> Result<Vec<Terminal>> {
        let mut terminals = Vec::new();
        for item in self.items(c"terminals")? {
            let fields = item.to_items()?;
            let [number, with_modes, with_size] = fields.as_slice() else {
                return Err(OTHER_PACKAGE.into());
            };
            let number = number.to_i64()? as u8;
            let (with_modes, with_size) = (with_modes.is_true(), with_size.is_true());
            terminals.push(Terminal::of(number, with_modes, with_size));
        }
        Ok(terminals)
    }

    /// The working directory, if it is compared.
    fn directory(&self) -> Result<Option<Bytes<'static>>> {
        if !self.is(c"counts_directory")? {
            return Ok(None);
        }
        let here = std::env::current_dir();
        let here = here.map_err(|_| Failure::from("there is no working directory"))?;
        Ok(Some(here.into_os_string().into_vec().into()))
    }

    fn facts(&self) -> Result<Vec<(Fact, Bytes<'static>)>> {
        let asked = self.texts(c"facts")?;
        let facts = Fact::ALL.into_iter();
        let facts = facts.filter(|fact| asked.iter().any(|name| name == fact.name()));
        Ok(facts.map(|fact| (fact, fact.now().into())).collect())
    }
}

fn program_identity(line: &CommandLine) -> Result<Vec<u8>> {
    // The directory may have been removed. Then no relative path leads to a program.
    let here = std::env::current_dir().unwrap_or_default();
    let identity = line.program.identity(here.as_os_str().as_bytes());
    identity.ok_or_else(|| Failure::from("a program from standard input cannot be read again"))
}

/// As the launcher finds it: the C library's getauxval() has values of its own.
fn machine() -> io::Result<Machine> {
    let vector = std::fs::read("/proc/self/auxv")?;
    let words: Vec<u64> = vector
        .chunks_exact(size_of::<u64>())
        .filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)))
        .collect();
    let value = |kind| words.chunks_exact(2).find(|pair| pair[0] == kind);
    Ok(Machine::current(|kind| {
        value(kind).map_or(0, |pair| pair[1])
    }))
}
