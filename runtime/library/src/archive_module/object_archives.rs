//! Archives that contain one object, for the module `_cds`.

use std::path::Path;

use crate::cpython::is_main_interpreter;
use crate::cpython::object::{Exception, Object, Raised, Result};
use crate::writer::{self, Interpreter, base};
use crate::{fingerprint, objects, runtime};

pub fn write_object([path, items]: [Object; 2]) -> Result<Object> {
    let path = path.to_str()?;
    let error = |text: &str| Raised::new(Exception::Os, &format!("cannot write {path}: {text}"));
    let runtime =
        runtime::current().ok_or_else(|| error("the archive runtime has been disabled"))?;
    let facts = fingerprint::facts(&runtime.config, &runtime.executable, None)
        .ok_or_else(|| error("this interpreter has no build id"))?;
    let interpreter = Interpreter {
        facts: &facts,
        executable: &runtime.executable,
        roots: &[],
        lower: None,
        base: base::OBJECT,
    };
    let items = items.to_items()?;
    writer::write_object(Path::new(path), items.first(), &interpreter)
        .map_err(|text| error(&text))?;
    Ok(Object::none())
}

pub fn load_object([path]: [Object; 1]) -> Result<Object> {
    let runtime = runtime::current()
        .filter(|_| is_main_interpreter())
        .ok_or_else(|| Raised::new(Exception::Os, "only the main interpreter uses archives"))?;
    let object = objects::load(runtime, path.to_str()?)?;
    Object::tuple(object.into_iter().collect())
}

pub fn find_unsuitable([object]: [Object; 1]) -> Result<Object> {
    objects::find_unsuitable(&object).map_or_else(|| Ok(Object::none()), |name| Object::str(&name))
}
