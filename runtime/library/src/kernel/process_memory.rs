//! The memory of another process. That process is stopped, and is a child of this process or traced by it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Holds the id of the process, or of one of its threads.
#[derive(Debug, Clone, Copy)]
pub struct ProcessMemory(pub i32);

impl ProcessMemory {
    /// # Errors
    /// The process has ended, or the memory is not mapped there.
    pub fn read(self, bytes: &mut [u8], address: u64) -> io::Result<()> {
        let own = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        let theirs = libc::iovec {
            iov_base: std::ptr::without_provenance_mut(address as usize),
            iov_len: bytes.len(),
        };
        // SAFETY: in this process, the kernel writes only to `bytes`, and no more than its length. It uses the remote
        // address in the other process only.
        let count =
            unsafe { libc::process_vm_readv(self.0, &raw const own, 1, &raw const theirs, 1, 0) };
        if usize::try_from(count).is_ok_and(|count| count == bytes.len()) {
            return Ok(());
        }
        // A filter of system calls may refuse `process_vm_readv()`, which is faster.
        File::open(format!("/proc/{}/mem", self.0))?.read_exact_at(bytes, address)
    }

    /// # Errors
    /// As for [`Self::read`].
    pub fn word(self, address: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.read(&mut bytes, address)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// The words at these offsets in a struct.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn fields<const N: usize>(self, address: u64, offsets: [usize; N]) -> io::Result<[u64; N]> {
        let last = offsets.iter().max().copied().unwrap_or_default();
        let mut bytes = vec![0; last + size_of::<u64>()];
        self.read(&mut bytes, address)?;
        Ok(offsets.map(|offset| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[offset..offset + size_of::<u64>()]);
            u64::from_ne_bytes(word)
        }))
    }
}
