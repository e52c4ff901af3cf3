//! What is done one after the other while there is no way back.

use alloc::vec::Vec;

/// A step.
#[repr(C)]
pub struct Step {
    pub action: Action,
    /// A system call's, or an address and a value.
    pub arguments: [u64; 6],
}

#[repr(C, u64)]
#[derive(Clone, Copy)]
pub enum Action {
    /// A system call that has to succeed.
    Must(u64),
    /// One that has to return its sixth argument, which it does not take.
    MustReturn(u64),
    /// One that may fail.
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

    /// A system call of five arguments at most that has to return a value.
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
