//! What a restored process was started with.

use startup_image::format::Restored;

/// What the new process was started with; whoever restores it fills it in.
pub static mut RESTORED: Restored = Restored {
    argc: 0,
    argv: 0,
    envp: 0,
    ignored_signals: 0,
};

/// Whether this process was restored.
pub fn is_restored() -> bool {
    // SAFETY: written before this process's first instruction, and never since.
    unsafe { RESTORED.argv != 0 }
}
