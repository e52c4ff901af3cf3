//! The end of an interpreter whose objects are mostly immortal. It does for mortal objects what `finalize_modules()`
//! (Python/pylifecycle.c) does in a plain interpreter, as if all objects could die.
//!
//! A plain interpreter removes all modules, collects garbage, clears the modules that are still alive, then `sys` and
//! `builtins`. Here, the collector would not find garbage to which an immortal object refers. So this module finds the
//! garbage itself: all that cannot be reached from the objects to which C code refers ([`held`]). It clears weak
//! references to the garbage and calls finalizers in the collector's order.

use std::collections::HashMap;
use std::ffi::CStr;

use super::census::Census;
use super::closing::part_of_file;
use super::collector;
use super::graph::Graph;
use super::heap::{self, Address, Generations, Ring};
use super::mortality::{held, is_as_in_image};
use super::object::{Kind, Object, Raised, Result};
use super::raw;
use super::sight::{Seen, Sight, has_seen_callback, has_telling_callback};
use super::table::Table;

/// The attributes of `sys` that `_PyImport_FiniExternal()` and `finalize_modules_delete_special()` set to None.
const SPECIAL: [&CStr; 12] = [
    c"path_importer_cache",
    c"path_hooks",
    c"path",
    c"argv",
    c"ps1",
    c"ps2",
    c"last_exc",
    c"last_type",
    c"last_value",
    c"last_traceback",
    c"__interactivehook__",
    c"meta_path",
];

/// The standard streams, and the attributes with their first values.
const STREAMS: [(&CStr, &CStr); 3] = [
    (c"stdin", c"__stdin__"),
    (c"stdout", c"__stdout__"),
    (c"stderr", c"__stderr__"),
];

/// The end of this interpreter.
pub struct Ending {
    sight: Sight,
    is_strict: bool,
    modules: Vec<Module>,
    /// The objects of which only [`Seen::Native`] is visible, as the last call of [`Ending::seen`] found them.
    native: Table<Address>,
}

/// Whether anything was finalized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finalized {
    Something,
    Nothing,
}

/// A module that was in `sys.modules`.
enum Module {
    Immortal(Address),
    /// A weak reference to the module.
    Mortal(Object),
}

impl Ending {
    /// If `is_strict`, objects that count as unchanged since the image was taken are compared with the record.
    ///
    /// # Errors
    /// Fails if a module or class of the interpreter is missing, or if there is no memory left.
    pub fn new(is_strict: bool) -> Result<Self> {
        Ok(Self {
            sight: Sight::new()?,
            is_strict,
            modules: Vec::new(),
            native: Table::new(),
        })
    }

    /// Whether any mortal object has a visible end.
    pub fn is_seen(&mut self) -> bool {
        self.seen() != Seen::Nothing
    }

    /// How much is visible of the end of all mortal objects: through what the objects do themselves, or through
    /// callbacks of weak references.
    pub fn seen(&mut self) -> Seen {
        let mut pending = Table::new();
        let mut seen = Seen::Nothing;
        self.native = Table::new();
        // SAFETY: no Python code runs, so the lists do not change.
        for object in unsafe { Generations::Collected.walk() } {
            // SAFETY: the object is alive, and no Python code runs.
            let seen_of_this = unsafe {
                if is_told_of_another(object) {
                    return Seen::Anything;
                }
                self.seen_of(object, &mut pending)
            };
            match seen_of_this {
                Seen::Nothing => {}
                Seen::Native => self.native.push(object),
                Seen::Anything => return Seen::Anything,
            }
            seen = seen.max(seen_of_this);
        }
        seen
    }

    /// # Safety
    /// The object is alive.
    unsafe fn seen_of(&mut self, object: Address, pending: &mut Table<Address>) -> Seen {
        /// The number of objects that are visited for one: a structure of untracked objects can be very large.
        const MOST: usize = 1 << 16;
        // SAFETY: the caller passes a live object.
        let seen = unsafe { self.sight.seen_of_end(object) };
        pending.push(object);
        let mut looked_at = 0;
        while let Some(object) = pending.pop() {
            looked_at += 1;
            // SAFETY: the object is alive, because the caller passes it or a live object refers to it.
            unsafe {
                if looked_at > MOST || looked_at > 1 && self.sight.sees_end(object) {
                    return Seen::Anything;
                }
                heap::referents(object, &mut |referent| {
                    let is_other = heap::is_leaf(referent)
                        || heap::is_immortal(referent)
                        || raw::cds_glue_is_tracked(referent) != 0;
                    if !is_other {
                        pending.push(referent);
                    }
                });
            }
        }
        seen
    }

