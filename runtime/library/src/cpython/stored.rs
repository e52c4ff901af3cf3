//! Objects in the bytes of a file that is not mapped: they are inspected and never used.
//!
//! The bytes may be arbitrary. Whatever does not fit is an error or is left out.

use std::mem::{offset_of, size_of};

use super::object::Kind;
use super::raw;

/// An object in a file.
#[derive(Clone, Copy)]
pub struct Stored<'a> {
    pub kind: Kind,
    /// The object, without its GC header.
    bytes: &'a [u8],
}

/// A pointer in an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    pub field: &'static str,
    /// Offset of the pointer in the object, in bytes.
    pub offset: usize,
    pub address: u64,
    /// The kind of object that it must point to, if only one is possible.
    pub expected: Option<Kind>,
}

/// The value of an object that has no pointers except its type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Bytes(Vec<u8>),
    /// In hexadecimal, with a leading `-` if it is negative.
    Int(String),
    Float(f64),
    Complex(f64, f64),
}

/// The numbers in a code object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeNumbers {
    pub first_line: u32,
    pub flags: u32,
    pub stack_size: u32,
    /// Length of the bytecode including its inline caches, in bytes.
    pub bytecode_bytes: usize,
}

const KINDS: [Kind; 8] = [
    Kind::Bytes,
    Kind::Code,
    Kind::Complex,
    Kind::Float,
    Kind::FrozenSet,
    Kind::Int,
    Kind::Str,
    Kind::Tuple,
];

const TYPE: usize = offset_of!(raw::PyObject, ob_type);

/// The reference count that all archived objects have.
pub fn immortal_refcount() -> u64 {
    // SAFETY: a constant that the C side initialises statically.
    unsafe { raw::cds_glue_immortal_refcount as u64 }
}

