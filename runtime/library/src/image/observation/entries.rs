//! Entries of the record of a process: what it has looked at, and what it has done.
//!
//! An entry is the letter of its kind and a text that depends on the kind. A NUL follows each entry.

/// An entry: its kind and its text.
#[cfg(target_arch = "x86_64")]
pub type Entry = (Kind, Vec<u8>);

/// Defines the kinds, with the letter that stands for each in a record, and its name in Python
/// (`runtime/python/cds/image/observed.py`).
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $letter:literal, $name:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $kind = $letter,)*
        }

        impl Kind {
            fn of(letter: u8) -> Option<Self> {
                match letter {
                    $($letter => Some(Self::$kind),)*
                    _ => None,
                }
            }

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// The path of a file that was opened to be read.
    Opened = b'o', "opened";
    /// The path of a directory that the path finder has listed.
    Searched = b'f', "searched";
    /// The path of a file that was created or overwritten.
    Created = b'c', "created";
    /// A path whose existence or type was asked for.
    LookedAt = b'l', "looked at";
    /// Like [`Kind::LookedAt`], by code that may use more of the status than the type of the file.
    Status = b'a', "status";
    /// A path that did not exist before a system call which may have created it.
    Made = b'm', "made";
    /// Without a text: the number of processors was asked for.
    Processors = b'p', "processors";
    /// The number of a standard stream: whether it is a terminal was asked for.
    Terminal = b't', "terminal";
    /// The number of a standard stream: the size of its terminal was asked for.
    TerminalSize = b's', "terminal size";
    /// The number of a standard stream: the modes of its terminal were asked for.
    TerminalModes = b'h', "terminal modes";
    /// Without a text: the action of a signal was changed. The parent may have set this signal to be ignored.
    Signals = b'g', "signals";
    /// Without a text: the working directory was asked for.
    Directory = b'd', "directory";
    /// Without a text: a path relative to the working directory was used.
    Relative = b'r', "relative";
    /// The name of a fact that the program asked for.
    Fact = b'n', "fact";
    /// A look: what differs from run to run, or what others can see. Two more lines follow, with the files of the
    /// functions that did so and of the modules that were being imported. Tabs separate the files.
    Look = b'x', "look";
    /// What the program was stopped at.
    Ended = b'e', "ended";
    /// The name of a variable that C code has asked for.
    Variable = b'v', "variable";
    /// `NAME=VALUE` of a variable that C code has set.
    Set = b'S', "set";
    /// `NAME=VALUE`, which is set only if there is no such variable yet.
    SetDefault = b'D', "set default";
    /// The name of a variable that C code has removed.
    Removed = b'U', "removed";
    /// Without a text: C code has removed all variables.
    Cleared = b'C', "cleared";
    /// Never recorded: the observer decides whether reading the clock counts.
    ClockRead = b'T', "clock read";
    /// Without a text: `time.tzset()` was called. Its reads of the clock do not count. It computes the rules of the time
    /// zone from the variable TZ.
    ZoneSet = b'Z', "zone set";
    /// The file of the code that may have looked at the whole environment; empty if the watchpoint could not be set.
    Walked = b'W', "walked";
}

/// Appends an entry to a record.
#[cfg(target_arch = "x86_64")]
pub fn append(record: &mut Vec<u8>, kind: Kind, text: &[u8]) {
    record.push(kind as u8);
    record.extend_from_slice(text);
    record.push(0);
}

/// The entries of a record. None if it has a kind that this version does not know.
pub fn parse(record: &[u8]) -> Option<Vec<(Kind, &[u8])>> {
    let entries = record.split(|&byte| byte == 0);
    let entries = entries.filter_map(<[u8]>::split_first);
    let entries = entries.map(|(&letter, text)| Some((Kind::of(letter)?, text)));
    entries.collect()
}