    /// Whether the program can notice the collection with which the end begins.
    pub fn is_collection_seen() -> bool {
        collector::is_observed()
    }

    /// Collects garbage before anything is removed, unless the program has disabled collections. The program's
    /// `gc.callbacks` are called for this collection and not for later ones.
    pub fn collect_first() {
        // SAFETY: there is an interpreter, and the GIL is held.
        unsafe {
            raw::PyGC_Collect();
            raw::cds_glue_forget_collection_callbacks();
        }
    }

    /// Removes the references to the modules, and removes from `sys` and `builtins` what the program has put there.
    ///
    /// # Errors
    /// Fails if there is no memory left.
    pub fn detach_modules(&mut self) -> Result<()> {
        // SAFETY: these dicts exist as long as the interpreter does, whatever Python code runs meanwhile.
        unsafe {
            let none = &raw mut raw::_Py_NoneStruct;
            let (system, builtins) = (raw::cds_glue_sys_namespace(), raw::cds_glue_builtins());
            done(raw::PyDict_SetItemString(builtins, c"_".as_ptr(), none))?;
            for name in SPECIAL {
                done(raw::PyDict_SetItemString(system, name.as_ptr(), none))?;
            }
            for (name, first) in STREAMS {
                let value = raw::PyDict_GetItemString(system, first.as_ptr());
                let value = if value.is_null() { none } else { value };
                let value = Object::from_borrowed(value);
                done(raw::PyDict_SetItemString(
                    system,
                    name.as_ptr(),
                    value.as_ptr(),
                ))?;
            }
            let modules = raw::cds_glue_modules();
            let (mut position, mut name, mut module) = (0, none, none);
            while raw::PyDict_Next(modules, &mut position, &mut name, &mut module) != 0 {
                if raw::cds_glue_is_module(module) == 0 {
                    continue;
                }
                self.modules.push(if heap::is_immortal(module) {
                    Module::Immortal(module)
                } else {
                    let reference = raw::PyWeakref_NewRef(module, std::ptr::null_mut());
                    Module::Mortal(Object::from_new(reference)?)
                });
                done(raw::PyDict_SetItem(modules, name, none))?;
            }
            raw::PyDict_Clear(modules);
            let old = Object::from_new(raw::PyDict_Copy(builtins))?;
            raw::PyDict_Clear(builtins);
            done(raw::PyDict_Update(builtins, raw::cds_glue_first_builtins()))?;
            drop(old);
        }
        Ok(())
    }

    /// Whether a collection now would not give the result of a collection in which all objects can die: an object with
    /// a visible end would stay alive, or a callback would be called although its weak reference would be garbage, too.
    /// If the collection calls Python code, effects that otherwise count as invisible are visible to that code.
    pub fn leaves_something(&mut self) -> bool {
        let census = mortal();
        let (mut leaves_unseen, mut is_code_called) = (false, false);
        for index in 0..census.len() {
            let object = census.object(index);
            // SAFETY: the object is alive, and no Python code runs.
            unsafe {
                if census.is_marked(object) {
                    if self.sight.sees_end(object) {
                        return true;
                    }
                    leaves_unseen |= self.sight.is_end_idle(object);
                    continue;
                }
                for reference in weak_references(object) {
                    if has_telling_callback(reference) && census.is_marked(reference) {
                        if has_seen_callback(reference) {
                            return true;
                        }
                        leaves_unseen = true;
                    }
                }
                is_code_called |= self.sight.seen_of_end(object) == Seen::Anything;
            }
        }
        leaves_unseen && is_code_called
    }

    /// Destroys the objects whose end is [`Seen::Native`], provided that all of them are garbage now that the modules
    /// are removed, or would be if all objects could die. Returns whether the end is complete: nothing can notice when
    /// these objects die, apart from what they do outside of the interpreter.
    pub fn collect_native(&mut self) -> bool {
        match self.seen() {
            Seen::Nothing => return true,
            Seen::Native => {}
            Seen::Anything => return false,
        }
        // Usually only mortal objects refer to them. This check is cheaper.
        if self.is_native_marked(&mortal()) {
            let census = self.reachable();
            if self.is_native_marked(&census) {
                return false;
            }
            release_garbage(census);
        }
        Self::collect();
        !self.is_seen()
    }

    fn is_native_marked(&self, census: &Census) -> bool {
        let mut native = self.native.iter();
        native.any(|&object| census.is_marked(object))
    }

