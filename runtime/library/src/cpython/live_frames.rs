//! The objects to which the running Python code of this thread refers. The collector does not know these references,
//! since they do not belong to an object.

use std::ptr;

use super::heap::Address;
use super::raw;

/// References from frames.
#[derive(Default)]
pub struct References {
    /// Local variables and functions, once for each reference. Frames of generators are left out where the collector
    /// can traverse the generator.
    pub certain: Vec<Address>,
    /// Objects that may be referred to until the running code has finished. These are the present and former contents
    /// of the evaluation stacks: a frame that has called C code does not tell how much of its stack is in use. They
    /// also include the namespace of a module or class: the C code that runs the frame refers to it
    /// (Python/bltinmodule.c, `builtin_exec_impl()`).
    pub possible: Vec<Address>,
}

impl References {
    pub fn of_this_thread() -> Self {
        let mut found = Self::default();
        // SAFETY: the GIL is held, and frames that have called others do not change until these return.
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
    /// `frame` is a frame of this thread.
    unsafe fn add(&mut self, frame: *mut raw::_PyInterpreterFrame) {
        // SAFETY: the caller passes a frame of this thread. Its code tells how many variables and stack entries the
        // frame has.
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
