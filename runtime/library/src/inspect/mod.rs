//! Inspects an archive that is not in use: everything is read from the file, and nothing in it is trusted.
//!
//! - [`stored_archive`]: the parts of the file,
//! - [`objects`]: the objects in it, found by walking each section from object to object,
//! - [`ownership`]: which modules use which objects,
//! - [`digest`]: whether two archives have the same code,
//! - [`verify`]: whether the file is as its writer left it.

pub mod digest;
pub mod objects;
pub mod ownership;
pub mod stored_archive;
pub mod verify;

use crate::executable::Executable;
use crate::fingerprint;
use crate::layers;
use objects::Objects;
use stored_archive::StoredArchive;

/// The properties of this interpreter that decide whether an archive fits.
pub struct Here<'a> {
    pub config: &'a crate::cpython::config::Config,
    pub executable: &'a Executable,
}

/// A fact that differs between an archive and this interpreter.
pub struct Mismatch {
    pub key: String,
    pub archive: String,
    pub here: String,
}

/// The standard library's archive, if `archive` refers to objects in it and it can be read.
pub fn lower_layer(archive: &StoredArchive) -> Option<StoredArchive> {
    if !fingerprint::has_lower_layer(&archive.header) {
        return None;
    }
    StoredArchive::open(&layers::standard_archive()?).ok()
}

/// The facts that prevent this interpreter from using an archive.
pub fn mismatches(
    archive: &StoredArchive,
    lower: Option<&StoredArchive>,
    here: &Here,
) -> Vec<Mismatch> {
    let lower = lower.map(|lower| &lower.header);
    let facts = fingerprint::facts(here.config, here.executable, lower).unwrap_or_default();
    let lines = facts.lines().filter_map(|line| line.split_once('='));
    lines
        .filter_map(|(key, here)| {
            let archive = archive.header.fact(key).unwrap_or_default();
            (archive != here).then(|| Mismatch {
                key: key.to_owned(),
                archive: archive.to_owned(),
                here: here.to_owned(),
            })
        })
        .collect()
}

/// The objects of an archive. None if another build of the interpreter has written the archive: its types have other
/// addresses.
pub fn objects<'a>(archive: &'a StoredArchive, here: &Here) -> Option<Objects<'a>> {
    let same_build = archive.header.fact(fingerprint::BUILD) == here.executable.build_id();
    same_build.then(|| Objects::find(archive))
}
