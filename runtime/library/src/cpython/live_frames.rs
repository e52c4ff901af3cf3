//! What the code refers to that this thread runs: the collector does not know of that, since no object has it.

use std::ptr;

use super::heap::Address;
use super::raw;

/// References from frames.
#[derive(Default)]
pub struct References {
    /// Local variables, and functions, as often as they are referred to. Frames of generators are left out, as far as
    /// these tell of them.
    pub certain: Vec<Address>,
    /// What may be referred to until the code that runs has done what it does: what is, or was, in the places for what
    /// expressions have found. A frame that has called C code does not tell how many of them are in use. And the
    /// namespace of a module or class, to which C code refers that has the frame run (Python/bltinmodule.c,
    /// `builtin_exec_impl()`).
    pub possible: Vec<Address>,
}

impl References {
    pub fn of_this_thread() -> Self {
        let mut found = Self::default();
        // SAFETY: the GIL is held, and frames that call others stay as they are until these return.
        unsafe {
            let mut frame = raw::cds_glue_frame_below(ptr::null_mut());
            while !frame.is_null() {
                found.add(frame);
                frame = raw::cds_glue_frame_below(frame);
            }
        }
        found
    }

    /// # Safety
    /// It is a frame of this thread.
    unsafe fn add(&mut self, frame: *mut raw::_PyInterpreterFrame) {
        // SAFETY: the caller passes a frame of this thread; a frame has so many places as its code says.
        unsafe {
            let of_stack = raw::cds_glue_stack_frame_code(frame);
            let of_generator = raw::cds_glue_running_generator_code(frame);
            let code = if of_stack.is_null() {
                of_generator
            } else {
                of_stack
            };
            if code.is_null() {
                return;
            }
            let variables = raw::cds_glue_local_count(code) as usize;
            let all = variables + raw::cds_glue_stack_size(code) as usize;
            let places = raw::cds_glue_frame_locals(frame);
            let places = |range: std::ops::Range<usize>| range.map(|index| *places.add(index));
            self.certain.extend(places(0..variables));
            self.possible.extend(places(variables..all));
            if !of_stack.is_null() {
                let namespace = raw::cds_glue_frame_namespace(frame);
                self.certain
                    .extend([namespace, raw::cds_glue_frame_function(frame)]);
                self.possible.push(namespace);
            }
        }
        self.certain.retain(|object| !object.is_null());
        self.possible.retain(|object| !object.is_null());
    }
}
