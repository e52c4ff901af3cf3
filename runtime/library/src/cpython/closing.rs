//! The end of files, sockets and databases: which of them are already closed, which can be closed without a visible
//! effect, and which are closed by C code that calls no Python code.

use std::ffi::CStr;

use super::heap::Address;
use super::object::{Object, Raised, Result};
use super::raw;

/// The base type of all sockets (Modules/socketmodule.c).
const SOCKET: &CStr = c"_socket.socket";

/// The base type of all connections to SQLite databases (Modules/_sqlite/connection.c).
const CONNECTION: &CStr = c"sqlite3.Connection";

const READER: &str = "_io.BufferedReader";
/// The types of file objects that are written in C, and the part that each implements.
const PARTS: [(&str, Part); 5] = [
    ("_io.TextIOWrapper", Part::Text),
    (READER, Part::Reader),
    ("_io.BufferedWriter", Part::Writer),
    ("_io.BufferedRandom", Part::Writer),
    ("_io.FileIO", Part::Descriptor),
];

/// A part of a file, in the order in which written data passes through the parts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Text,
    Reader,
    Writer,
    Descriptor,
}

/// A file that consists of these parts only, so that reading its attributes runs no Python code.
struct File {
    descriptor: Object,
    is_written: bool,
}

/// What the decisions below need to know of the program's `warnings` filters.
pub struct Closing {
    is_leak_reported: bool,
}

impl Closing {
    /// # Errors
    /// Fails if there is no memory left.
    pub fn new() -> Result<Self> {
        Ok(Self {
            is_leak_reported: is_leak_reported()?,
        })
    }

    /// Whether an object is a file or socket that is closed, or a file that does not own its descriptor and has no
    /// write buffer.
    ///
    /// # Safety
    /// The object is alive.
    pub unsafe fn is_closed(object: Address) -> bool {
        // SAFETY: the caller passes a live object, which is what both functions require.
        unsafe {
            ask(object, |file| {
                let is_own = || file.descriptor.attribute(c"closefd");
                Ok(file.descriptor.attribute(c"closed")?.is_true()
                    || !file.is_written && !is_own()?.is_true())
            }) || descriptor(object) == Some(-1)
        }
    }

    /// Whether the object is a file or socket that the kernel can close when the process ends: no data has to be
    /// written, and no warning is issued.
    ///
    /// # Safety
    /// The object is alive.
    pub unsafe fn is_silent(&self, object: Address) -> bool {
        // SAFETY: the caller passes a live object, which is what both functions require.
        !self.is_leak_reported
            && unsafe { ask(object, |file| Ok(!file.is_written)) || descriptor(object).is_some() }
    }

    /// Whether the object is a database connection that C code alone closes when the connection and its statements die
    /// (Modules/_sqlite/connection.c, `connection_finalize()`): no warning is issued, SQLite calls no callback at the
    /// end of an interpreter, and a class of the program has changed neither the finalizer nor `repr()`, which is
    /// called for the warning in any case.
    ///
    /// # Safety
    /// The object is alive.
    pub unsafe fn is_native(&self, object: Address) -> bool {
        // SAFETY: the caller passes a live object, so its type and the type's bases are alive.
        unsafe {
            let kind = (*object).ob_type;
            let base = base_named(kind, CONNECTION);
            !self.is_leak_reported
                && base.is_some_and(|base| raw::cds_glue_ends_alike(base, kind) != 0)
        }
    }
}

/// The type with this name among a type and its bases.
///
/// # Safety
/// `kind` is a type.
unsafe fn base_named(
    mut kind: *mut raw::PyTypeObject,
    name: &CStr,
) -> Option<*mut raw::PyTypeObject> {
    // SAFETY: the caller passes a type, and a type keeps its base alive.
    unsafe {
        while !kind.is_null() && CStr::from_ptr(raw::cds_glue_name(kind)) != name {
            kind = raw::cds_glue_base(kind);
        }
    }
    (!kind.is_null()).then_some(kind)
}

