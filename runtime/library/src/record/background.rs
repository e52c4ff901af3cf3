//! Starts the process that renews an archive, at the beginning of the run from whose record it does so. It waits for the
//! end of the run ([`startup_image::background`]). If it were started at the end of the run, a filter of the program
//! could kill the program for the system calls.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{Error, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::{mem, ptr};

use startup_image::background::{RECORD, TURN};

/// How the process that renews an archive is started.
pub struct Renewal {
    pub command: Vec<Vec<u8>>,
    /// `NAME=value`. If the process takes an image, these are the variables that the run was started with.
    pub environment: Vec<Vec<u8>>,
    /// The file to which the process appends what it does; none if nobody wants to know.
    pub log: Option<Vec<u8>>,
}

/// What the process gets from the run.
pub struct Files {
    pub record: File,
    /// Only one process at a time renews archives with this file or directory. It is not locked yet.
    pub building: File,
    /// A lock of the run. The process keeps it.
    pub turn: Option<File>,
}

impl Renewal {
    /// Starts the process. It is a child of a process that ends at once: the program must not see a child that it has
    /// not started. Errors do not affect the run.
    pub fn start(self, files: Files) {
        let texts = |texts: Vec<Vec<u8>>| {
            let texts = texts.into_iter().map(CString::new);
            texts.collect::<Result<Vec<_>, _>>().ok()
        };
        let Some((command, environment)) = texts(self.command).zip(texts(self.environment)) else {
            return;
        };
        let Some(files) = Numbered::of(files) else {
            return;
        };
        let log = self.log.and_then(|log| CString::new(log).ok());
        if let Some(spawning) = Spawning::of(&command, &environment, &files, log.as_deref()) {
            spawning.spawn_orphan();
        }
    }
}

/// Whether orphaned processes become children of this process: it is the first process of a container, or has asked for
/// them (PR_SET_CHILD_SUBREAPER).
pub fn adopts_orphans() -> bool {
    let reaper = rustix::process::child_subreaper();
    rustix::process::getpid().is_init() || !matches!(reaper, Ok(None))
}

/// The same files in the order of the numbers that the process gets, with other descriptors.
struct Numbered([Option<OwnedFd>; 3]);

impl Numbered {
    fn of(files: Files) -> Option<Self> {
        let above = |file: File| rustix::io::fcntl_dupfd_cloexec(&file, TURN + 1).ok();
        let turn = match files.turn {
            Some(turn) => Some(above(turn)?),
            None => None,
        };
        Some(Self([
            Some(above(files.record)?),
            Some(above(files.building)?),
            turn,
        ]))
    }
}

/// The data to start a process in its own session, without the program's open files and blocked signals. It refers to the
/// texts of the command and the environment.
struct Spawning {
    command: Vec<*mut libc::c_char>,
    environment: Vec<*mut libc::c_char>,
    actions: libc::posix_spawn_file_actions_t,
    attributes: libc::posix_spawnattr_t,
}

impl Spawning {
    fn of(
        command: &[CString],
        environment: &[CString],
        files: &Numbered,
        log: Option<&CStr>,
    ) -> Option<Self> {
        let pointers = |texts: &[CString]| -> Vec<_> {
            let pointers = texts.iter().map(|text| text.as_ptr().cast_mut());
            pointers.chain([ptr::null_mut()]).collect()
        };
        let flags = libc::POSIX_SPAWN_SETSID | libc::POSIX_SPAWN_SETSIGMASK as libc::c_short;
        // SAFETY: the structures are initialized before they are used.
        unsafe {
            let mut actions = mem::zeroed();
            let mut attributes = mem::zeroed();
            let mut signals = mem::zeroed();
            libc::sigemptyset(&raw mut signals);
            if libc::posix_spawn_file_actions_init(&raw mut actions) != 0 {
                return None;
            }
            libc::posix_spawnattr_init(&raw mut attributes);
            libc::posix_spawnattr_setflags(&raw mut attributes, flags);
            libc::posix_spawnattr_setsigmask(&raw mut attributes, &raw const signals);
            let append = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_NOCTTY;
            for stream in 0..3 {
                let (path, flags) = match log.filter(|_| stream == libc::STDERR_FILENO) {
                    Some(log) => (log, append),
                    None => (c"/dev/null", libc::O_RDWR),
                };
                libc::posix_spawn_file_actions_addopen(
                    &raw mut actions,
                    stream,
                    path.as_ptr(),
                    flags,
                    0o600,
                );
            }
            // From here on, they are destroyed with the value.
            let mut spawning = Self {
                command: pointers(command),
                environment: pointers(environment),
                actions,
                attributes,
            };
            let mut first_closed = RECORD;
            for (file, number) in files.0.iter().flatten().zip(RECORD..) {
                let own = file.as_raw_fd();
                libc::posix_spawn_file_actions_adddup2(&raw mut spawning.actions, own, number);
                first_closed = number + 1;
            }
            add_close_from(&mut spawning.actions, first_closed)?;
            Some(spawning)
        }
    }

