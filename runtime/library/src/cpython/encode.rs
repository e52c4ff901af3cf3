//! Converts live objects to the bytes that an archive stores.
//!
//! Each struct is written field by field into zeroed memory, so that neither padding nor values that the process has
//! cached in an object get into the file. The assertions below fix the size of each struct: if CPython adds a field,
//! this file does not compile until somebody has decided what to write there.

use std::mem::{offset_of, size_of};
use std::slice;

use super::object::{Kind, Object, Result};
use super::raw;

const _: () = assert!(size_of::<raw::PyASCIIObject>() == 40);
const _: () = assert!(size_of::<raw::PyCompactUnicodeObject>() == 56);
const _: () = assert!(size_of::<raw::PyBytesObject>() == 40);
const _: () = assert!(size_of::<raw::PyLongObject>() == 32);
const _: () = assert!(size_of::<raw::PyFloatObject>() == 24);
const _: () = assert!(size_of::<raw::PyComplexObject>() == 32);
const _: () = assert!(size_of::<raw::PyTupleObject>() == 32);
const _: () = assert!(size_of::<raw::PySetObject>() == 200);
const _: () = assert!(size_of::<raw::PyCodeObject>() == 208);
const _: () = assert!(size_of::<raw::PyGC_Head>() == 16);

/// What a pointer in an archived object points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A static object of the interpreter, by its address.
    Interpreter(u64),
    /// An object of the archive, by its number.
    Archive(u32),
    /// An object of the lower layer, by its requested address.
    Lower(u64),
}

/// An object as the archive stores it, with all pointers still zero. Two objects are the same constant, by the
/// type-strict rule of `_PyCode_ConstantKey` (Objects/codeobject.c), if and only if their encodings are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Encoded {
    pub kind: Kind,
    /// Size in bytes of the GC header before the object.
    pub head: usize,
    pub bytes: Vec<u8>,
    /// The places in `bytes` that hold a pointer, and what each points to.
    pub pointers: Vec<(usize, Reference)>,
    /// For a frozenset: a tuple with its elements in insertion order.
    pub elements: Option<Reference>,
}

/// The bit fields of `PyASCIIObject.state`.
struct State;

impl Encoded {
    fn new(kind: Kind, head: usize, size: usize) -> Self {
        let bytes = vec![0; head + size];
        let mut this = Self {
            kind,
            head,
            bytes,
            pointers: Vec::new(),
            elements: None,
        };
        // SAFETY: a constant that the C side initialises statically.
        let immortal = unsafe { raw::cds_glue_immortal_refcount };
        // PyObject begins with the reference count (Include/object.h).
        this.put(0, &immortal.to_ne_bytes());
        this.point(
            offset_of!(raw::PyObject, ob_type),
            Reference::Interpreter(kind.type_address()),
        );
        this
    }

    fn var(kind: Kind, head: usize, size: usize, items: isize) -> Self {
        let mut this = Self::new(kind, head, size);
        this.put(offset_of!(raw::PyVarObject, ob_size), &items.to_ne_bytes());
        this
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        let start = self.head + offset;
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
    }

    fn point(&mut self, offset: usize, to: Reference) {
        self.pointers.push((self.head + offset, to));
    }
}

pub fn int(object: &Object) -> Encoded {
    let int: *const raw::PyLongObject = object.as_ptr().cast();
    // SAFETY: an int has the number of digits that its tag tells (cpython/longintrepr.h). Zero has room for one digit.
    let (tag, digits) = unsafe {
        let tag = (*int).long_value.lv_tag;
        let digits = (&raw const (*int).long_value.ob_digit).cast::<u8>();
        let count = (tag >> 3).max(1);
        (
            tag,
            slice::from_raw_parts(digits, count * size_of::<raw::digit>()),
        )
    };
    let start = offset_of!(raw::PyLongObject, long_value.ob_digit);
    let mut encoded = Encoded::new(Kind::Int, 0, start + digits.len());
    encoded.put(
        offset_of!(raw::PyLongObject, long_value.lv_tag),
        &tag.to_ne_bytes(),
    );
    encoded.put(start, digits);
    encoded
}

pub fn float(object: &Object) -> Encoded {
    let float: *const raw::PyFloatObject = object.as_ptr().cast();
    // SAFETY: the object is a float.
    let value = unsafe { (*float).ob_fval };
    let mut encoded = Encoded::new(Kind::Float, 0, size_of::<raw::PyFloatObject>());
    encoded.put(
        offset_of!(raw::PyFloatObject, ob_fval),
        &value.to_ne_bytes(),
    );
    encoded
}