    /// Collects garbage. Returns the number of objects that were found.
    pub fn collect() -> isize {
        // SAFETY: there is an interpreter, and the GIL is held.
        unsafe { raw::cds_glue_collect() }
    }

    /// Finalizes the objects that would be garbage if all objects could die. Modules of the image that would be garbage
    /// are removed from the list, because a plain process would not clear them.
    pub fn collect_as_if_all_died(&mut self) {
        let mut census = self.reachable();
        let unreferenced = census.unreferenced();
        if self.finalize(&census, &unreferenced) == Finalized::Something {
            census = self.reachable();
        }
        self.modules.retain(|module| match module {
            Module::Immortal(module) => census.is_marked(*module),
            Module::Mortal(_) => true,
        });
        let garbage = census.unmarked();
        let is_deallocation_seen = garbage.iter().any(|&index| {
            let object = census.object(index);
            // SAFETY: the object is alive.
            let is_immortal = census.is_known(index) || unsafe { heap::is_immortal(object) };
            // SAFETY: the object is alive.
            !is_immortal && unsafe { self.sight.sees_dealloc(object) }
        });
        let finalized = self.finalize(&census, &garbage);
        let is_as_it_was = Self::collect() == 0 && finalized == Finalized::Nothing;
        if is_deallocation_seen {
            if !is_as_it_was {
                census = self.reachable();
            }
            release_garbage(census);
            Self::collect();
        }
    }

    /// Finalizes the objects that would die because of their reference count if all objects could die.
    pub fn finalize_unreferenced(&mut self) {
        let census = self.reachable();
        let unreferenced = census.unreferenced();
        self.finalize(&census, &unreferenced);
    }

    /// Clears weak references to garbage, calls their callbacks, and finalizes the garbage.
    fn finalize(&mut self, census: &Census, garbage: &[usize]) -> Finalized {
        let mut is_dying: Table<bool> = Table::zeros(census.len());
        for &index in garbage {
            is_dying.as_mut()[index] = true;
        }
        let mut finalizable = Table::new();
        let mut callbacks = Vec::new();
        for &index in garbage {
            // An unchanged object of the image has no new weak references.
            if !census.is_new(index) {
                continue;
            }
            let object = census.object(index);
            // SAFETY: the object is alive, and no Python code runs.
            unsafe {
                if raw::cds_glue_is_tracked(object) != 0 {
                    let mut outlives = |reference| {
                        let index = census.index(reference);
                        index.is_none_or(|index| !is_dying[index])
                    };
                    clear_weak_references(object, &mut outlives, &mut callbacks);
                    if self.sight.has_end(object) {
                        finalizable.push(object);
                    }
                }
            }
        }
        if callbacks.is_empty() && finalizable.is_empty() {
            return Finalized::Nothing;
        }
        // SAFETY: the objects are tracked and alive.
        let mut ring = unsafe { in_order(&finalizable) };
        for reference in callbacks {
            call_back(&reference);
        }
        // SAFETY: the objects in the ring are alive.
        ring.drain(|object| unsafe { raw::PyObject_CallFinalizer(object) });
        Finalized::Something
    }

    /// Clears the modules that are still alive, the last one first, as `_PyModule_ClearDict()` in
    /// Objects/moduleobject.c does.
    pub fn clear_modules(&mut self) {
        let mut counted = Counted::of(self.reachable());
        while let Some(module) = self.modules.pop() {
            let module = match module {
                // SAFETY: the module is immortal.
                Module::Immortal(module) => unsafe { Object::from_borrowed(module) },
                Module::Mortal(reference) => match reference.call(Vec::new()) {
                    Ok(module) if !module.is_none() => module,
                    Ok(_) => continue,
                    Err(raised) => {
                        raised.clear();
                        continue;
                    }
                },
            };
            // SAFETY: the object is a module, and its namespace is a dict.
            unsafe {
                let namespace = raw::cds_glue_namespace(module.as_ptr());
                let is_last = [raw::cds_glue_builtins(), raw::cds_glue_sys_namespace()];
                if is_last.contains(&namespace) {
                    continue;
                }
                for is_private in [true, false] {
                    counted.clear_names(namespace, is_private);
                }
            }
            // If no object with a visible end is left, clearing the other modules has no visible effect.
            if counted.is_worth_a_look() && !self.is_seen() {
                return;
            }
        }
    }

