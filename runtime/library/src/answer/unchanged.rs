//! Whether files and directories are those of the dump.
//!
//! A modification time that is equal proves it. Another time proves nothing: installers, version control and builds of
//! container images set times. Then the contents are compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use archive_format::{Directory, Freshness, Module, content_hash};
use rustix::fs::Stat;

use super::miss::Miss;
use crate::fault;
use crate::files::{contents, listing};

/// Directories whose names were compared: the modification time at which this was done, and the result.
static COMPARED: Mutex<BTreeMap<String, (i64, bool)>> = Mutex::new(BTreeMap::new());

/// Whether a file still has the contents that it had when it was dumped, as far as the policy wants to know.
pub fn file(path: &str, module: &Module, freshness: Freshness) -> Result<(), Miss> {
    if freshness == Freshness::Unchecked {
        return Ok(());
    }
    let stat = stat(path).ok_or(Miss::SourceGone)?;
    let same_size = u64::try_from(stat.st_size) == Ok(module.size);
    fault::point("file_examined");
    let same_time = freshness == Freshness::Mtime && is_from(&stat, module.mtime_ns);
    if same_size && (same_time || has_hash(path, module.content_hash)) {
        Ok(())
    } else {
        Err(Miss::SourceChanged)
    }
}

fn has_hash(path: &str, hash: u64) -> bool {
    hash != 0 && contents::read(path).is_ok_and(|contents| content_hash(&contents) == hash)
}

/// Whether imports find the same in a directory as when it was dumped.
pub fn directory(path: &str, record: &Directory) -> bool {
    let Some(stat) = stat(path) else {
        return false;
    };
    if is_from(&stat, record.mtime_ns) {
        return true;
    }
    let Some(mtime_ns) = modified_ns(&stat).filter(|_| record.listing != 0) else {
        return false;
    };
    // A panic while the lock was held has left no entry half-written.
    let mut compared = COMPARED.lock().unwrap_or_else(PoisonError::into_inner);
    match compared.get(path) {
        Some(&(known, result)) if known == mtime_ns => result,
        _ => {
            let result = listing::hash(path) == Some(record.listing);
            // A change in the same tick of the file system's clock would not change the time.
            if !result || is_settled(mtime_ns) {
                compared.insert(path.to_owned(), (mtime_ns, result));
            }
            result
        }
    }
}

/// Whether each later change of a file or directory changes this modification time (see
/// `runtime/python/cds/collect/freshness.py`).
fn is_settled(mtime_ns: i64) -> bool {
    const TICK_NS: i64 = 50_000_000;
    let tick = if mtime_ns % SECOND_NS == 0 {
        2 * SECOND_NS
    } else {
        TICK_NS
    };
    // The C library asks the vdso. `rustix` makes a system call first, for which a filter of the program could kill it.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_nanos()).unwrap_or(i64::MAX));
    now.saturating_sub(mtime_ns).abs() >= tick
}

fn stat(path: &str) -> Option<Stat> {
    rustix::fs::stat(Path::new(path)).ok()
}

/// Whether a file or directory has this modification time. The time may also be rounded down to whole seconds, as in
/// layers of container images: `.pyc` files record whole seconds, too.
fn is_from(stat: &Stat, mtime_ns: i64) -> bool {
    let Some(found) = modified_ns(stat) else {
        return false;
    };
    found == mtime_ns || found == mtime_ns - mtime_ns.rem_euclid(SECOND_NS)
}

const SECOND_NS: i64 = 1_000_000_000;

/// The modification time of a file, in nanoseconds since the epoch.
pub fn modified_ns(stat: &Stat) -> Option<i64> {
    stat.st_mtime
        .checked_mul(SECOND_NS)?
        .checked_add(i64::try_from(stat.st_mtime_nsec).ok()?)
}
