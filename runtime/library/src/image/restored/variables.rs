//! The environment of an image: in the process that it is taken of, `posix.environ` reports its uses; a restored one has
//! what imports have changed of it.

use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::sync::OnceLock;

use startup_image::key;

use crate::cpython::image;
use crate::cpython::object::{Object, Result};
use crate::cpython::own;
use crate::image::observation::looks;
use crate::options::Options;

/// What imports have changed of the environment that C code sees: values, or none for variables that are removed first.
static CHANGES: OnceLock<Vec<(CString, Option<CString>)>> = OnceLock::new();

/// Called before `site` is imported: if an image is to be taken of this process, `posix.environ` reports its uses from now
/// on (`cds.image.variables`), and so do the arguments (`cds.image.arguments`) and the handlers of signals (`cds.image.signals`).
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
    // SAFETY: the class is one of dicts without slots of its own.
    unsafe { image::set_type(&environ, &variables.attribute(c"Watched")?) };
    Ok(())
}

/// Makes `posix.environ` the plain dict again that it was.
pub fn end_watch() -> Result<()> {
    let environ = own::module(c"cds.image.startup")?.attribute(c"environ")?;
    let dict = Object::import(c"builtins")?.attribute(c"dict")?;
    // SAFETY: it was made by `watch()`.
    unsafe { image::set_type(&environ, &dict) };
    Ok(())
}

/// Takes notice of what imports have changed: pairs of names and values, or None.
fn begin_with(changes: &Object) -> Result<()> {
    let text = |object: &Object| Ok(CString::new(object.to_bytes()?).unwrap_or_default());
    let mut found = Vec::new();
    for change in changes.to_items()? {
        if let [name, value] = change.to_items()?.as_slice() {
            let value = (!value.is_none()).then(|| text(value)).transpose()?;
            found.push((text(name)?, value));
        }
    }
    // It happens once.
    let _ = CHANGES.set(found);
    Ok(())
}

/// A name and its value.
pub type Variable = (Vec<u8>, Vec<u8>);
/// A name, and its value if it had one.
pub type Compared = (Vec<u8>, Option<Vec<u8>>);

/// What a key compares, from what `cds.image.preparing` tells: the variables that the process was started with, the names that
/// were read, and whether all count; and what imports have changed.
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
        // What libraries might read must not be new anyway.
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

/// Makes the changes in a process that has got the environment of a new one.
///
/// # Safety
/// There are no other threads.
pub unsafe fn renew() {
    for (name, value) in CHANGES.get().into_iter().flatten() {
        // SAFETY: the caller knows that no other thread reads the environment; if there is no memory for it, the next
        // thing that needs some tells.
        unsafe {
            match value {
                Some(value) => libc::setenv(name.as_ptr(), value.as_ptr(), 1),
                None => libc::unsetenv(name.as_ptr()),
            }
        };
    }
}

/// The environment as C code sees it: `NAME=VALUE`.
pub fn of_c() -> Result<Object> {
    // SAFETY: other threads that change it meanwhile make an image impossible, and are as dangerous to `getenv()`.
    let first: *const *const c_char = unsafe { libc::environ }.cast();
    // SAFETY: NULL, or an array of texts that ends with NULL.
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
