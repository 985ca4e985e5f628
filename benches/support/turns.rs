//! Contenders that take turns: on a shared machine nothing else can be compared.

use std::time::{Duration, Instant};

/// Runs the contenders one after another, `rounds` times after one to warm up, and returns how long each took, the shortest first.
pub(crate) fn take_turns<const N: usize>(rounds: usize, contenders: [&mut dyn FnMut(); N]) -> [Vec<Duration>; N] {
    let mut times = [(); N].map(|()| Vec::new());
    for round in 0..=rounds {
        // Whoever comes after one that wrote may find the disk busy: every other round goes backwards.
        for turn in 0..N {
            let n = if round % 2 == 0 { turn } else { N - 1 - turn };
            let start = Instant::now();
            contenders[n]();
            if round > 0 {
                times[n].push(start.elapsed());
            }
        }
    }
    for times in &mut times {
        times.sort_unstable();
    }
    times
}
