//! Records the graph of a process that is about to become an image.

use std::iter;

use super::{GRAPH, Graph, LEAF, MORTAL, Numbers, Places, refers_to_none};
use crate::cpython::census::Census;
use crate::cpython::heap::{self, Address};
use crate::cpython::object::{Object, Result};
use crate::cpython::table::{self, Table};

impl Graph {
    /// Records the objects that are immortal now. An object that refers to another object later must have been written
    /// to since.
    ///
    /// # Errors
    /// Fails if a module or class of the interpreter is missing.
    pub fn record() -> Result<()> {
        let class = Object::import(c"_frozen_importlib")?.attribute(c"ModuleSpec")?;
        // SAFETY: the collector's lists contain live objects only.
        let census = unsafe { Census::of(&heap::all_tracked()) };
        let mut numbers: Table<u32> = Table::new();
        let mut sorted: Table<(Address, u32)> = Table::new();
        for index in 0..census.len() {
            let object = census.object(index);
            // SAFETY: the objects of a census are alive.
            let (is_immortal, is_leaf) =
                unsafe { (heap::is_immortal(object), refers_to_none(object)) };
            numbers.push(if is_immortal && is_leaf { LEAF } else { MORTAL });
            if is_immortal && !is_leaf {
                sorted.push((object, index as u32));
            }
        }
        sorted.as_mut().sort_unstable();
        for (&(_, index), number) in sorted.iter().zip(0..) {
            numbers.as_mut()[index as usize] = number;
        }
        let mut graph = Self {
            objects: sorted.iter().map(|&(object, _)| object).collect(),
            ranks: sorted.iter().map(|&(_, index)| index).collect(),
            numbers: Numbers::default(),
            starts: Table::new(),
            referents: Table::new(),
            counts: iter::repeat_n(0, sorted.len()).collect(),
            hashes: Table::new(),
            class: class.as_ptr(),
            places: Places::default(),
            varying: Table::new(),
            memory: 0..0,
        };
        graph.numbers = Numbers::of(&graph.objects);
        let mut places = Table::new();
        for (&(object, index), number) in sorted.iter().zip(0..) {
            graph.starts.push(graph.referents.len() as u32);
            let mut refers_to_mortal = false;
            for &referent in census.referents_of(index as usize) {
                match numbers[referent as usize] {
                    LEAF => {}
                    MORTAL => refers_to_mortal = true,
                    number => {
                        graph.referents.push(number);
                        graph.counts.as_mut()[number as usize] += 1;
                    }
                }
            }
            // SAFETY: the object is alive, and so are the objects that it refers to.
            unsafe {
                heap::referents(object, &mut |referent| {
                    if refers_to_none(referent) && heap::is_immortal(referent) {
                        graph.numbers.add_leaf(referent);
                    }
                });
            }
            // SAFETY: the object is alive.
            let parts = unsafe { graph.parts_of(object, &mut |page| places.push((page, number))) };
            graph.hashes.push(parts.unwrap_or_default());
            if refers_to_mortal || parts.is_none() {
                graph.varying.push(number);
            }
        }
        graph.starts.push(graph.referents.len() as u32);
        graph.places = Places::of(places);
        graph.memory = table::pack(&mut graph.tables());
        let _ = GRAPH.set(graph);
        Ok(())
    }
}
