//! The heap as the garbage collector sees it: the collector's lists, and the references between objects.

use std::ffi::{c_int, c_void};
use std::ptr;

use super::raw;
use super::table::Table;

pub type Address = *mut raw::PyObject;

/// The collector's lists of objects. Objects in the permanent list are never collected (`gc.freeze()`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generations {
    /// The oldest generation first: this is the order in which the collector would find objects to be garbage.
    Collected,
    Permanent,
}

impl Generations {
    fn heads(self) -> impl Iterator<Item = *mut raw::PyGC_Head> {
        let last = raw::NUM_GENERATIONS as c_int;
        let indices = match self {
            Self::Collected => 0..last,
            Self::Permanent => last..last + 1,
        };
        // SAFETY: the GIL is held, and each of these indices has a list.
        indices
            .rev()
            .map(|index| unsafe { raw::cds_glue_generation(index) })
    }

    /// The objects of the lists.
    pub fn objects(self) -> Table<Address> {
        // SAFETY: nothing changes the lists during the iteration.
        unsafe { self.walk() }.collect()
    }

    /// The same as an iterator, which is faster for many objects: each object is used while its header is in the cache.
    ///
    /// # Safety
    /// Nothing changes the lists as long as the iterator is used.
    pub unsafe fn walk(self) -> impl Iterator<Item = Address> {
        self.heads().flat_map(|head| {
            let in_list = move |header: *mut raw::PyGC_Head| (header != head).then_some(header);
            // SAFETY: a list is a ring of headers, each followed by its object. The caller ensures that the ring does
            // not change.
            unsafe {
                std::iter::successors(in_list(next(head)), move |&header| in_list(next(header)))
                    .map(|header| header.add(1).cast())
            }
        })
    }
}

/// The objects of all lists.
pub fn all_tracked() -> Table<Address> {
    // Imports may have called `gc.freeze()`, which moves objects to the permanent list.
    let mut tracked = Generations::Permanent.objects();
    tracked.extend(Generations::Collected.objects().iter().copied());
    tracked
}

/// # Safety
/// The header is in a list.
unsafe fn next(header: *mut raw::PyGC_Head) -> *mut raw::PyGC_Head {
    // SAFETY: the caller passes a header that is in a list.
    ptr::with_exposed_provenance_mut(unsafe { (*header)._gc_next })
}

/// # Safety
/// The header is in a list.
unsafe fn previous(header: *mut raw::PyGC_Head) -> *mut raw::PyGC_Head {
    // SAFETY: the caller passes a header that is in a list. The lowest bits are flags.
    let word = unsafe { (*header)._gc_prev } & !FLAGS;
    ptr::with_exposed_provenance_mut(word)
}

/// The mask of the flags in `_gc_prev` (Include/internal/pycore_gc.h).
const FLAGS: usize = (1 << raw::_PyGC_PREV_SHIFT) - 1;

/// A list for objects that were taken out of the collector's lists while each of them is processed. An object that dies
/// meanwhile is removed from the list by its deallocation.
pub struct Ring(Box<raw::PyGC_Head>);

impl Ring {
    /// Takes objects out of the collector's lists.
    ///
    /// # Safety
    /// All objects are tracked, and none occurs twice.
    pub unsafe fn of(objects: impl IntoIterator<Item = Address>) -> Self {
        // SAFETY: the header consists of two integers, for which 0 is valid.
        let mut ring = Self(Box::new(unsafe { std::mem::zeroed() }));
        let head = ring.head();
        // SAFETY: the header is made a ring of one header; the caller passes tracked objects.
        unsafe {
            (*head)._gc_next = head.expose_provenance();
            (*head)._gc_prev = head.expose_provenance();
            for object in objects {
                move_to(object, head);
            }
        }
        ring
    }

    fn head(&mut self) -> *mut raw::PyGC_Head {
        &raw mut *self.0
    }

