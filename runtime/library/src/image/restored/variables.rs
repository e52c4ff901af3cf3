//! The environment of an image. In the process of which an image is taken, `posix.environ` reports its uses. A restored
//! process repeats the changes that imports have made.

use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::sync::OnceLock;

use startup_image::key;

use crate::cpython::image;
use crate::cpython::object::{Object, Result};
use crate::cpython::own;
use crate::image::observation::looks;
use crate::options::Options;

/// The changes that imports have made to the environment of C code. A variable without a value is removed.
static CHANGES: OnceLock<Vec<(CString, Option<CString>)>> = OnceLock::new();

/// Called before `site` is imported. If an image is to be taken of this process, these report their uses from now on:
/// `posix.environ` (`cds.image.variables`), arguments (`cds.image.arguments`), signal handlers (`cds.image.signals`).
pub fn begin(options: &Options) -> Result<()> {
    options.image.as_deref().map_or(Ok(()), watch)
}

fn watch(request: &Path) -> Result<()> {
    let variables = Object::import(c"cds.image.variables")?;
    let early = Object::import(c"cds.image.arguments")?.attribute(c"watch_early")?;
    let request = Object::str(&request.to_string_lossy())?;
    looks::watch(&early.call(vec![request.clone()])?)?;
    let signals = Object::import(c"cds.image.signals")?.attribute(c"watch")?;
    signals.call(vec![request.clone()])?;
    let environ = variables.attribute(c"watch")?.call(vec![request])?;
    // SAFETY: `environ` is a dict, and `Watched` is a subclass of `dict` with the same layout.
    unsafe { image::set_type(&environ, &variables.attribute(c"Watched")?) };
    Ok(())
}

/// Makes `posix.environ` a plain dict again.
pub fn end_watch() -> Result<()> {
    let environ = own::module(c"cds.image.startup")?.attribute(c"environ")?;
    let dict = Object::import(c"builtins")?.attribute(c"dict")?;
    // SAFETY: the object was a plain dict before `watch()` changed its class, and has the same layout.
    unsafe { image::set_type(&environ, &dict) };
    Ok(())
}

/// Notes the changes of imports: pairs of a name, and a value or None.
fn begin_with(changes: &Object) -> Result<()> {
    let text = |object: &Object| Ok(CString::new(object.to_bytes()?).unwrap_or_default());
    let mut found = Vec::new();
    for change in changes.to_items()? {
        if let [name, value] = change.to_items()?.as_slice() {
            let value = (!value.is_none()).then(|| text(value)).transpose()?;
            found.push((text(name)?, value));
        }
    }
    // This function is called once, so `set()` cannot fail.
    let _ = CHANGES.set(found);
    Ok(())
}

/// A name and its value.
pub type Variable = (Vec<u8>, Vec<u8>);
/// A name, and its value if it had one.
pub type Compared = (Vec<u8>, Option<Vec<u8>>);

/// The variables that the key compares. `read` comes from `cds.image.preparing` and has four parts: the variables that
/// the process was started with, the names that were read, whether all variables count, and the changes of imports.
pub fn looked_at(read: &Object) -> Result<(Vec<Compared>, Option<Vec<Variable>>)> {
    let [started, names, counts_all, changes] = <[Object; 4]>::try_from(read.to_items()?)
        .unwrap_or_else(|_| [0; 4].map(|_| Object::none()));
    begin_with(&changes)?;
    let mut environment = Vec::new();
    for variable in started.to_items()? {
        if let [name, value] = variable.to_items()?.as_slice() {
            environment.push((name.to_bytes()?.to_vec(), value.to_bytes()?.to_vec()));
        }
    }
    let mut compared: Vec<Compared> = Vec::new();
    for name in names.to_items()? {
        let name = name.to_bytes()?.to_vec();
        let mut known = environment.iter();
        let value = known.find(|(known, _)| *known == name);
        let value = value.map(|(_, value)| value.clone());
        // The key always refuses a new variable that libraries might read.
        if value.is_some() || !key::may_be_read(&name) {
            compared.push((name, value));
        }
    }
    for (name, value) in &environment {
        if key::may_be_read(name) && !compared.iter().any(|(known, _)| known == name) {
            compared.push((name.clone(), Some(value.clone())));
        }
    }
    environment.retain(|(name, _)| key::counts_in_whole(name));
    Ok((compared, counts_all.is_true().then_some(environment)))
}

/// Repeats the changes in a restored process, which has the environment of the new process.
///
/// # Safety
/// There are no other threads.
pub unsafe fn renew() {
    for (name, value) in CHANGES.get().into_iter().flatten() {
        // SAFETY: no other thread reads the environment, and both texts end with NUL. A failure for lack of memory is
        // ignored, because the next allocation reports it.
        unsafe {
            match value {
                Some(value) => libc::setenv(name.as_ptr(), value.as_ptr(), 1),
                None => libc::unsetenv(name.as_ptr()),
            }
        };
    }
}

/// The environment of C code, as texts `NAME=VALUE`.
pub fn of_c() -> Result<Object> {
    // SAFETY: the pointer is only read. If other threads could change it, they would prevent an image, and would be as
    // dangerous for `getenv()`.
    let first: *const *const c_char = unsafe { libc::environ }.cast();
    // SAFETY: `first` is a null pointer, or points to an array of texts that ends with NULL.
    let texts = (0..).map_while(|index| unsafe {
        let text = if first.is_null() {
            first.cast()
        } else {
            *first.add(index)
        };
        (!text.is_null()).then(|| Object::from_bytes(CStr::from_ptr(text).to_bytes()))
    });
    Object::list(texts.collect::<Result<Vec<_>>>()?)
}
