//! The steps after which there is no way back.

use alloc::vec::Vec;

/// A step.
#[repr(C)]
pub struct Step {
    pub action: Action,
    /// The arguments of a system call, or an address and a value.
    pub arguments: [u64; 6],
}

#[repr(C, u64)]
#[derive(Clone, Copy)]
pub enum Action {
    /// A system call that has to succeed.
    Must(u64),
    /// A system call of at most five arguments that has to return the value of `arguments[5]`.
    MustReturn(u64),
    /// A system call that may fail.
    May(u64),
    /// Writes four bytes.
    Write32,
    /// Writes eight bytes.
    Write64,
    /// Writes what the last system call returned, as four bytes.
    Store32,
}

pub struct Steps(Vec<Step>);

impl Steps {
    pub fn with_capacity(steps: usize) -> Self {
        Self(Vec::with_capacity(steps))
    }

    pub fn add(&mut self, action: Action, arguments: [u64; 6]) {
        self.0.push(Step { action, arguments });
    }

    pub fn must(&mut self, number: libc::c_long, arguments: [u64; 6]) {
        self.add(Action::Must(number as u64), arguments);
    }

    /// Adds a system call of at most five arguments that has to return `value`.
    pub fn must_return(&mut self, number: libc::c_long, mut arguments: [u64; 6], value: u64) {
        arguments[5] = value;
        self.add(Action::MustReturn(number as u64), arguments);
    }

    pub fn may(&mut self, number: libc::c_long, arguments: [u64; 6]) {
        self.add(Action::May(number as u64), arguments);
    }

    pub fn as_slice(&self) -> &[Step] {
        &self.0
    }
}