    fn spawn_orphan(&self) {
        extern "C" fn in_child(spawning: *mut libc::c_void) -> libc::c_int {
            // SAFETY: `spawn_orphan()` passes a reference, and waits meanwhile.
            unsafe { &*spawning.cast::<Spawning>() }.spawn();
            0
        }
        // As vfork(2), this copies no page tables and calls no handlers (pthread_atfork(3)). No signal is sent at the end.
        const FLAGS: libc::c_int = libc::CLONE_VM | libc::CLONE_VFORK;
        const STACK_WORDS: usize = 8192;
        let mut stack: Vec<u128> = vec![0; STACK_WORDS];
        // SAFETY: this thread is suspended until the child has ended, and so the child may use its memory. The child
        // allocates nothing, since another thread may hold the lock of the allocator. The range ends the stack, which
        // grows downwards.
        unsafe {
            let top = stack.as_mut_ptr_range().end.cast();
            let spawning = ptr::from_ref(self).cast_mut().cast();
            let child = libc::clone(in_child, top, FLAGS, spawning);
            // If the clone fails, the archive is not renewed.
            while child > 0
                && libc::waitpid(child, ptr::null_mut(), libc::__WALL) < 0
                && Error::last_os_error().kind() == ErrorKind::Interrupted
            {}
        }
    }

    fn spawn(&self) {
        // SAFETY: the arrays end with NULL, and the caller keeps the strings until it drops this value.
        unsafe {
            libc::posix_spawn(
                ptr::null_mut(),
                self.command[0],
                &raw const self.actions,
                &raw const self.attributes,
                self.command.as_ptr(),
                self.environment.as_ptr(),
            );
        }
    }
}

impl Drop for Spawning {
    fn drop(&mut self) {
        // SAFETY: the structures are initialized, and not used any more.
        unsafe {
            libc::posix_spawn_file_actions_destroy(&raw mut self.actions);
            libc::posix_spawnattr_destroy(&raw mut self.attributes);
        }
    }
}

/// Closes all descriptors from `first` on in the new process. Before glibc 2.34, the C library has no function for this.
/// Then the descriptors that are open now are closed one by one; `None` if they are not known (no `/proc`).
fn add_close_from(actions: &mut libc::posix_spawn_file_actions_t, first: RawFd) -> Option<()> {
    type AddCloseFrom = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, RawFd) -> i32;
    let name = c"posix_spawn_file_actions_addclosefrom_np".as_ptr();
    // SAFETY: a C library that has a function of this name has this one (<spawn.h>). `actions` is initialized.
    unsafe {
        let function = libc::dlsym(libc::RTLD_DEFAULT, name);
        if !function.is_null() {
            let function = mem::transmute::<*mut libc::c_void, AddCloseFrom>(function);
            function(actions, first);
            return Some(());
        }
    }
    for entry in fs::read_dir("/proc/self/fd").ok()?.flatten() {
        let descriptor = entry.file_name().to_str()?.parse::<RawFd>().ok()?;
        if descriptor >= first {
            // SAFETY: `actions` is initialized. It is no error if the descriptor is closed in the new process.
            unsafe { libc::posix_spawn_file_actions_addclose(actions, descriptor) };
        }
    }
    Some(())
}

/// The environment variables that this process was started with, without settings for archives.
pub fn environment() -> Vec<Vec<u8>> {
    let is_ours = |text: &[u8]| text.starts_with(b"PYTHON_CDS") || text.starts_with(b"PYCDS");
    let mut variables = variables();
    variables.retain(|text| !is_ours(text));
    variables
}

/// The file in which background processes note what they do: `PYTHON_CDS_LOG`.
pub fn log() -> Option<Vec<u8>> {
    let variables = variables();
    let mut paths = variables
        .iter()
        .filter_map(|text| text.strip_prefix(b"PYTHON_CDS_LOG="));
    paths
        .next()
        .filter(|path| path.starts_with(b"/"))
        .map(<[u8]>::to_vec)
}

fn variables() -> Vec<Vec<u8>> {
    let texts = fs::read("/proc/self/environ").unwrap_or_else(|_| {
        let variables = std::env::vars_os();
        let texts = variables.map(|(name, value)| {
            let (name, value) = (name.into_vec(), value.into_vec());
            [&name[..], b"=", &value, b"\0"].concat()
        });
        texts.collect::<Vec<_>>().concat()
    });
    let texts = texts.split(|&byte| byte == 0);
    let texts = texts.filter(|text| !text.is_empty());
    texts.map(<[u8]>::to_vec).collect()
}