/// The file of which an object is a part, given by the address of the file's innermost part, and which part the object
/// is.
///
/// # Safety
/// The object is alive.
pub unsafe fn part_of_file(object: Address) -> Option<(Address, Part)> {
    // SAFETY: the caller passes a live object, and the new reference keeps it alive.
    let object = unsafe { Object::from_borrowed(object) };
    let part = part(&object)?;
    let file = File::of(object).unwrap_or_else(|raised| {
        raised.clear();
        None
    });
    file.map(|file| (file.descriptor.as_ptr(), part))
}

fn part(object: &Object) -> Option<Part> {
    let name = object.type_name();
    let known = PARTS.iter().find(|(part, _)| *part == name);
    known.map(|&(_, part)| part)
}

/// # Safety
/// The object is alive.
unsafe fn ask(object: Address, question: impl Fn(&File) -> Result<bool>) -> bool {
    // SAFETY: the caller passes a live object, and the new reference keeps it alive.
    let object = unsafe { Object::from_borrowed(object) };
    let answer = File::of(object).and_then(|file| file.map_or(Ok(false), |file| question(&file)));
    answer.unwrap_or_else(|raised: Raised| {
        raised.clear();
        false
    })
}

impl File {
    fn of(mut object: Object) -> Result<Option<Self>> {
        let mut is_written = false;
        loop {
            let Some(part) = part(&object) else {
                return Ok(None);
            };
            is_written |= part == Part::Writer;
            object = match part {
                Part::Descriptor => {
                    return Ok(Some(Self {
                        descriptor: object,
                        is_written,
                    }));
                }
                Part::Reader | Part::Writer => object.attribute(c"raw")?,
                Part::Text => {
                    let buffer = object.attribute(c"buffer")?;
                    // Any other buffer can hold data that has to be written.
                    is_written |= buffer.type_name() != READER;
                    buffer
                }
            };
        }
    }
}

/// The file descriptor of a socket whose finalizer is that of `_socket.socket`.
///
/// # Safety
/// The object is alive.
unsafe fn descriptor(object: Address) -> Option<i64> {
    // SAFETY: the caller passes a live object. Its type and the type's bases live as long as the object.
    unsafe {
        let kind = (*object).ob_type;
        let base = base_named(kind, SOCKET)?;
        if raw::cds_glue_finalizer(base) != raw::cds_glue_finalizer(kind) {
            return None;
        }
        let number = Object::from_borrowed(base.cast()).attribute(c"fileno");
        let number = number.and_then(|fileno| fileno.call(vec![Object::from_borrowed(object)]));
        number.and_then(|number| number.to_i64()).map_or_else(
            |raised| {
                raised.clear();
                None
            },
            Some,
        )
    }
}

/// Whether a file that is left open causes a visible warning: whether the first filter that matches a ResourceWarning
/// does anything but ignore it (Python/_warnings.c, `get_filter()`).
fn is_leak_reported() -> Result<bool> {
    // SAFETY: the dict and the class exist as long as the interpreter does. The module is borrowed from the dict, or
    // NULL.
    let (module, category) = unsafe {
        let module = raw::PyDict_GetItemString(raw::cds_glue_modules(), c"warnings".as_ptr());
        let module = (!module.is_null()).then(|| Object::from_borrowed(module));
        (module, Object::from_borrowed(raw::PyExc_ResourceWarning))
    };
    let module = module.map_or_else(|| Object::import(c"_warnings"), Ok)?;
    let classes = category.attribute(c"__mro__")?.to_items()?;
    for filter in module.attribute(c"filters")?.to_items()? {
        let [action, message, category, module, line] = &filter.to_items()?[..] else {
            return Ok(true);
        };
        if !classes
            .iter()
            .any(|class| class.as_ptr() == category.as_ptr())
        {
            continue;
        }
        let is_for_all = message.is_none() && module.is_none() && line.to_i64()? == 0;
        return Ok(!is_for_all || action.to_str()? != "ignore");
    }
    Ok(true)
}
