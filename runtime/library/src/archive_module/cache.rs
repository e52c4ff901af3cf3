//! The cache of this user, for the commands that manage it.

use std::os::unix::ffi::OsStringExt;

use startup_image::cache;

use crate::cpython::object::{Object, Result};

pub fn cache_directory([]: [Object; 0]) -> Result<Object> {
    let variables = Variables::of_process();
    object_of(cache::directory(|name| variables.value(name)))
}

pub fn enabling_file([]: [Object; 0]) -> Result<Object> {
    let variables = Variables::of_process();
    object_of(cache::enabling_file(|name| variables.value(name)))
}

/// Gives this process the lowest priority for the disk: only if no other process needs it (ioprio_set(2)).
pub fn make_idle([]: [Object; 0]) -> Result<Object> {
    const IOPRIO_WHO_PROCESS: libc::c_long = 1;
    const IOPRIO_CLASS_IDLE: libc::c_long = 3 << 13;
    // SAFETY: the call takes numbers. Zero is this process. If it is refused, the process keeps its priority.
    unsafe {
        libc::syscall(
            libc::SYS_ioprio_set,
            IOPRIO_WHO_PROCESS,
            0,
            IOPRIO_CLASS_IDLE,
        )
    };
    Ok(Object::none())
}

struct Variables(Vec<(Vec<u8>, Vec<u8>)>);

impl Variables {
    fn of_process() -> Self {
        let variables = std::env::vars_os();
        let variables = variables.map(|(name, value)| (name.into_vec(), value.into_vec()));
        Self(variables.filter(|(_, value)| !value.is_empty()).collect())
    }

    fn value(&self, name: &[u8]) -> Option<&[u8]> {
        let known = self.0.iter().find(|(known, _)| known == name);
        known.map(|(_, value)| value.as_slice())
    }
}

fn object_of(path: Option<Vec<u8>>) -> Result<Object> {
    path.map_or_else(
        || Ok(Object::none()),
        |path| Object::str(&String::from_utf8_lossy(&path)),
    )
}
