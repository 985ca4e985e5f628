//! A mapped file that shrinks: reading a page that is gone raises `SIGBUS`. This makes it the same error that a positioned read has.
//!
//! The one file of the program with `unsafe` in it.
#![allow(unsafe_code, reason = "safe code cannot handle a signal")]

use std::io;
use std::ops::Range;
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use sealift::source::{Access, MapSource, PartSource, ReadAt, SourceIdentity};
use sealift::{Error, ErrorKind};

use crate::exit::Exit;

/// How many files may be mapped at once.
const MOST: usize = 64;

/// What the handler looks through. What these point to is never freed, because the handler may run at any moment, on any thread.
static WATCHED: [AtomicPtr<Watched>; MOST] = [const { AtomicPtr::new(ptr::null_mut()) }; MOST];

struct Watched {
    addresses: Range<usize>,
    message: Vec<u8>,
}

/// A mapped file, watched until it is dropped.
#[derive(Debug)]
pub(crate) struct WatchedMap {
    map: MapSource,
    slot: &'static AtomicPtr<Watched>,
}

/// Maps the file at `path`. If it shrinks while it is read, the process ends with `message` and the exit code for that.
pub(crate) fn map(path: &Path, message: String) -> sealift::Result<WatchedMap> {
    // SAFETY: of the two things `MapSource::open` accepts, this is the second: the handler below deals with faults in the map, and the
    // source goes to the engine only, which reads each byte once and relies on nothing, or to a measurement, which keeps nothing of it.
    // The source leaves this function only if the handler is in place.
    let map = unsafe { MapSource::open(path) }?;
    let watched = Watched { addresses: map.address_range(), message: message.into_bytes() };
    install().map_err(|e| Error::io("watching the mapped file", e))?;
    // A few hundred bytes for each mapped file, for good: see above.
    let watched = Box::into_raw(Box::new(watched));
    let is_free = |slot: &&AtomicPtr<Watched>| {
        slot.compare_exchange(ptr::null_mut(), watched, Ordering::Release, Ordering::Relaxed).is_ok()
    };
    let Some(slot) = WATCHED.iter().find(is_free) else {
        // SAFETY: it was made by `Box::into_raw` just now, and no slot has it.
        drop(unsafe { Box::from_raw(watched) });
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            format!("at most {MOST} files are mapped at once: give a smaller --concurrency, or --read-mode read"),
        ));
    };
    Ok(WatchedMap { map, slot })
}

impl Drop for WatchedMap {
    fn drop(&mut self) {
        // Before the map goes, as fields do after this: its addresses may be another's then.
        self.slot.store(ptr::null_mut(), Ordering::Release);
    }
}

impl PartSource for WatchedMap {
    fn len(&self) -> Option<u64> {
        PartSource::len(&self.map)
    }

    fn open(self: Box<Self>) -> Access {
        Access::At(Arc::new(*self))
    }
}

impl ReadAt for WatchedMap {
    fn len(&self) -> u64 {
        ReadAt::len(&self.map)
    }

    fn read_at<'a>(&'a self, offset: u64, len: usize, scratch: &'a mut [u8]) -> sealift::Result<&'a [u8]> {
        self.map.read_at(offset, len, scratch)
    }

    fn release(&self, offset: u64, len: usize) {
        self.map.release(offset, len);
    }

    fn identity(&self) -> Option<SourceIdentity> {
        self.map.identity()
    }

    fn check_unchanged(&self) -> sealift::Result<()> {
        self.map.check_unchanged()
    }
}

fn install() -> io::Result<()> {
    // SAFETY: an all-zero `sigaction` is a valid value of that plain C struct; the fields that matter are set right here.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `action` is initialised and outlives the calls, and its handler has the signature that SA_SIGINFO asks for and only does
    // what is async-signal-safe.
    let failed = unsafe {
        libc::sigemptyset(&mut action.sa_mask) != 0 || libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) != 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs on the thread that read the page, wherever it was in its code: so no locks, no allocation, nothing but the calls that
/// signal-safety(7) lists.
extern "C" fn on_sigbus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO, the kernel hands over a valid `siginfo_t`; for a positive code it sent the signal itself, and then
    // SIGBUS has an address.
    let address = unsafe { if (*info).si_code > 0 { Some((*info).si_addr().addr()) } else { None } };
    // SAFETY: what a slot points to was made by `Box::into_raw`, is whole since the slot was set, and is never freed.
    let mut watched = WATCHED.iter().filter_map(|slot| unsafe { slot.load(Ordering::Acquire).as_ref() });
    if let Some(address) = address
        && let Some(watched) = watched.find(|watched| watched.addresses.contains(&address))
    {
        let mut message = watched.message.as_slice();
        while !message.is_empty() {
            // SAFETY: the pointer and length are those of a slice that lives for ever.
            let written = unsafe { libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len()) };
            match usize::try_from(written) {
                Ok(n) if n > 0 => message = message.get(n..).unwrap_or_default(),
                _ => break,
            }
        }
        // SAFETY: `_exit` ends the process without running anything of it, so no state of it matters.
        unsafe { libc::_exit(Exit::SourceChanged as libc::c_int) };
    }
    // Not ours: what would have happened without this handler. The signal is held back until this function returns.
    // SAFETY: both calls are async-signal-safe and have no memory to be wrong about.
    unsafe {
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
        libc::raise(libc::SIGBUS);
    }
}