pub fn complex(object: &Object) -> Encoded {
    let complex: *const raw::PyComplexObject = object.as_ptr().cast();
    // SAFETY: the object is a complex.
    let value = unsafe { (*complex).cval };
    let mut encoded = Encoded::new(Kind::Complex, 0, size_of::<raw::PyComplexObject>());
    encoded.put(
        offset_of!(raw::PyComplexObject, cval.real),
        &value.real.to_ne_bytes(),
    );
    encoded.put(
        offset_of!(raw::PyComplexObject, cval.imag),
        &value.imag.to_ne_bytes(),
    );
    encoded
}

pub fn bytes(object: &Object) -> Encoded {
    // SAFETY: the object is a bytes object.
    let data = unsafe { object.bytes() };
    let start = offset_of!(raw::PyBytesObject, ob_sval);
    let mut encoded = Encoded::var(Kind::Bytes, 0, start + data.len() + 1, data.len() as isize);
    encoded.put(
        offset_of!(raw::PyBytesObject, ob_shash),
        &(-1isize).to_ne_bytes(),
    );
    encoded.put(start, data);
    encoded
}

/// A str, not marked as interned; see [`mark_interned`].
pub fn string(object: &Object) -> Encoded {
    let ascii: *const raw::PyASCIIObject = object.as_ptr().cast();
    // SAFETY: an exact str is compact, so its characters directly follow the struct (cpython/unicodeobject.h).
    let (length, kind, is_ascii, characters) = unsafe {
        let state = &(*ascii).state;
        let (length, kind) = ((*ascii).length, state.kind());
        let bytes = length as usize * kind as usize;
        let characters = raw::cds_glue_characters(object.as_ptr()).cast::<u8>();
        (
            length,
            kind,
            state.ascii(),
            slice::from_raw_parts(characters, bytes),
        )
    };
    let start = if is_ascii == 1 {
        size_of::<raw::PyASCIIObject>()
    } else {
        size_of::<raw::PyCompactUnicodeObject>()
    };
    let mut encoded = Encoded::new(Kind::Str, 0, start + characters.len() + kind as usize);
    encoded.put(
        offset_of!(raw::PyASCIIObject, length),
        &length.to_ne_bytes(),
    );
    encoded.put(
        offset_of!(raw::PyASCIIObject, hash),
        &(-1isize).to_ne_bytes(),
    );
    encoded.put(
        offset_of!(raw::PyASCIIObject, state),
        &State::plain(kind, is_ascii),
    );
    encoded.put(start, characters);
    encoded
}

impl State {
    fn bytes(state: raw::PyASCIIObject__bindgen_ty_1) -> [u8; 4] {
        // SAFETY: the struct consists of one unsigned int with bit fields.
        unsafe { std::mem::transmute(state) }
    }

    fn plain(kind: u32, ascii: u32) -> [u8; 4] {
        // SAFETY: the struct consists of one unsigned int with bit fields, for which 0 is valid.
        let mut state: raw::PyASCIIObject__bindgen_ty_1 = unsafe { std::mem::zeroed() };
        // SAFETY: a constant that the C side initialises statically.
        state.set_interned(unsafe { raw::cds_glue_not_interned });
        state.set_kind(kind);
        state.set_compact(1);
        state.set_ascii(ascii);
        Self::bytes(state)
    }
}

/// Whether a live str is interned.
pub fn is_interned(object: &Object) -> bool {
    // SAFETY: the object is a str.
    unsafe { raw::cds_glue_interned_state(object.as_ptr()) != raw::cds_glue_not_interned }
}

/// Marks an encoded str as immortal and interned. Like the static strings of the interpreter, it is shared by all
/// interpreters of the process and is never on the heap.
pub fn mark_interned(encoded: &mut Encoded) {
    let mut state = state(encoded);
    // SAFETY: a constant that the C side initialises statically.
    state.set_interned(unsafe { raw::cds_glue_interned_static });
    state.set_statically_allocated(1);
    encoded.put(offset_of!(raw::PyASCIIObject, state), &State::bytes(state));
}

/// Whether an encoded object can get a cache of its UTF-8 form when a class reads its docstring (`PyUnicode_AsUTF8`).
/// An ASCII str needs no cache.
pub fn has_utf8_cache(encoded: &Encoded) -> bool {
    encoded.kind == Kind::Str && state(encoded).ascii() == 0
}

/// The characters of an encoded str, as they are in memory. Its [`archive_format::content_hash`] is computed from them.
pub fn characters(encoded: &Encoded) -> &[u8] {
    let state = state(encoded);
    let start = if state.ascii() == 1 {
        size_of::<raw::PyASCIIObject>()
    } else {
        size_of::<raw::PyCompactUnicodeObject>()
    };
    &encoded.bytes[start..encoded.bytes.len() - state.kind() as usize]
}

