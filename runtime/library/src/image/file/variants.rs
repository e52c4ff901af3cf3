//! The variants of a program's image in the cache.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use startup_image::cache::{CRASHED, VARIANTS};

use super::renewal;
use crate::image::restored::refusal;
use crate::options;
use crate::record::runs::Subject;

/// An image that was used since is not replaced: surroundings that differ in each start must not cause an image each
/// time. The time of the last access is that of the last process that was restored, within an hour.
const LEAST_IDLE: Duration = Duration::from_hours(48);

/// The variant in an entry of the cache whose image should be taken for this process, which was not restored from any;
/// none if no image should be taken. `first` is the number of the first image of the entry.
pub fn variant_to_renew(entry: &Path, first: usize, subject: &Subject) -> Option<usize> {
    let crashed = [entry.as_os_str().as_bytes(), CRASHED].concat();
    if Path::new(OsStr::from_bytes(&crashed)).exists() {
        return None;
    }
    let image = |variant| options::image(&options::archive_in(entry, variant));
    let is_lasting = |variant| refusal::is_lasting(first + variant) == Some(true);
    if let Some(variant) = (0..VARIANTS).find(|&variant| is_lasting(variant)) {
        // A note, or an image that was soon out of date, stays for some time. Then the surroundings are hardly the
        // reason, and no other variant is taken.
        let is_due = renewal::is_to_be_renewed_for(&image(variant), subject);
        return is_due.then_some(variant);
    }
    let is_free = |variant: &usize| fs::symlink_metadata(image(*variant)).is_err();
    (0..VARIANTS)
        .find(is_free)
        .or_else(|| (0..VARIANTS).find(|&variant| is_idle(&image(variant))))
}

/// Whether an image was not used for so long that another one may take its place.
pub fn is_idle(image: &Path) -> bool {
    last_use(image)
        .and_then(|time| time.elapsed().ok())
        .is_some_and(|idle| idle > LEAST_IDLE)
}

fn last_use(image: &Path) -> Option<SystemTime> {
    let status = fs::metadata(image).ok()?;
    Some(status.accessed().ok()?.max(status.modified().ok()?))
}
