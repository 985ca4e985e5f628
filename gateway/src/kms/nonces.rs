//! Which requests were seen already: a request that is sent twice is answered once.
//!
//! What is remembered is bounded: for twice the time that a signature is good for, and at most so many. Each gateway remembers its own.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use crate::access::AccessKeys;

#[derive(Default)]
pub(super) struct Nonces(Mutex<Generations>);

/// The nonces of this period, and those of the one before.
#[derive(Default)]
struct Generations {
    period: u64,
    now: HashSet<[u8; 16]>,
    before: HashSet<[u8; 16]>,
}

/// So many fit into a few megabytes. With more, the oldest are forgotten early.
const MOST: usize = 100_000;

impl Nonces {
    /// Whether this access key did not use the nonce before, as far as is remembered. It did, from now on.
    pub(super) fn is_new(&self, access_key: &str, nonce: &str, now: SystemTime) -> bool {
        let digest = Sha256::new().chain_update(access_key).chain_update([0]).chain_update(nonce).finalize();
        let mut name = [0; 16];
        name.copy_from_slice(&digest[..16]);
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        // A signature is good for as long before as after it was made.
        let period = seconds / (2 * AccessKeys::SKEW.as_secs());
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.period != period || seen.now.len() >= MOST {
            let previous = std::mem::take(&mut seen.now);
            seen.before = if period <= seen.period.saturating_add(1) { previous } else { HashSet::new() };
            seen.period = period;
        }
        !seen.before.contains(&name) && seen.now.insert(name)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_nonce_is_good_once_for_each_key_while_its_signature_is() {
        let nonces = Nonces::default();
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
        assert!(nonces.is_new("a", "1", at(0)));
        assert!(!nonces.is_new("a", "1", at(0)));
        assert!(nonces.is_new("b", "1", at(0)));
        // The longest that a request can be sent again: signed a quarter of an hour ahead, and old by as much.
        assert!(!nonces.is_new("a", "1", at(30 * 60)));
        assert!(nonces.is_new("a", "1", at(2 * 60 * 60)), "forgotten, when its signature is long too old");
    }

    #[test]
    fn memory_is_bounded() {
        let nonces = Nonces::default();
        for n in 0..3 * MOST {
            assert!(nonces.is_new("a", &n.to_string(), SystemTime::UNIX_EPOCH));
        }
        let seen = nonces.0.lock().unwrap();
        assert!(seen.now.len() + seen.before.len() <= 2 * MOST);
    }
}