impl<'a> Stored<'a> {
    /// Reads the object at the start of `bytes`, which reach to the end of its section. `shift` is the address of this
    /// interpreter's static objects minus their address in the interpreter that wrote the file.
    ///
    /// # Errors
    /// Says what is wrong with the object.
    pub fn read(bytes: &'a [u8], shift: u64) -> Result<Self, &'static str> {
        if word(bytes, 0) != Some(immortal_refcount()) {
            return Err("its reference count is not that of an immortal object");
        }
        let kind = word(bytes, TYPE)
            .map(|address| address.wrapping_add(shift))
            .and_then(|address| {
                KINDS
                    .into_iter()
                    .find(|kind| kind.type_address() == address)
            })
            .ok_or("archives have no objects of its type")?;
        let bytes = Self { kind, bytes }
            .size()
            .and_then(|size| bytes.get(..size))
            .ok_or("it is longer than its section")?;
        Ok(Self { kind, bytes })
    }

    /// The bytes of the object, as they are in the file.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Size in bytes of the GC header before the object.
    pub fn head(&self) -> usize {
        match self.kind {
            Kind::Tuple | Kind::FrozenSet => size_of::<raw::PyGC_Head>(),
            _ => 0,
        }
    }

    fn size(&self) -> Option<usize> {
        let items = || usize::try_from(self.word(offset_of!(raw::PyVarObject, ob_size))?).ok();
        let (start, count, item) = match self.kind {
            Kind::Float => (size_of::<raw::PyFloatObject>(), 0, 0),
            Kind::Complex => (size_of::<raw::PyComplexObject>(), 0, 0),
            Kind::FrozenSet => {
                let mask = usize::try_from(self.word(offset_of!(raw::PySetObject, mask))?).ok()?;
                let slots = mask.checked_add(1)?;
                // A small hash table is part of the struct itself.
                let room = if slots > raw::PySet_MINSIZE as usize {
                    slots
                } else {
                    0
                };
                (
                    size_of::<raw::PySetObject>(),
                    room,
                    size_of::<raw::setentry>(),
                )
            }
            Kind::Bytes => (offset_of!(raw::PyBytesObject, ob_sval) + 1, items()?, 1),
            Kind::Tuple => (offset_of!(raw::PyTupleObject, ob_item), items()?, 8),
            Kind::Code => (
                offset_of!(raw::PyCodeObject, co_code_adaptive),
                items()?,
                CODE_UNIT,
            ),
            Kind::Int => {
                let (digits, _) = self.digits_place()?;
                (DIGITS, digits.max(1), size_of::<raw::digit>())
            }
            Kind::Str => {
                let (start, length, unit) = self.characters_place()?;
                (start, length.checked_add(1)?, unit)
            }
        };
        start.checked_add(count.checked_mul(item)?)
    }

    /// The object's pointers, with the type first.
    pub fn pointers(&self) -> Vec<Pointer> {
        let mut pointers = vec![(TYPE, "type", None)];
        match self.kind {
            Kind::Tuple => {
                let start = offset_of!(raw::PyTupleObject, ob_item);
                pointers.extend(
                    (start..self.bytes.len())
                        .step_by(8)
                        .map(|offset| (offset, "item", None)),
                );
            }
            Kind::Code => {
                macro_rules! fields {
                    ($($field:ident: $kind:ident),*) => {
                        [$((offset_of!(raw::PyCodeObject, $field), stringify!($field), Some(Kind::$kind))),*]
                    };
                }
                pointers.extend(fields![
                    co_filename: Str,
                    co_name: Str,
                    co_qualname: Str,
                    co_consts: Tuple,
                    co_names: Tuple,
                    co_localsplusnames: Tuple,
                    co_localspluskinds: Bytes,
                    co_exceptiontable: Bytes,
                    co_linetable: Bytes
                ]);
            }
            _ => {}
        }
        let pointer = |(offset, field, expected)| {
            Some(Pointer {
                field,
                offset,
                address: self.word(offset)?,
                expected,
            })
        };
        pointers.into_iter().filter_map(pointer).collect()
    }

    pub fn value(&self) -> Option<Value> {
        let float = |offset| self.word(offset).map(f64::from_bits);
        Some(match self.kind {
            Kind::Str => Value::Text(self.text()?),
            Kind::Bytes => {
                let start = offset_of!(raw::PyBytesObject, ob_sval);
                Value::Bytes(self.bytes.get(start..self.bytes.len() - 1)?.to_vec())
            }
            Kind::Float => Value::Float(float(offset_of!(raw::PyFloatObject, ob_fval))?),
            Kind::Complex => Value::Complex(
                float(offset_of!(raw::PyComplexObject, cval.real))?,
                float(offset_of!(raw::PyComplexObject, cval.imag))?,
            ),
            Kind::Int => Value::Int(self.hexadecimal()?),
            Kind::Code | Kind::FrozenSet | Kind::Tuple => return None,
        })
    }

    /// The numbers of a code object.
    pub fn code_numbers(&self) -> Option<CodeNumbers> {
        let number = |offset: usize| {
            let bytes = self.bytes.get(offset..offset + 4)?;
            bytes.try_into().ok().map(u32::from_ne_bytes)
        };
        let bytecode = offset_of!(raw::PyCodeObject, co_code_adaptive);
        (self.kind == Kind::Code).then_some(CodeNumbers {
            first_line: number(offset_of!(raw::PyCodeObject, co_firstlineno))?,
            flags: number(offset_of!(raw::PyCodeObject, co_flags))?,
            stack_size: number(offset_of!(raw::PyCodeObject, co_stacksize))?,
            bytecode_bytes: self.bytes.len().checked_sub(bytecode)?,
        })
    }

    /// The place of `co_version`, whose value depends on the other objects of the archive.
    pub fn version_place(&self) -> Option<std::ops::Range<usize>> {
        let start = offset_of!(raw::PyCodeObject, co_version);
        (self.kind == Kind::Code).then_some(start..start + 4)
    }

    /// The characters of a str, as they are in memory.
    pub fn characters(&self) -> Option<&'a [u8]> {
        let (start, length, unit) = self.characters_place().filter(|_| self.kind == Kind::Str)?;
        self.bytes
            .get(start..start.checked_add(length.checked_mul(unit)?)?)
    }