    fn all_objects(&self) -> Census {
        if let Some(graph) = Graph::get()
            && let Ok(changed) = graph.changed()
        {
            if self.is_strict {
                graph.verify(&changed);
            }
            // SAFETY: the collector's lists contain live objects only, and immortal objects are alive.
            return unsafe { Census::since(graph, &changed, &Generations::Collected.objects()) };
        }
        // SAFETY: the collector's lists contain live objects only.
        unsafe { Census::of(&heap::all_tracked()) }
    }

    /// A census of all objects. Marked are those that would not be garbage if all objects could die.
    fn reachable(&self) -> Census {
        let mut census = self.all_objects();
        let roots: Table<Address> = held().chain(census.held_from_outside()).collect();
        census.mark(roots.iter().copied());
        census
    }

    /// Clears `sys` and `builtins`.
    pub fn clear_interpreter() {
        // SAFETY: there is an interpreter, and the GIL is held.
        unsafe {
            raw::cds_glue_clear_namespace(raw::cds_glue_sys_namespace());
            raw::cds_glue_clear_namespace(raw::cds_glue_builtins());
        }
    }

    /// Drops the objects to which the states of the thread and of the interpreter refer, and finalizes the objects that
    /// remain. An object to which C code or a running thread refers is not finalized, as in a plain process.
    pub fn finalize_rest(&mut self) {
        // SAFETY: there is an interpreter, and the GIL is held. The objects of the collector's lists are tracked, and
        // the objects in the ring are alive.
        unsafe {
            for object in taken_from_states() {
                // A function may have other references, so it is not cleared.
                if heap::is_immortal(object) && raw::PyCallable_Check(object) == 0 {
                    raw::cds_glue_clear(object);
                }
                raw::Py_DecRef(object);
            }
            let mut census = self.all_objects();
            let roots: Table<Address> = census.held_from_outside().collect();
            census.mark(roots.iter().copied());
            let objects = Generations::Collected.objects();
            let objects = objects.iter().copied();
            let finalizable = objects
                .filter(|&object| !census.is_marked(object) && self.sight.has_end(object))
                .collect();
            drop(census);
            let mut ring = in_order(&finalizable);
            ring.drain(|object| raw::PyObject_CallFinalizer(object));
        }
    }
}

/// A census of the mortal objects. Marked are those that are not garbage.
fn mortal() -> Census {
    // The collector tracks an immortal dict from its first item until the next collection.
    let is_mortal = |&object: &Address| {
        // SAFETY: the collector's lists contain live objects only.
        unsafe { !heap::is_immortal(object) }
    };
    // SAFETY: no Python code runs, so the lists do not change.
    let tracked = unsafe { Generations::Collected.walk() };
    let tracked: Table<Address> = tracked.filter(is_mortal).collect();
    // SAFETY: the collector's lists contain live objects only.
    let mut census = unsafe { Census::of(&tracked) };
    let roots: Table<Address> = census.held_from_outside().collect();
    census.mark(roots.iter().copied());
    census
}

/// Takes the objects to which the states of the thread and of the interpreter refer.
fn taken_from_states() -> impl Iterator<Item = Address> {
    let take = |index| {
        let mut taken = std::ptr::null_mut();
        // SAFETY: there is an interpreter, and the GIL is held.
        let is_one = unsafe { raw::cds_glue_take_kept_by_states(index, &raw mut taken) } != 0;
        is_one.then_some(taken)
    };
    let taken = (0..).map_while(take);
    taken.filter(|object| !object.is_null())
}

/// Objects with the reference counts that they would have if no object were immortal.
struct Counted {
    census: Census,
    counts: Table<u32>,
    is_immortal: Table<bool>,
    /// Objects that lost a reference and have not been processed yet.
    dropped: Vec<u32>,
    /// How many names were cleared since the mortal objects were last searched, and whether a mortal object lost a
    /// reference.
    cleared: usize,
    has_dropped_mortal: bool,
    mortal: usize,
}

impl Counted {
    fn of(census: Census) -> Self {
        let mut counts = Table::copy_of(census.counts());
        for object in held() {
            // The reference from C code stays.
            if let Some(index) = census.index(object) {
                counts.as_mut()[index] += 1;
            }
        }
        // SAFETY: the object is alive.
        let is_immortal =
            |index| census.is_known(index) || unsafe { heap::is_immortal(census.object(index)) };
        let is_immortal: Table<bool> = (0..census.len()).map(is_immortal).collect();
        Self {
            mortal: is_immortal
                .iter()
                .filter(|&&is_immortal| !is_immortal)
                .count(),
            is_immortal,
            dropped: Vec::new(),
            cleared: 0,
            has_dropped_mortal: false,
            counts,
            census,
        }
    }

