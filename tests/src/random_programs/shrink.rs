//! Makes a program smaller whose outcome differs from that of a plain start.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Kinds, Program, Way};

/// The maximum time for one program.
const MOST_TIME: Duration = Duration::from_secs(150);

/// The smallest program that was found, and the difference.
pub struct Smallest {
    pub listing: String,
    pub difference: String,
}

/// Drops statements as long as the rest of the program has another outcome in this way than plainly: first many
/// statements at once, then single ones. Returns none if the whole program has the same outcome now.
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
        // Repeat the pass of single statements after a success: a dropped statement may have needed another one.
        if size > 1 || !is_smaller {
            size /= 2;
        }
    }
    Some(smallest)
}