/// The bit fields of an encoded str.
fn state(encoded: &Encoded) -> raw::PyASCIIObject__bindgen_ty_1 {
    let place = offset_of!(raw::PyASCIIObject, state);
    let bytes: [u8; 4] = std::array::from_fn(|index| encoded.bytes[place + index]);
    // SAFETY: the struct consists of one unsigned int with bit fields.
    unsafe { std::mem::transmute(bytes) }
}

/// A tuple in the state in which the garbage collector leaves tuples of constants: untracked, with a GC header of zeros
/// (Include/internal/pycore_gc.h).
pub fn tuple(items: &[Reference]) -> Encoded {
    let start = offset_of!(raw::PyTupleObject, ob_item);
    let head = size_of::<raw::PyGC_Head>();
    let mut encoded = Encoded::var(
        Kind::Tuple,
        head,
        start + items.len() * 8,
        items.len() as isize,
    );
    for (index, &item) in items.iter().enumerate() {
        encoded.point(start + index * 8, item);
    }
    encoded
}

/// A frozenset without its hash table. The table depends on the hashes of the elements, which differ between processes;
/// [`super::archived::fill_frozenset`] fills it before the first use. `built` is a live set into which the elements
/// were inserted in the order of the tuple `elements`.
pub fn frozenset(built: &Object, elements: Reference) -> Encoded {
    let set: *const raw::PySetObject = built.as_ptr().cast();
    // SAFETY: the object is a frozenset.
    let (fill, used, mask) = unsafe { ((*set).fill, (*set).used, (*set).mask) };
    let room = if mask as usize + 1 > raw::PySet_MINSIZE as usize {
        mask as usize + 1
    } else {
        0
    };
    let head = size_of::<raw::PyGC_Head>();
    let size = size_of::<raw::PySetObject>() + room * size_of::<raw::setentry>();
    let mut encoded = Encoded::new(Kind::FrozenSet, head, size);
    encoded.put(offset_of!(raw::PySetObject, fill), &fill.to_ne_bytes());
    encoded.put(offset_of!(raw::PySetObject, used), &used.to_ne_bytes());
    encoded.put(offset_of!(raw::PySetObject, mask), &mask.to_ne_bytes());
    encoded.put(offset_of!(raw::PySetObject, hash), &(-1isize).to_ne_bytes());
    encoded.elements = Some(elements);
    encoded
}

/// The start of the space for the hash table of an encoded frozenset, relative to the object, and its number of
/// entries. The number is 0 if the table inside the struct is large enough.
pub fn frozenset_room(encoded: &Encoded) -> (usize, usize) {
    let start = size_of::<raw::PySetObject>();
    (
        start,
        (encoded.bytes.len() - encoded.head - start) / size_of::<raw::setentry>(),
    )
}

/// Objects that a code object points to.
pub struct CodeParts<T> {
    pub consts: T,
    pub names: T,
    pub exceptiontable: T,
    pub localsplusnames: T,
    pub localspluskinds: T,
    pub filename: T,
    pub name: T,
    pub qualname: T,
    pub linetable: T,
}

impl<T> CodeParts<T> {
    /// Converts the parts, in a fixed order.
    pub fn try_map<U, E>(
        self,
        mut f: impl FnMut(T) -> std::result::Result<U, E>,
    ) -> std::result::Result<CodeParts<U>, E> {
        Ok(CodeParts {
            consts: f(self.consts)?,
            names: f(self.names)?,
            exceptiontable: f(self.exceptiontable)?,
            localsplusnames: f(self.localsplusnames)?,
            localspluskinds: f(self.localspluskinds)?,
            filename: f(self.filename)?,
            name: f(self.name)?,
            qualname: f(self.qualname)?,
            linetable: f(self.linetable)?,
        })
    }
}

pub fn code_parts(object: &Object) -> CodeParts<Object> {
    let code: *const raw::PyCodeObject = object.as_ptr().cast();
    // SAFETY: the object is a code object, in which none of these fields is NULL (`_PyCode_Validate`).
    unsafe {
        CodeParts {
            consts: Object::from_borrowed((*code).co_consts),
            names: Object::from_borrowed((*code).co_names),
            exceptiontable: Object::from_borrowed((*code).co_exceptiontable),
            localsplusnames: Object::from_borrowed((*code).co_localsplusnames),
            localspluskinds: Object::from_borrowed((*code).co_localspluskinds),
            filename: Object::from_borrowed((*code).co_filename),
            name: Object::from_borrowed((*code).co_name),
            qualname: Object::from_borrowed((*code).co_qualname),
            linetable: Object::from_borrowed((*code).co_linetable),
        }
    }
}