    /// Whether an object may have died since the last search for mortal objects with a visible end, and the work since
    /// then was at least as long as a new search takes.
    fn is_worth_a_look(&mut self) -> bool {
        let is_worth_it = self.has_dropped_mortal && self.cleared >= self.mortal;
        if is_worth_it {
            (self.cleared, self.has_dropped_mortal) = (0, false);
        }
        is_worth_it
    }

    /// Sets names to None: those that begin with one underscore, or all others.
    ///
    /// # Safety
    /// `namespace` is a dict.
    unsafe fn clear_names(&mut self, namespace: Address, is_private: bool) {
        let none = &raw mut raw::_Py_NoneStruct;
        // SAFETY: the caller passes a dict. A value is alive as long as the dict holds it, and only strings are read as
        // text.
        unsafe {
            let namespace = Object::from_borrowed(namespace);
            let (mut position, mut key, mut value) = (0, none, none);
            while raw::PyDict_Next(namespace.as_ptr(), &mut position, &mut key, &mut value) != 0 {
                let name = Object::from_borrowed(key);
                let is_meant = value != none
                    && name.kind() == Some(Kind::Str)
                    && name.to_str().is_ok_and(|name| {
                        let begins = name.starts_with('_') && !name.starts_with("__");
                        begins == is_private && name != "__builtins__"
                    });
                if !is_meant {
                    continue;
                }
                self.cleared += 1;
                self.has_dropped_mortal |= !heap::is_immortal(value);
                if raw::PyDict_SetItem(namespace.as_ptr(), key, none) < 0 {
                    Raised.clear();
                }
                self.drop_reference(value);
            }
        }
    }

    /// Counts a dropped reference. An immortal object without references is cleared if it refers to mortal objects, and
    /// its referents lose a reference in turn. Mortal objects do this themselves.
    fn drop_reference(&mut self, object: Address) {
        let index = self.census.index(object);
        self.dropped.extend(index.map(|index| index as u32));
        while let Some(index) = self.dropped.pop() {
            let index = index as usize;
            let count = &mut self.counts.as_mut()[index];
            let is_last = *count == 1;
            *count = count.saturating_sub(1);
            if !is_last || !self.is_immortal[index] {
                continue;
            }
            let referents = self.census.referents_of(index);
            let holds_mortal = referents
                .iter()
                .any(|&referent| !self.is_immortal[referent as usize]);
            self.dropped.extend(referents);
            let object = self.census.object(index);
            // SAFETY: the object is immortal, and nothing uses it any more.
            unsafe {
                if holds_mortal && raw::cds_glue_is_plain_container(object) != 0 {
                    self.has_dropped_mortal = true;
                    raw::cds_glue_clear(object);
                }
            }
        }
    }
}

/// Objects in the order in which they are finalized. This is the given order, but the parts of a file come together; a
/// part that writes into the next one comes before it.
///
/// # Safety
/// All objects are alive and tracked, and none occurs twice.
unsafe fn in_order(objects: &Table<Address>) -> Ring {
    let mut files = HashMap::new();
    let mut ordered = Vec::new();
    for (index, &object) in objects.iter().enumerate() {
        // SAFETY: the caller passes objects that are alive and tracked.
        let part = unsafe { part_of_file(object) };
        let place = part.map(|(file, part)| (*files.entry(file).or_insert(index), Some(part)));
        ordered.push((place.unwrap_or((index, None)), object));
    }
    ordered.sort_by_key(|&(place, _)| place);
    // SAFETY: the caller passes objects that are alive and tracked, and none occurs twice.
    unsafe { Ring::of(ordered.into_iter().map(|(_, object)| object)) }
}

/// Makes immortal objects that would be garbage drop their references to mortal ones.
fn release_garbage(census: Census) {
    let mut holders = Table::new();
    for index in census.unmarked().iter().copied() {
        let object = census.object(index);
        // SAFETY: the object is alive, and no Python code runs.
        unsafe {
            let is_tracked = || raw::cds_glue_is_tracked(object) != 0;
            if census.is_new(index) && heap::is_immortal(object) && is_tracked() {
                let mut holds_mortal = false;
                heap::referents(object, &mut |referent| {
                    holds_mortal |= is_mortal_garbage(referent, &census);
                });
                if holds_mortal {
                    holders.push(object);
                }
            }
        }
    }
    for &holder in holders.iter() {
        // SAFETY: the object is immortal.
        unsafe {
            if raw::cds_glue_is_dict(holder) != 0 {
                forget_values(holder, &census);
            } else if raw::cds_glue_is_plain_container(holder) != 0 {
                raw::cds_glue_clear(holder);
            }
        }
    }
}

