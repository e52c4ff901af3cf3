//! Arguments, environment and ignored signals of the process that was replaced by the restored process.

use startup_image::format::Restored;

/// No process was restored.
pub const NOTHING: Restored = Restored {
    argc: 0,
    argv: 0,
    envp: 0,
    ignored_signals: 0,
    image: 0,
    image_bytes: 0,
    entry: 0,
    entry_bytes: 0,
    refusal: 0,
    refusal_bytes: 0,
    lasting: 0,
};

/// What the new process was started with. The restore fills it in.
pub static mut RESTORED: Restored = NOTHING;

/// Whether this process was restored.
pub fn is_restored() -> bool {
    // SAFETY: the restore writes the variable before this process continues, and nothing writes it later.
    unsafe { RESTORED.argv != 0 }
}
