//! The memory of this very process, searched for secrets that ought to be gone.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, PoisonError};

use sealift::DataKey;
use zeroize::Zeroize as _;

/// What is searched for, in a form that the search itself does not find.
pub(crate) struct Trace {
    what: String,
    /// Each 8 bytes of the secret, masked.
    words: Vec<u64>,
}

impl Trace {
    /// Of a secret, which stays where it is.
    pub(crate) fn of(what: &str, secret: &[u8]) -> Self {
        let words = secret.chunks_exact(8).map(|word| masked(word, mask())).collect();
        Self { what: what.to_owned(), words }
    }

    pub(crate) fn of_key(what: &str, key: &DataKey) -> Self {
        Self::of(what, key.expose())
    }

    /// That it is there, so that the search is known to find it.
    #[track_caller]
    pub(crate) fn assert_there(&self) {
        assert!(!self.places().is_empty(), "{} is not found while it is in use", self.what);
    }

    /// That no 8 bytes of it are anywhere that this process can write to.
    #[track_caller]
    pub(crate) fn assert_gone(&self) {
        let places = self.places();
        assert!(places.is_empty(), "{} was not wiped: {places:#?}", self.what);
    }

    /// Where it is: which word of it, at which address, in what.
    fn places(&self) -> Vec<String> {
        // One search at a time: its buffer holds what others search for.
        let mut buffer = BUFFER.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.resize(CHUNK, 0);
        let (mask, memory) = (mask(), File::open("/proc/self/mem").unwrap());
        let mut places = Vec::new();
        for (start, end, name) in writable() {
            let mut at = start;
            while at < end {
                let len = CHUNK.min((end - at) as usize);
                // Some of what is mapped cannot be read, or is unmapped by now.
                let Ok(read) = memory.read_at(&mut buffer[..len], at) else { break };
                for (offset, window) in buffer[..read].windows(8).enumerate() {
                    let word = masked(window, mask);
                    if let Some(index) = self.words.iter().position(|one| *one == word) {
                        places.push(format!("word {index} at {:x} in {name}", at + offset as u64));
                    }
                }
                if read < 8 {
                    break;
                }
                // What spans two chunks is in the second.
                at += if read == len && at + (len as u64) < end { read as u64 - 7 } else { end - at };
            }
        }
        buffer.as_mut_slice().zeroize();
        places
    }
}

static BUFFER: Mutex<Vec<u8>> = Mutex::new(Vec::new());
const CHUNK: usize = 1 << 20;

fn masked(word: &[u8], mask: u64) -> u64 {
    u64::from_le_bytes(word.try_into().unwrap()) ^ mask
}

/// A number that the compiler does not know, so that it cannot search for the secret itself.
fn mask() -> u64 {
    std::hint::black_box(0x5a3c_96f0_a569_c3d2)
}

/// What this process has mapped to read and write.
fn writable() -> Vec<(u64, u64, String)> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let parse = |line: &str| {
        let mut fields = line.split_whitespace();
        let (range, mode) = (fields.next()?, fields.next()?);
        let (start, end) = range.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        mode.starts_with("rw").then_some(())?;
        Some((address(start)?, address(end)?, fields.nth(3).unwrap_or("memory").to_owned()))
    };
    maps.lines().filter_map(parse).collect()
}