/// Sets the mortal values of an immortal dict to None.
///
/// # Safety
/// `dict` is a dict.
unsafe fn forget_values(dict: Address, census: &Census) {
    let none = &raw mut raw::_Py_NoneStruct;
    let (mut position, mut key, mut value) = (0, none, none);
    // SAFETY: the caller passes a dict. A value is alive as long as the dict holds it.
    unsafe {
        while raw::PyDict_Next(dict, &mut position, &mut key, &mut value) != 0 {
            if is_mortal_garbage(value, census) && raw::PyDict_SetItem(dict, key, none) < 0 {
                Raised.clear();
            }
        }
    }
}

/// # Safety
/// The object is alive.
unsafe fn is_mortal_garbage(object: Address, census: &Census) -> bool {
    // SAFETY: the caller passes a live object.
    unsafe { !heap::is_leaf(object) && !heap::is_immortal(object) && !census.is_marked(object) }
}

/// Clears an object that is a weak reference, and all weak references to an object, as `handle_weakrefs()` in
/// Python/gc.c does. References that outlive the object and have a callback are added to `callbacks`. Weak references
/// to an immortal object stay unless they have such a callback, so that nothing is written to the object.
///
/// # Safety
/// The object is alive.
unsafe fn clear_weak_references(
    object: Address,
    outlives: &mut impl FnMut(Address) -> bool,
    callbacks: &mut Vec<Object>,
) {
    // SAFETY: the caller passes a live object. Clearing a reference removes it from its referent's list and runs no
    // code.
    unsafe {
        if heap::is_immortal(object) {
            // The weak references to a type belong to its base types.
            if raw::cds_glue_is_module_or_type(object) == 0 {
                let telling =
                    |&reference: &Address| has_telling_callback(reference) && outlives(reference);
                let telling: Table<Address> = weak_references(object).filter(telling).collect();
                for &reference in telling.iter() {
                    raw::cds_glue_clear_weak_reference(reference.cast());
                    callbacks.push(Object::from_borrowed(reference));
                }
            }
            return;
        }
        if raw::cds_glue_is_weak_reference(object) != 0 {
            raw::cds_glue_clear_weak_reference(object.cast());
        }
        while let Some(reference) = weak_references(object).next() {
            raw::cds_glue_clear_weak_reference(reference.cast());
            let has_callback = !(*reference.cast::<raw::PyWeakReference>())
                .wr_callback
                .is_null();
            if has_callback && outlives(reference) {
                callbacks.push(Object::from_borrowed(reference));
            }
        }
    }
}

/// The weak references to an object.
///
/// # Safety
/// The object and its weak references are alive as long as the iterator is used.
unsafe fn weak_references(object: Address) -> impl Iterator<Item = Address> {
    // SAFETY: the caller ensures that the object and its weak references are alive.
    unsafe {
        let first = raw::cds_glue_weak_references(object);
        let existing =
            |reference: *mut raw::PyWeakReference| (!reference.is_null()).then_some(reference);
        std::iter::successors(existing(first), move |&reference| {
            existing((*reference).wr_next)
        })
        .map(|reference| reference.cast())
    }
}

/// Calls the callback of a weak reference.
fn call_back(reference: &Object) {
    // SAFETY: the object is a weak reference that has a callback.
    let callback = unsafe {
        let reference = reference.as_ptr().cast::<raw::PyWeakReference>();
        Object::from_borrowed((*reference).wr_callback)
    };
    if callback.call(vec![reference.clone()]).is_err() {
        // SAFETY: an exception is set.
        unsafe { raw::PyErr_WriteUnraisable(callback.as_ptr()) };
    }
}

/// Whether an object is a weak reference whose callback would make the end of a mortal object visible.
///
/// # Safety
/// The object is alive.
unsafe fn is_told_of_another(object: Address) -> bool {
    // SAFETY: the caller passes a live object. The referent is alive, or None.
    unsafe {
        has_seen_callback(object)
            && !is_as_in_image(object)
            && !heap::is_immortal((*object.cast::<raw::PyWeakReference>()).wr_object)
    }
}

/// Converts the result of a call that returns less than 0 if it has raised an exception.
fn done(result: i32) -> Result<()> {
    if result < 0 { Err(Raised) } else { Ok(()) }
}