    /// Whether the object is an interned str.
    pub fn is_interned(&self) -> bool {
        // SAFETY: a constant that the C side initialises statically.
        let not_interned = unsafe { raw::cds_glue_not_interned };
        self.kind == Kind::Str && self.state().is_some_and(|s| s.interned() != not_interned)
    }

    /// The text of a str. Lone surrogates become replacement characters.
    fn text(&self) -> Option<String> {
        let (_, _, unit) = self.characters_place()?;
        let code = |unit: &[u8]| {
            let mut bytes = [0; 4];
            bytes[..unit.len()].copy_from_slice(unit);
            char::from_u32(u32::from_le_bytes(bytes)).unwrap_or(char::REPLACEMENT_CHARACTER)
        };
        Some(self.characters()?.chunks(unit).map(code).collect())
    }

    /// Start, length in characters, and bytes per character.
    fn characters_place(&self) -> Option<(usize, usize, usize)> {
        let length = usize::try_from(self.word(offset_of!(raw::PyASCIIObject, length))?).ok()?;
        let state = self.state()?;
        let start = if state.ascii() == 1 {
            size_of::<raw::PyASCIIObject>()
        } else {
            size_of::<raw::PyCompactUnicodeObject>()
        };
        let unit = state.kind() as usize;
        matches!(unit, 1 | 2 | 4).then_some((start, length, unit))
    }

    fn state(&self) -> Option<raw::PyASCIIObject__bindgen_ty_1> {
        let start = offset_of!(raw::PyASCIIObject, state);
        let bytes: [u8; 4] = self.bytes.get(start..start + 4)?.try_into().ok()?;
        // SAFETY: the struct consists of one unsigned int with bit fields.
        Some(unsafe { std::mem::transmute::<[u8; 4], raw::PyASCIIObject__bindgen_ty_1>(bytes) })
    }

    /// Number of digits, and whether an int is negative (cpython/longintrepr.h).
    fn digits_place(&self) -> Option<(usize, bool)> {
        let tag = self.word(offset_of!(raw::PyLongObject, long_value.lv_tag))?;
        Some((usize::try_from(tag >> 3).ok()?, tag & 3 == 2))
    }

    fn hexadecimal(&self) -> Option<String> {
        let (digits, negative) = self.digits_place()?;
        let place = DIGITS..DIGITS + digits * size_of::<raw::digit>();
        let mut nibbles = Vec::new();
        let (mut held, mut bits) = (0u64, 0);
        for digit in self.bytes.get(place)?.chunks_exact(size_of::<raw::digit>()) {
            let digit = u32::from_ne_bytes(digit.try_into().ok()?);
            held |= u64::from(digit) << bits;
            bits += raw::PyLong_SHIFT;
            while bits >= 4 {
                nibbles.push(char::from_digit((held & 15) as u32, 16)?);
                held >>= 4;
                bits -= 4;
            }
        }
        nibbles.push(char::from_digit((held & 15) as u32, 16)?);
        let text: String = nibbles.iter().rev().collect();
        let text = match text.trim_start_matches('0') {
            "" => "0",
            text => text,
        };
        Some(format!("{}{text}", if negative { "-" } else { "" }))
    }

    fn word(&self, offset: usize) -> Option<u64> {
        word(self.bytes, offset)
    }
}

/// Size of an instruction in bytes: opcode and argument (`_Py_CODEUNIT` in cpython/code.h).
const CODE_UNIT: usize = 2;

const DIGITS: usize = offset_of!(raw::PyLongObject, long_value.ob_digit);

fn word(bytes: &[u8], offset: usize) -> Option<u64> {
    let bytes = bytes.get(offset..offset.checked_add(8)?)?;
    bytes.try_into().ok().map(u64::from_ne_bytes)
}