    /// Moves each object back to the end of the oldest generation, and then calls `each` with it. The call may destroy
    /// this object or others.
    pub fn drain(&mut self, mut each: impl FnMut(Address)) {
        let head = self.head();
        // SAFETY: the ring consists of headers that are each followed by a live object, as in the collector's lists.
        unsafe {
            while next(head) != head {
                let object: Address = next(head).add(1).cast();
                move_to(object, raw::cds_glue_generation(OLDEST));
                each(object);
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.drain(|_| {});
    }
}

const OLDEST: c_int = raw::NUM_GENERATIONS as c_int - 1;

/// Moves an object to the end of the list `head`.
///
/// # Safety
/// The object is tracked, and `head` is the head of a list.
unsafe fn move_to(object: Address, head: *mut raw::PyGC_Head) {
    // SAFETY: the object is tracked, so it has a header that is in a list. Its neighbours and those at the end of the
    // other list have headers, too.
    unsafe {
        let header = object.cast::<raw::PyGC_Head>().sub(1);
        let (before, after) = (previous(header), next(header));
        link(before, after);
        link(previous(head), header);
        link(header, head);
    }
}

/// # Safety
/// Both are headers.
unsafe fn link(first: *mut raw::PyGC_Head, second: *mut raw::PyGC_Head) {
    // SAFETY: the caller passes two headers.
    unsafe {
        (*first)._gc_next = second.expose_provenance();
        let flags = (*second)._gc_prev & FLAGS;
        (*second)._gc_prev = first.expose_provenance() | flags;
    }
}

/// Moves objects of the permanent generation to the oldest generation, in their order, so that they are collected
/// again.
///
/// # Safety
/// All objects are tracked.
pub unsafe fn unfreeze(objects: impl IntoIterator<Item = Address>) {
    for object in objects {
        // SAFETY: the caller passes tracked objects, and the oldest generation has a list.
        unsafe { move_to(object, raw::cds_glue_generation(OLDEST)) };
    }
}

/// Calls `each` with each object that `object` refers to, as far as the collector knows.
///
/// # Safety
/// The object is alive, and `each` runs no Python code.
pub unsafe fn referents<F: FnMut(Address)>(object: Address, each: &mut F) {
    // SAFETY: the caller passes a live object, and it stays alive because no Python code runs.
    unsafe {
        raw::cds_glue_traverse(object, Some(visit::<F>), ptr::from_mut(each).cast());
    }
}

/// Calls `each` with the constants and names of an object, if it is a code object.
///
/// # Safety
/// As for [`referents`].
pub unsafe fn parts_of_code<F: FnMut(Address)>(object: Address, each: &mut F) {
    // SAFETY: the caller passes a live object, and it stays alive because no Python code runs.
    unsafe {
        if ptr::eq((*object).ob_type, &raw const raw::PyCode_Type) {
            let each = ptr::from_mut(each).cast();
            raw::cds_glue_traverse_code(object.cast(), Some(visit::<F>), each);
        }
    }
}

unsafe extern "C" fn visit<F: FnMut(Address)>(object: Address, each: *mut c_void) -> c_int {
    if !object.is_null() {
        // SAFETY: `each` is the function that was passed to the traversal, and nothing else uses it meanwhile.
        unsafe { (*each.cast::<F>())(object) };
    }
    0
}

/// Whether the object's type is one whose objects refer to no other objects and have no visible end: text, numbers,
/// code.
///
/// # Safety
/// The object is alive.
pub unsafe fn is_leaf(object: Address) -> bool {
    // SAFETY: the caller passes a live object.
    let kind = unsafe { (*object).ob_type };
    [
        &raw const raw::PyUnicode_Type,
        &raw const raw::PyLong_Type,
        &raw const raw::PyBytes_Type,
        &raw const raw::PyFloat_Type,
        &raw const raw::PyCode_Type,
    ]
    .iter()
    .any(|&leaf| ptr::eq(leaf, kind))
}

/// # Safety
/// The object is alive.
pub unsafe fn is_immortal(object: Address) -> bool {
    // SAFETY: the caller passes a live object.
    unsafe { raw::cds_glue_is_immortal(object) != 0 }
}
