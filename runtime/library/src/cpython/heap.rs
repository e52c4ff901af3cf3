//! The heap as the garbage collector sees it: its lists, and the references between objects.

use std::ffi::{c_int, c_void};
use std::ptr;

use super::raw;
use super::table::Table;

pub type Address = *mut raw::PyObject;

/// The collector's lists of objects. Those of the permanent one are never collected (`gc.freeze()`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generations {
    /// The oldest first, which is the order in which objects would be found to be garbage.
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
        // SAFETY: the GIL is held, and there is a list of each number.
        indices
            .rev()
            .map(|index| unsafe { raw::cds_glue_generation(index) })
    }

    /// The objects of the lists.
    pub fn objects(self) -> Table<Address> {
        // SAFETY: nothing changes them meanwhile.
        unsafe { self.walk() }.collect()
    }

    /// The same, one after the other: whoever looks at each of many objects looks at it while its header is in the cache.
    ///
    /// # Safety
    /// Nothing changes the lists as long as the iterator is used.
    pub unsafe fn walk(self) -> impl Iterator<Item = Address> {
        self.heads().flat_map(|head| {
            let in_list = move |header: *mut raw::PyGC_Head| (header != head).then_some(header);
            // SAFETY: the list is a ring of headers, each of which is followed by its object; the caller knows that it stays so.
            unsafe {
                std::iter::successors(in_list(next(head)), move |&header| in_list(next(header)))
                    .map(|header| header.add(1).cast())
            }
        })
    }
}

/// The objects of all lists.
pub fn all_tracked() -> Table<Address> {
    // Imports may have put some aside, too.
    let mut tracked = Generations::Permanent.objects();
    tracked.extend(Generations::Collected.objects().iter().copied());
    tracked
}

/// # Safety
/// The header is in a list.
unsafe fn next(header: *mut raw::PyGC_Head) -> *mut raw::PyGC_Head {
    // SAFETY: the caller knows that the header is in a list.
    ptr::with_exposed_provenance_mut(unsafe { (*header)._gc_next })
}

/// # Safety
/// The header is in a list.
unsafe fn previous(header: *mut raw::PyGC_Head) -> *mut raw::PyGC_Head {
    // SAFETY: the caller knows that the header is in a list; the lowest bits are flags.
    let word = unsafe { (*header)._gc_prev } & !FLAGS;
    ptr::with_exposed_provenance_mut(word)
}

/// The flags in `_gc_prev` (Include/internal/pycore_gc.h).
const FLAGS: usize = (1 << raw::_PyGC_PREV_SHIFT) - 1;

/// A list of objects that were taken out of the collector's lists, for as long as something is done with each of them.
/// Objects that die meanwhile leave it by themselves.
pub struct Ring(Box<raw::PyGC_Head>);

impl Ring {
    /// Takes objects out of the collector's lists.
    ///
    /// # Safety
    /// All are tracked, and none is twice among them.
    pub unsafe fn of(objects: impl IntoIterator<Item = Address>) -> Self {
        // SAFETY: two words, for which 0 is a value.
        let mut ring = Self(Box::new(unsafe { std::mem::zeroed() }));
        let head = ring.head();
        // SAFETY: makes a ring of one header.
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

    /// Moves each object back to the end of the oldest generation, and then does something with it, which may end its life
    /// or that of others.
    pub fn drain(&mut self, mut each: impl FnMut(Address)) {
        let head = self.head();
        // SAFETY: as for `objects()`; an object in the list is alive.
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

/// Moves an object to the end of a list.
///
/// # Safety
/// It is tracked.
unsafe fn move_to(object: Address, head: *mut raw::PyGC_Head) {
    // SAFETY: the caller knows that the object is tracked, it has a header that is in a list; its neighbours and those
    // at the list's end have one, too.
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
    // SAFETY: the caller passes headers.
    unsafe {
        (*first)._gc_next = second.expose_provenance();
        let flags = (*second)._gc_prev & FLAGS;
        (*second)._gc_prev = first.expose_provenance() | flags;
    }
}

/// Has objects of the permanent generation be collected again, as the oldest, in their order.
///
/// # Safety
/// All are tracked.
pub unsafe fn unfreeze(objects: impl IntoIterator<Item = Address>) {
    for object in objects {
        // SAFETY: the caller knows that all are tracked; there is such a list.
        unsafe { move_to(object, raw::cds_glue_generation(OLDEST)) };
    }
}

/// Calls a function with each object that another one refers to, as far as the collector knows.
///
/// # Safety
/// The object is alive, and the function runs no Python code.
pub unsafe fn referents<F: FnMut(Address)>(object: Address, each: &mut F) {
    // SAFETY: the caller knows that the object is alive, and stays so as no Python code runs.
    unsafe {
        raw::cds_glue_traverse(object, Some(visit::<F>), ptr::from_mut(each).cast());
    }
}

/// The same for the constants and names of an object, if it is code.
///
/// # Safety
/// As for [`referents`].
pub unsafe fn parts_of_code<F: FnMut(Address)>(object: Address, each: &mut F) {
    // SAFETY: the caller knows that the object is alive, and stays so as no Python code runs.
    unsafe {
        if ptr::eq((*object).ob_type, &raw const raw::PyCode_Type) {
            let each = ptr::from_mut(each).cast();
            raw::cds_glue_traverse_code(object.cast(), Some(visit::<F>), each);
        }
    }
}

unsafe extern "C" fn visit<F: FnMut(Address)>(object: Address, each: *mut c_void) -> c_int {
    if !object.is_null() {
        // SAFETY: it is the function that was given, which nobody else uses meanwhile.
        unsafe { (*each.cast::<F>())(object) };
    }
    0
}

/// Whether an object is of a type whose objects refer to no others and whose end does nothing: text and numbers.
///
/// # Safety
/// The object is alive.
pub unsafe fn is_leaf(object: Address) -> bool {
    // SAFETY: the caller knows that the object is alive.
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
    // SAFETY: the caller knows that the object is alive.
    unsafe { raw::cds_glue_is_immortal(object) != 0 }
}