/// The bytecode of a code object that has not run since it was unmarshalled, with its inline caches in the state that
/// `_PyCode_Quicken` (Python/specialize.c) gives them.
pub fn bytecode(object: &Object) -> &[u8] {
    let code = object.as_ptr().cast();
    // SAFETY: the object is a code object.
    unsafe {
        let start = raw::cds_glue_bytecode(code).cast();
        slice::from_raw_parts(start, raw::cds_glue_bytecode_bytes(code) as usize)
    }
}

/// A code object in the state that `init_code` (Objects/codeobject.c) gives it, with version 0. Everything that running
/// the code adds is left out: weak references, executors, cached attributes, instrumentation, extra data.
pub fn code(object: &Object, parts: &CodeParts<Reference>) -> Encoded {
    let code: *const raw::PyCodeObject = object.as_ptr().cast();
    let bytecode = bytecode(object);
    let start = offset_of!(raw::PyCodeObject, co_code_adaptive);
    // SAFETY: the object is a code object.
    let units = unsafe { (*code).ob_base.ob_size };
    let mut encoded = Encoded::var(Kind::Code, 0, start + bytecode.len(), units);
    macro_rules! copy {
        ($($field:ident),*) => {
            // SAFETY: the object is a code object.
            $(encoded.put(offset_of!(raw::PyCodeObject, $field), &unsafe { (*code).$field }.to_ne_bytes());)*
        };
    }
    copy!(
        co_flags,
        co_argcount,
        co_posonlyargcount,
        co_kwonlyargcount,
        co_stacksize,
        co_firstlineno,
        co_nlocalsplus,
        co_framesize,
        co_nlocals,
        co_ncellvars,
        co_nfreevars,
        _co_firsttraceable
    );
    macro_rules! point {
        ($($field:ident = $part:ident),*) => {
            $(encoded.point(offset_of!(raw::PyCodeObject, $field), parts.$part);)*
        };
    }
    point!(
        co_consts = consts,
        co_names = names,
        co_exceptiontable = exceptiontable,
        co_localsplusnames = localsplusnames,
        co_localspluskinds = localspluskinds,
        co_filename = filename,
        co_name = name,
        co_qualname = qualname,
        co_linetable = linetable
    );
    encoded.put(start, bytecode);
    encoded
}

/// Whether a code object belongs to a function, not to a module or class body.
pub fn is_function(object: &Object) -> bool {
    let code: *const raw::PyCodeObject = object.as_ptr().cast();
    // SAFETY: the object is a code object.
    unsafe { (*code).co_flags as u32 & raw::CO_OPTIMIZED != 0 }
}

/// An identity of a code object that is the same in all processes: file, qualified name, line.
pub fn code_identity(object: &Object) -> Result<String> {
    let code: *const raw::PyCodeObject = object.as_ptr().cast();
    let parts = code_parts(object);
    // SAFETY: the object is a code object.
    let line = unsafe { (*code).co_firstlineno };
    Ok(format!(
        "{}\0{}\0{line}",
        parts.filename.to_str()?,
        parts.qualname.to_str()?
    ))
}

/// Sets `co_version`. The writer numbers the code objects itself, because the versions that one interpreter assigns
/// would collide with those of another.
pub fn set_code_version(encoded: &mut Encoded, version: u32) {
    encoded.put(
        offset_of!(raw::PyCodeObject, co_version),
        &version.to_ne_bytes(),
    );
}

/// The index of the docstring among the constants of a code object. A function has it as its first constant (`func_new`
/// in Objects/funcobject.c); a module or class body stores it as `__doc__`.
pub fn docstring_index(object: &Object) -> Result<Option<usize>> {
    let code: *const raw::PyCodeObject = object.as_ptr().cast();
    // SAFETY: the object is a code object.
    let names = unsafe { Object::from_borrowed((*code).co_names) };
    if is_function(object) {
        // SAFETY: the object is a code object.
        let name = unsafe { Object::from_borrowed((*code).co_name) };
        // A lambda or a generator expression has no docstring; its first constant can be anything.
        return Ok((!name.to_str()?.starts_with('<')).then_some(0));
    }
    let doc = names
        .to_items()?
        .iter()
        .position(|name| matches!(name.to_str(), Ok("__doc__")));
    let Some(doc) = doc else { return Ok(None) };
    let mut argument = 0;
    let mut constant = None;
    for unit in bytecode(object).chunks_exact(2) {
        let opcode = u32::from(unit[0]);
        argument = argument << 8 | usize::from(unit[1]);
        match opcode {
            raw::EXTENDED_ARG => continue,
            raw::LOAD_CONST => constant = Some(argument),
            raw::STORE_NAME if argument == doc => return Ok(constant),
            _ => constant = None,
        }
        argument = 0;
    }
    Ok(None)
}
