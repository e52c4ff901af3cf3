//! Whether a process is recorded, as far as its start can show.

use crate::cache;
use crate::kernel::inherited::Filters;
use crate::options::Auto;

#[derive(Default)]
pub struct Learning {
    /// Whether the program may be recorded: in the cache, only if it was started before, and its images are worth their
    /// cost.
    pub is_recorded: bool,
    /// Whether a base image may be taken.
    pub wants_base: bool,
    /// The filters of system calls at the start.
    filters: Filters,
}

impl Learning {
    /// For a process that is about to begin its program. Notes in the cache that the program was started.
    pub fn begin(auto: &Auto) -> Self {
        // Otherwise the launcher uses the cache only if there is no filter.
        let filters = if auto.is_chosen {
            Filters::of_process()
        } else {
            Filters::none()
        };
        let entries = auto.entries.as_ref();
        let base = entries.and_then(|entries| entries.base.as_ref());
        Self {
            is_recorded: entries.is_none_or(|entries| {
                cache::is_known(&entries.program)
                    && (entries.is_base || cache::is_image_due(&entries.program))
            }),
            // A program with an archive is not restored from a base image.
            wants_base: base.is_some_and(|base| !auto.archive.exists() && cache::is_known(base)),
            filters,
        }
    }

    /// For a process that was restored from the image of its program. It does not look at the filters.
    pub fn of_restored() -> Self {
        Self {
            is_recorded: true,
            wants_base: false,
            filters: Filters::none(),
        }
    }

    /// Whether the program has installed no filter of system calls since its start: a filter can kill the process for
    /// calls that stock CPython does not make.
    pub fn has_added_no_filter(&self) -> bool {
        Filters::of_process().are_still(&self.filters)
    }
}
