//! Makes a program that does something else smaller.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Kinds, Program, Way};

/// For one program.
const MOST_TIME: Duration = Duration::from_secs(150);

/// A program as small as it gets, and what is different.
pub struct Smallest {
    pub listing: String,
    pub difference: String,
}

/// Drops statements while what is left does something else in a way than plainly: many at once first, then single ones.
/// Nothing is returned if the whole program does the same now.
pub fn shrink(seed: u64, kinds: &Kinds, way: Way) -> Option<Smallest> {
    let start = Instant::now();
    let mut dropped = BTreeSet::new();
    let attempt = |dropped: &BTreeSet<usize>| {
        let program = Program::new(seed, kinds, dropped);
        let difference = way.check(&program).difference?;
        let listing = program.listing();
        Some(Smallest {
            listing,
            difference,
        })
    };
    let mut smallest = attempt(&dropped)?;
    let statements = Program::new(seed, kinds, &dropped).statements();
    let mut size = statements.div_ceil(2);
    while size > 0 && start.elapsed() < MOST_TIME {
        let kept = Vec::from_iter((1..=statements).filter(|number| !dropped.contains(number)));
        let mut is_smaller = false;
        for chunk in kept.chunks(size) {
            if start.elapsed() > MOST_TIME {
                break;
            }
            let mut fewer = dropped.clone();
            fewer.extend(chunk);
            if let Some(smaller) = attempt(&fewer) {
                (dropped, smallest, is_smaller) = (fewer, smaller, true);
            }
        }
        // Once more with single ones: one may have needed another.
        if size > 1 || !is_smaller {
            size /= 2;
        }
    }
    Some(smallest)
}
