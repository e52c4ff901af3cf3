//! Variables that a restored program changes although the imports of its image have read them: without an image the
//! change may come first. It has happened when it is noticed, so that image is not used again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use cds_image::key::is_read_late;

use super::note;
use super::resume::texts;
use crate::cpython::object::{Object, Result};

/// What the program has begun with: `NAME=value`, each with a NUL behind it.
static FIRST: OnceLock<Vec<u8>> = OnceLock::new();

/// Takes notice of the variables before the program runs.
pub fn remember() {
    let _ = FIRST.set(current());
}

/// Puts a note in the place of the image if the program has changed a variable that imports or libraries have read.
pub fn check(image: &Path) -> Result<()> {
    let mut changed = Vec::new();
    for name in FIRST
        .get()
        .map(|first| differing(first))
        .unwrap_or_default()
    {
        if is_read_late(&name) || is_read_by_imports(&name)? {
            changed.push(String::from_utf8_lossy(&name).into_owned());
        }
    }
    if !changed.is_empty() {
        let names = changed.join(", ");
        let reason = format!(
            "a program has changed variables that its imports or libraries read: {names}\n"
        );
        // Whoever cannot write there has not had the image written either.
        let _ = note::write_final(image, &reason);
    }
    Ok(())
}

fn is_read_by_imports(name: &[u8]) -> Result<bool> {
    let startup = Object::import(c"cds.startup")?;
    let is_read = startup.attribute(c"is_read_by_imports")?;
    Ok(is_read.call(vec![Object::from_bytes(name)?])?.is_true())
}

/// Names of variables that have another value now, are new, or are gone.
fn differing(first: &[u8]) -> Vec<Vec<u8>> {
    let now = current();
    if now == first {
        return Vec::new();
    }
    let (then, now) = (by_name(first), by_name(&now));
    let names = then
        .keys()
        .chain(now.keys().filter(|name| !then.contains_key(*name)));
    let names = names.filter(|name| then.get(*name) != now.get(*name));
    names.map(|name| name.to_vec()).collect()
}

fn by_name(variables: &[u8]) -> BTreeMap<&[u8], &[u8]> {
    let texts = variables
        .split(|&byte| byte == 0)
        .filter(|text| !text.is_empty());
    texts
        .map(|text| {
            let end = text.iter().position(|&byte| byte == b'=');
            text.split_at(end.unwrap_or(text.len()))
        })
        .collect()
}

fn current() -> Vec<u8> {
    // SAFETY: the GIL is held: Python code of other threads changes nothing meanwhile.
    let texts = unsafe { texts(libc::environ as u64) };
    let mut current = Vec::with_capacity(texts.iter().map(|text| text.len() + 1).sum());
    for text in texts {
        current.extend_from_slice(text);
        current.push(0);
    }
    current
}
