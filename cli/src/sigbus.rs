//! A mapped file that shrinks: reading a page that is gone raises `SIGBUS`. This makes it the same error that a positioned read has.
//!
//! The one file of the program with `unsafe` in it.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use sealift::source::MapSource;
use sealift::{Error, ErrorKind};

use crate::exit::Exit;

/// What the handler needs: set once, before the handler is in place, and never changed.
static WATCHED: OnceLock<Watched> = OnceLock::new();

struct Watched {
    addresses: Range<usize>,
    message: Vec<u8>,
}

/// Maps the file at `path`. If it shrinks while it is read, the process ends with `message` and the exit code for that.
///
/// One map for each process: it stays watched to the end.
pub(crate) fn map(path: &Path, message: String) -> sealift::Result<MapSource> {
    // SAFETY: of the two things `MapSource::open` accepts, this is the second: the handler below deals with faults in the map, and the
    // source goes to the engine only, which reads each byte once and relies on nothing. The source leaves this function only if the
    // handler is in place.
    let source = unsafe { MapSource::open(path) }?;
    let watched = Watched { addresses: source.address_range(), message: message.into_bytes() };
    WATCHED.set(watched).map_err(|_| Error::new(ErrorKind::Internal, "one process maps one source"))?;
    install().map_err(|e| Error::io("watching the mapped file", e))?;
    Ok(source)
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
        libc::sigemptyset(&mut action.sa_mask) != 0 || libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) != 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs on the thread that read the page, wherever it was in its code: so no locks, no allocation, nothing but the calls that
/// signal-safety(7) lists.
extern "C" fn on_sigbus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO, the kernel hands over a valid `siginfo_t`; for a positive code it sent the signal itself, and then
    // SIGBUS has an address.
    let address = unsafe { if (*info).si_code > 0 { Some((*info).si_addr().addr()) } else { None } };
    if let (Some(address), Some(watched)) = (address, WATCHED.get())
        && watched.addresses.contains(&address)
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
