//! The parts of the interpreter's command line that decide whether an image fits.
//!
//! It is parsed as by `_PyOS_GetOpt()` in Python/getopt.c and `config_parse_cmdline()` in Python/initconfig.c. With
//! options that images do not support (`-i`, `-x`, `--help`, …), the program starts in the ordinary way.

use alloc::format;
use alloc::vec::Vec;

/// The end of a value of `-X cds_auto` that asks for a startup image.
pub const WITH_IMAGE: &str = ",image";

/// The value of `cds` for "no archive".
pub const OFF: &str = "off";

/// The value of `cds` for the cache of the user.
pub const AUTO: &str = "auto";

/// Which startup image the options and variables ask for.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// The image of this archive: `cds=FILE`, `cds_auto=FILE,image`.
    Of(&'a [u8]),
    /// One of the cache: `cds=auto`.
    OfCache,
    /// None: `cds=off`, `cds_auto=FILE`.
    Nothing,
    /// There is no such setting. Then one of the cache, if the user has enabled it.
    Unset,
}

/// The program that the interpreter runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    Command(Vec<u8>),
    Module(Vec<u8>),
    Script(Vec<u8>),
    /// Standard input, whether or not it is a terminal.
    Stdin,
}

impl Program {
    /// Identifies the program when it is started in `directory`. The directory is a part of the identity except for a
    /// script with an absolute path: a relative path leads from it, and `-m` and `-c` find modules in it. None for
    /// standard input, whose program is not known before it runs.
    pub fn identity(&self, directory: &[u8]) -> Option<Vec<u8>> {
        let (kind, name, place): (&[u8], &[u8], &[u8]) = match self {
            Self::Script(path) if path.starts_with(b"/") => (b"", path, b""),
            Self::Script(path) => (b"", path, directory),
            Self::Module(name) => (b"-m", name, directory),
            Self::Command(text) => (b"-c", text, directory),
            Self::Stdin => return None,
        };
        Some([kind, name, place].join(&0))
    }

    /// The same for the working directory of this process.
    pub fn identity_here(&self) -> Option<Vec<u8>> {
        // The working directory may have been removed.
        let here = rustix::process::getcwd(Vec::new()).unwrap_or_default();
        self.identity(here.to_bytes())
    }
}

/// A command line in parts.
#[derive(Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// Options that change the interpreter, in their order: `-O`, `-Xdev`, `-Werror`.
    pub options: Vec<Vec<u8>>,
    /// Names and values of `-X` options about archives.
    pub cds: Vec<(Vec<u8>, Vec<u8>)>,
    pub program: Program,
    /// Index of the first argument of the program.
    pub rest: usize,
}

/// Options without arguments that an image may be taken with. `-v` is not one of them: it prints each import.
const FLAGS: &[u8] = b"bBdEIOPqRsSu";
/// Names of `-X` options that no image is taken with: they print or trace what a start does.
const TELLTALE: &[&[u8]] = &[b"importtime", b"tracemalloc"];

impl CommandLine {
    /// Parses the arguments; none if images do not support them.
    pub fn parse(arguments: &[&[u8]]) -> Option<Self> {
        let mut line = Self {
            options: Vec::new(),
            cds: Vec::new(),
            program: Program::Stdin,
            rest: arguments.len(),
        };
        let mut index = 1;
        while let Some(&argument) = arguments.get(index) {
            index += 1;
            match argument {
                b"--" => break,
                [b'-', b'-', ..] => return None,
                [b'-', cluster @ ..] if !cluster.is_empty() => {
                    let mut position = 0;
                    while let Some(&flag) = cluster.get(position) {
                        position += 1;
                        if FLAGS.contains(&flag) {
                            line.options.push(alloc::vec![b'-', flag]);
                            continue;
                        }
                        if !b"cmWX".contains(&flag) {
                            return None;
                        }
                        let value = if position < cluster.len() {
                            &cluster[position..]
                        } else {
                            index += 1;
                            *arguments.get(index - 1)?
                        };
                        match flag {
                            b'c' => line.program = Program::Command(value.to_vec()),
                            b'm' => line.program = Program::Module(value.to_vec()),
                            b'X' => line.add_x_option(value)?,
                            _ => line.options.push([b"-W", value].concat()),
                        }
                        if b"cm".contains(&flag) {
                            line.rest = index;
                            return Some(line);
                        }
                        break;
                    }
                }
                _ => {
                    index -= 1;
                    break;
                }
            }
        }
        line.rest = index.min(arguments.len());
        if let Some(&script) = arguments.get(index)
            && script != b"-"
        {
            line.program = Program::Script(script.to_vec());
        }
        Some(line)
    }

    fn add_x_option(&mut self, value: &[u8]) -> Option<()> {
        let mut parts = value.splitn(2, |&byte| byte == b'=');
        let name = parts.next().unwrap_or_default();
        if TELLTALE.contains(&name) {
            return None;
        }
        if name == b"cds" || name.starts_with(b"cds_") {
            let text = parts.next().unwrap_or_default();
            self.cds.push((name.to_vec(), text.to_vec()));
        } else {
            self.options.push([b"-X", value].concat());
        }
        Some(())
    }

    /// The image that the options or variables ask for.
    pub fn choice<'a>(&'a self, variable: impl Fn(&[u8]) -> Option<&'a [u8]>) -> Choice<'a> {
        let setting = |name| {
            self.setting(name, &variable)
                .filter(|value| !value.is_empty())
        };
        if let Some(archive) = setting("cds") {
            return match archive {
                _ if archive == OFF.as_bytes() => Choice::Nothing,
                _ if archive == AUTO.as_bytes() => Choice::OfCache,
                _ => Choice::Of(archive),
            };
        }
        match setting("cds_auto") {
            Some(value) => value
                .strip_suffix(WITH_IMAGE.as_bytes())
                .map_or(Choice::Nothing, Choice::Of),
            None => Choice::Unset,
        }
    }

    /// The value of an option about archives, or else of its variable. A variable has no effect if it is empty, or with
    /// `-E` or `-I`.
    pub fn setting<'a>(
        &'a self,
        name: &str,
        variable: impl Fn(&[u8]) -> Option<&'a [u8]>,
    ) -> Option<&'a [u8]> {
        let inherited = || {
            let name = format!("PYTHON_{}", name.to_uppercase());
            variable(name.as_bytes()).filter(|value| !value.is_empty())
        };
        let counts = !self.ignores_environment();
        self.cds(name).or_else(|| inherited().filter(|_| counts))
    }

    /// The last value of an option about archives.
    pub fn cds(&self, name: &str) -> Option<&[u8]> {
        let mut options = self.cds.iter().rev();
        let found = options.find(|(option, _)| option == name.as_bytes());
        found.map(|(_, value)| value.as_slice())
    }

    /// Whether the interpreter ignores environment variables (`-E`, `-I`).
    pub fn ignores_environment(&self) -> bool {
        self.has_flag(b"-E") || self.is_isolated()
    }

    /// Whether the interpreter uses no setting of the user (`-I`).
    pub fn is_isolated(&self) -> bool {
        self.has_flag(b"-I")
    }

    fn has_flag(&self, flag: &[u8]) -> bool {
        self.options.iter().any(|option| option == flag)
    }
}
