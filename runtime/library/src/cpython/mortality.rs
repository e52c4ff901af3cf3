//! Which objects of an image become immortal: all objects without a visible end.
//!
//! The processes of an image share an immortal object, because its reference count is never written. But it never dies:
//! its finalizer is not called, and weak references to it stay. So *noticeable* objects ([`is_noticeable`]) keep their
//! reference counts. The objects that refer to them also stay mortal, because these release them when they die, and so
//! do the objects that only they refer to. Modules, types and their namespaces do not follow this rule, since
//! everything would stay mortal then; they live until the process ends anyway. `__main__` is the exception: the objects
//! that `__main__` and the running code refer to may die at any time, and may become noticeable before, or get a
//! reference to a noticeable object. So they stay mortal, with all objects that can be reached from them, except
//! containers of plain data.

use std::ffi::{CStr, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::census::Census;
use super::heap::{self, Address};
use super::live_frames::References;
use super::native_stack::NativeStack;
use super::object::{Object, Result};
use super::own;
use super::raw;
use super::sight::{has_telling_callback, is_noticeable};
use super::table::Table;

/// Addresses of the immortal objects to which C code referred when they were made immortal. At the end of a process,
/// these are still alive when everything else is garbage.
static HELD: OnceLock<Vec<usize>> = OnceLock::new();

/// Weak references of the image with a callback that does something: their addresses, in order, and the reference
/// counts of their referents.
static REFERENCES: OnceLock<Vec<(usize, isize)>> = OnceLock::new();

static ARE_IMMORTAL: AtomicBool = AtomicBool::new(false);

/// Whether the objects of this process were made immortal.
pub fn are_immortal() -> bool {
    ARE_IMMORTAL.load(Ordering::Relaxed)
}

/// Makes objects immortal, and moves them to the collector's permanent generation. Returns the starts of the blocks of
/// memory that are never freed because these objects never die. `imported` is a module that C code is about to return.
/// `stack` has the objects to which C code refers that has not returned yet.
///
/// # Errors
/// Those of `freeze`, which calls `gc.freeze()`.
pub fn immortalize(
    imported: Option<&Object>,
    stack: &NativeStack,
    freeze: impl FnOnce() -> Result<()>,
) -> Result<Table<u64>> {
    ARE_IMMORTAL.store(true, Ordering::Relaxed);
    let tracked = heap::all_tracked();
    // SAFETY: the collector's lists contain live objects only, and none of them dies here.
    let mut census = unsafe { Census::of(&tracked) };
    let References { certain, possible } = References::of_this_thread();
    let imported = imported.map(Object::as_ptr);
    let known = certain.iter().chain(&possible).copied().chain(imported);
    let known: Vec<Address> = known.chain(signal_handlers()).collect();
    let held: Vec<Address> = census.held_besides(&known).collect();
    let (running, held): (Vec<Address>, Vec<Address>) =
        held.into_iter().partition(|&object| stack.has(object));
    mark_mortal(&mut census, &certain, &running);
    // The reference counts of marked objects show such references later, when the code that runs now has ended. A plain
    // process does not have the dict with the modules of `cds`: objects that this dict holds die when it does.
    let held = held.into_iter();
    let held = held.filter(|&object| !(census.is_marked(object) || own::is_modules(object)));
    let held: Vec<usize> = held.map(|object| object.addr()).collect();
    // SAFETY: the objects are alive, as above.
    let lasting_blocks = unsafe { make_others_immortal(&mut census) };
    freeze()?;
    let mortal = tracked.iter().copied();
    let mortal = mortal.filter(|&object| census.is_marked(object));
    // SAFETY: the objects are alive, as above, and still tracked.
    unsafe { heap::unfreeze(mortal) };
    let _ = HELD.set(held);
    // SAFETY: the objects are alive, as above.
    let _ = REFERENCES.set(unsafe { references(&tracked) });
    Ok(lasting_blocks)
}

/// # Safety
/// The objects are alive.
unsafe fn references(objects: &[Address]) -> Vec<(usize, isize)> {
    let objects = objects.iter().copied();
    // SAFETY: the caller passes live objects.
    let telling = objects.filter(|&object| unsafe { has_telling_callback(object) });
    let mut references: Vec<_> = telling
        // SAFETY: the object is a weak reference.
        .map(|reference| (reference.addr(), unsafe { referent_count(reference) }))
        .collect();
    references.sort_unstable();
    references
}

/// # Safety
/// The object is a weak reference.
unsafe fn referent_count(reference: Address) -> isize {
    let reference = reference.cast::<raw::PyWeakReference>();
    // SAFETY: the caller passes a weak reference. Its referent is alive, or None.
    unsafe { raw::cds_glue_refcount((*reference).wr_object) }
}

/// Whether a weak reference belongs to the image, and the number of references to its referent is the same as when the
/// image was taken. Then the referent dies with the image, usually together with the weak reference.
///
/// # Safety
/// The object is a weak reference.
pub unsafe fn is_as_in_image(reference: Address) -> bool {
    let references = REFERENCES.get().map_or(&[][..], Vec::as_slice);
    let found = references.binary_search_by_key(&reference.addr(), |(address, _)| *address);
    // SAFETY: the caller passes a weak reference.
    found.is_ok_and(|index| references[index].1 == unsafe { referent_count(reference) })
}

/// The immortal objects to which C code referred when they were made immortal.
pub fn held() -> impl Iterator<Item = Address> {
    let held = HELD.get().map_or(&[][..], Vec::as_slice);
    held.iter()
        .map(|&address| std::ptr::with_exposed_provenance_mut(address))
}

/// Marks the objects that stay mortal. Running Python code refers to `locals`, and C code that has not returned yet
/// refers to `running`.
fn mark_mortal(census: &mut Census, locals: &[Address], running: &[Address]) {
    let mut pending = Table::new();
    let mut is_barrier = Table::new();
    for index in 0..census.len() {
        let object = census.object(index);
        is_barrier.push(false);
        // SAFETY: the object is alive.
        if unsafe { is_noticeable(object) } && census.mark_alone(object) {
            pending.push(index);
        }
    }
    for object in main_module() {
        census.mark_alone(object);
    }
    for index in 0..census.len() {
        // SAFETY: the object is alive.
        let (is_one, namespace) = unsafe {
            let object = census.object(index);
            let is_one = raw::cds_glue_is_module_or_type(object) != 0;
            (is_one, raw::cds_glue_namespace(object))
        };
        is_barrier.as_mut()[index] |= is_one;
        if !namespace.is_null()
            && let Some(namespace) = census.index(namespace)
        {
            is_barrier.as_mut()[namespace] = true;
        }
    }
    let of_program = of_program(census, locals, &is_barrier);
    for &index in of_program.iter() {
        if census.mark_alone(census.object(index)) {
            pending.push(index);
        }
    }
    // C code releases these objects when it returns, and may change them before: for example, `list()` is making a list
    // from an iterator that imports.
    for &object in running {
        let index = census.index(object);
        if let Some(index) = index
            && !is_barrier[index]
            && census.mark_alone(object)
        {
            pending.push(index);
        }
    }
    let holders = Holders::of(census);
    while let Some(index) = pending.pop() {
        for &holder in holders.of_object(index) {
            let holder = holder as usize;
            if !is_barrier[holder] && census.mark_alone(census.object(holder)) {
                pending.push(holder);
            }
        }
    }
    let marked = 0..census.len();
    let mut marked: Table<usize> = marked
        .filter(|&index| census.is_index_marked(index))
        .collect();
    let mut next = 0;
    while next < marked.len() {
        let referents = census.referents_of(marked[next]);
        let referents: Table<u32> = referents.iter().copied().collect();
        next += 1;
        for &referent in referents.iter() {
            let index = referent as usize;
            let object = census.object(index);
            // SAFETY: the object is alive.
            let is_held_by_these_only = !is_barrier[index]
                && unsafe { raw::cds_glue_refcount(object) } == census.counts()[index] as isize
                && holders
                    .of_object(index)
                    .iter()
                    .all(|&holder| census.is_index_marked(holder as usize));
            if is_held_by_these_only && census.mark_alone(object) {
                marked.push(index);
            }
        }
    }
    for index in 0..census.len() {
        let object = census.object(index);
        // SAFETY: the object is alive.
        if unsafe { is_lock(object) } {
            census.mark_alone(object);
        }
    }
}

/// Whether an object is a lock of the module `_thread`. eventlet replaces all locks, then searches for others and
/// complains about them: the locks that it has replaced must have died. An object that refers to a lock may be
/// immortal. A lock is written to in any case when it is taken.
///
/// # Safety
/// The object is alive.
unsafe fn is_lock(object: Address) -> bool {
    // SAFETY: the caller passes a live object, and the name is NUL-terminated.
    let name = unsafe { CStr::from_ptr(raw::cds_glue_type_name(object)) };
    name == c"_thread.RLock" || name == c"_thread.lock"
}

/// The objects of the program: the referents of its variables, and the objects that can be reached from there and are
/// not plain data.
fn of_program(census: &mut Census, locals: &[Address], is_barrier: &Table<bool>) -> Table<usize> {
    let mut found: Table<usize> = Table::new();
    let mut pending: Table<usize> = Table::new();
    let mut is_known: Table<bool> = Table::new();
    is_known.extend(std::iter::repeat_n(false, census.len()));
    let namespace = main_module().last();
    let namespace = namespace.and_then(|namespace| census.index(namespace));
    let variables = namespace.map_or(&[][..], |index| census.referents_of(index));
    let variables: Vec<usize> = variables.iter().map(|&index| index as usize).collect();
    let locals: Vec<usize> = locals
        .iter()
        .filter_map(|&object| census.index(object))
        .collect();
    // Immortal objects are left out: everything refers to None and similar objects.
    for index in 0..census.len() {
        // SAFETY: the object is alive.
        is_known.as_mut()[index] =
            is_barrier[index] || unsafe { heap::is_immortal(census.object(index)) };
    }
    for index in variables.into_iter().chain(locals) {
        if !std::mem::replace(&mut is_known.as_mut()[index], true) {
            found.push(index);
            pending.push(index);
        }
    }
    while let Some(index) = pending.pop() {
        let referents: Table<u32> = census.referents_of(index).iter().copied().collect();
        for &referent in referents.iter() {
            let referent = referent as usize;
            if std::mem::replace(&mut is_known.as_mut()[referent], true) {
                continue;
            }
            pending.push(referent);
            // SAFETY: the object is alive.
            if unsafe { raw::cds_glue_has_heap_type(census.object(referent)) } != 0 {
                found.push(referent);
            }
        }
    }
    found
}

/// The handlers of signals. An interpreter drops them before it finalizes anything (Modules/signalmodule.c,
/// `_PySignal_Fini()`).
fn signal_handlers() -> impl Iterator<Item = Address> {
    // SAFETY: there is an interpreter, and the GIL is held.
    let handlers = (1..=64).map(|signal| unsafe { raw::cds_glue_signal_handler(signal) });
    handlers.filter(|handler| !handler.is_null())
}

/// `__main__` and its namespace. The program's variables die with them.
fn main_module() -> impl Iterator<Item = Address> {
    // SAFETY: the references are borrowed from `sys.modules`, and a module has a namespace.
    unsafe {
        let main = raw::PyDict_GetItemString(raw::cds_glue_modules(), c"__main__".as_ptr());
        let main = (!main.is_null()).then_some(main);
        let namespace = main.map(|main| raw::cds_glue_namespace(main));
        let namespace = namespace.filter(|namespace| !namespace.is_null());
        main.into_iter().chain(namespace)
    }
}

/// For each object of a census: the objects that refer to it.
struct Holders {
    /// For each object: the index in `holders` at which its holders begin.
    starts: Table<u32>,
    holders: Table<u32>,
}

impl Holders {
    fn of(census: &Census) -> Self {
        let mut starts = Table::new();
        let mut total = 0;
        for &count in census.counts() {
            starts.push(total);
            total += count;
        }
        starts.push(total);
        let mut holders = Table::new();
        holders.extend_with_zeros(total as usize);
        let mut filled: Table<u32> = Table::new();
        filled.extend_with_zeros(census.len());
        for index in 0..census.len() {
            for &referent in census.referents_of(index) {
                let referent = referent as usize;
                let place = starts[referent] + filled[referent];
                holders.as_mut()[place as usize] = index as u32;
                filled.as_mut()[referent] += 1;
            }
        }
        Self { starts, holders }
    }

    fn of_object(&self, index: usize) -> &[u32] {
        &self.holders[self.starts[index] as usize..self.starts[index + 1] as usize]
    }
}

/// Makes all unmarked objects immortal, and also the parts of all objects that are not in the census. Returns the
/// starts of the blocks of memory that are freed only when one of these objects dies, which is never.
///
/// # Safety
/// All objects are alive.
unsafe fn make_others_immortal(census: &mut Census) -> Table<u64> {
    unsafe extern "C" fn note(start: *const c_void, blocks: *mut c_void) {
        // SAFETY: `blocks` is the table that was passed below, and nothing else uses it meanwhile.
        unsafe { (*blocks.cast::<Table<u64>>()).push(start.addr() as u64) };
    }
    let mut blocks = Table::new();
    let mut make_immortal = |object| {
        // SAFETY: the caller passes live objects, and `note` is called with the table.
        unsafe {
            raw::cds_glue_make_immortal(object);
            raw::cds_glue_lasting_blocks(object, Some(note), (&raw mut blocks).cast());
        }
    };
    // The parts are text, numbers and code, and objects to which only code refers.
    let mut parts = Table::new();
    for index in 0..census.len() {
        let object = census.object(index);
        // SAFETY: the caller passes live objects.
        unsafe {
            if !census.is_marked(object) && !heap::is_immortal(object) {
                make_immortal(object);
            }
            heap::referents(object, &mut |referent| parts.push(referent));
        }
        while let Some(part) = parts.pop() {
            // SAFETY: the part is alive, because a live object refers to it.
            unsafe {
                if census.index(part).is_some() || heap::is_immortal(part) {
                    continue;
                }
                make_immortal(part);
                heap::parts_of_code(part, &mut |part| parts.push(part));
                heap::referents(part, &mut |referent| parts.push(referent));
            }
        }
    }
    blocks
}
