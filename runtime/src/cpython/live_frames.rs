//! What the code refers to that this thread runs: the collector does not know of that, since no object has it.

use std::ptr;

use super::heap::Address;
use super::raw;

/// What all frames refer to, as often as they do: local variables, and functions. Frames of generators are left out, since these have
/// them. What an expression has found so far that is not done yet is not known.
pub fn references() -> Vec<Address> {
    let mut found = Vec::new();
    // SAFETY: the GIL is held, and frames that call others stay as they are until these return.
    unsafe {
        let mut frame = raw::cds_glue_frame_below(ptr::null_mut());
        while !frame.is_null() {
            let code = raw::cds_glue_stack_frame_code(frame);
            if !code.is_null() {
                let count = raw::cds_glue_local_count(code) as usize;
                let locals = raw::cds_glue_frame_locals(frame);
                let locals = (0..count).map(|index| *locals.add(index));
                let namespace = raw::cds_glue_frame_namespace(frame);
                let function = raw::cds_glue_frame_function(frame);
                found.extend(
                    locals
                        .chain([namespace, function])
                        .filter(|object| !object.is_null()),
                );
            }
            frame = raw::cds_glue_frame_below(frame);
        }
    }
    found
}
