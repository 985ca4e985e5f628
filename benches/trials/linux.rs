//! The groups, and below them a function for each way.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::IoSliceMut;
use std::iter;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use io_uring::{IoUring, opcode, types};
use memmap2::{Advice, Mmap, MmapMut, UncheckedAdvice};
use rustix::fs::{FallocateFlags, OFlags};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use sealift::crypto::{Backend, CHUNK, Primitive, SEALED_CHUNK, SEALED_STRIPE, STRIPE};
use tempfile::TempDir;

use super::source;
use super::turns::take_turns;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// What the kernel may back with one page, and wants to be aligned to that.
const HUGE_PAGE: usize = 2 * MIB;
/// What O_DIRECT writes at a time, or a multiple of it.
const BLOCK: usize = 4 * KIB;
/// The least number of stripes whose sealed bytes fill whole blocks.
const DIRECT_STRIPES: usize = 4;
const _: () = assert!((DIRECT_STRIPES * SEALED_STRIPE).is_multiple_of(BLOCK));
/// Stripes of a part that is held in memory.
const PART_STRIPES: usize = 16;
/// Reads that io_uring is asked for at a time.
const AHEAD: usize = 4;

/// On a number of threads.
type Group = fn(&Trials, usize);

pub(crate) fn run() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let trials = Trials::new(args.iter().any(|arg| arg == "--test"));
    let groups: [(&str, Group); 5] = [
        ("read", Trials::reads),
        ("map", Trials::maps),
        ("ring", Trials::rings),
        ("write", Trials::writes),
        ("held", Trials::held_parts),
    ];
    for (_, group) in groups.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|arg| arg == name)) {
        for threads in [1, 2] {
            group(&trials, threads);
        }
    }
}

/// A file in the page cache, to be sealed.
struct Trials {
    dir: TempDir,
    file: File,
    len: usize,
    rounds: usize,
    rounds_on_disk: usize,
}

impl Trials {
    fn new(test: bool) -> Self {
        let (dir, len) = source::make(if test { 16 } else { 1024 });
        let len = len as usize;
        assert!(len.is_multiple_of(DIRECT_STRIPES * STRIPE), "SEALIFT_BENCH_MIB has to be a multiple of 4");
        let file = File::open(dir.path().join("source")).unwrap();
        let (rounds, rounds_on_disk) = if test { (1, 1) } else { (21, 9) };
        Self { dir, file, len, rounds, rounds_on_disk }
    }

    fn reads(&self, threads: usize) {
        self.compare(
            &format!("read, sealed and dropped, {threads} threads"),
            self.rounds,
            [
                ("256 KiB", &mut || self.read(threads, 256 * KIB)),
                ("64 KiB", &mut || self.read(threads, 64 * KIB)),
                ("128 KiB", &mut || self.read(threads, 128 * KIB)),
                ("1 MiB", &mut || self.read(threads, MIB)),
                ("256 KiB, buffers on a huge page", &mut || self.read_to_huge_page(threads)),
                ("256 KiB, threads pinned", &mut || self.read_pinned(threads)),
            ],
        );
        if let Err(error) = IoUring::new(1) {
            return println!("\nno io_uring here: {error}");
        }
        self.compare(
            &format!("read by io_uring, sealed and dropped, {threads} threads"),
            self.rounds,
            [
                ("256 KiB, pread", &mut || self.read(threads, 256 * KIB)),
                ("256 KiB, 4 ahead", &mut || self.read_by_uring(threads, false)),
                ("256 KiB, 4 ahead, fixed buffers", &mut || self.read_by_uring(threads, true)),
            ],
        );
    }

    fn maps(&self, threads: usize) {
        self.compare(
            &format!("mapped, sealed and dropped, {threads} threads"),
            self.rounds,
            [
                ("read, 256 KiB", &mut || self.read(threads, 256 * KIB)),
                ("map", &mut || self.map(threads, MIB, None)),
                ("MADV_SEQUENTIAL", &mut || self.map(threads, MIB, Some(Advice::Sequential))),
                ("MADV_HUGEPAGE", &mut || self.map(threads, MIB, Some(Advice::HugePage))),
                ("MADV_POPULATE_READ by the MiB", &mut || self.map_populated(threads)),
            ],
        );
        self.compare(
            &format!("mapped, pages given back by MADV_DONTNEED, {threads} threads"),
            self.rounds,
            [
                ("never, but all at the end", &mut || self.map(threads, MIB, None)),
                ("by 1 MiB", &mut || self.map_given_back(threads, MIB)),
                ("by 8 MiB", &mut || self.map_given_back(threads, 8 * MIB)),
                ("by 32 MiB", &mut || self.map_given_back(threads, 32 * MIB)),
            ],
        );
    }

    fn rings(&self, threads: usize) {
        self.compare(
            &format!("mapped, sealed into a ring, {threads} threads"),
            self.rounds,
            [
                ("64 KiB", &mut || self.map(threads, 64 * KIB, None)),
                ("256 KiB", &mut || self.map(threads, 256 * KIB, None)),
                ("512 KiB", &mut || self.map(threads, 512 * KIB, None)),
                ("1 MiB", &mut || self.map(threads, MIB, None)),
                ("2 MiB", &mut || self.map(threads, 2 * MIB, None)),
            ],
        );
        self.compare(
            &format!("read into a buffer, sealed into a ring of its size, {threads} threads"),
            self.rounds,
            [
                ("64 KiB", &mut || self.read(threads, 64 * KIB)),
                ("256 KiB", &mut || self.read(threads, 256 * KIB)),
                ("512 KiB", &mut || self.read(threads, 512 * KIB)),
                ("1 MiB", &mut || self.read(threads, MIB)),
                ("2 MiB", &mut || self.read(threads, 2 * MIB)),
            ],
        );
    }

    fn writes(&self, threads: usize) {
        self.compare(
            &format!("read, sealed into a file and synced, {threads} threads"),
            self.rounds_on_disk,
            [
                ("256 KiB", &mut || self.write(threads, 256 * KIB, false)),
                ("1 MiB", &mut || self.write(threads, MIB, false)),
                ("4 MiB", &mut || self.write(threads, 4 * MIB, false)),
                ("1 MiB, after fallocate", &mut || self.write(threads, MIB, true)),
                ("O_DIRECT, 1 MiB", &mut || self.write_direct(threads, MIB, false)),
                ("O_DIRECT, 4 MiB", &mut || self.write_direct(threads, 4 * MIB, false)),
                ("O_DIRECT, 4 MiB, after fallocate", &mut || self.write_direct(threads, 4 * MIB, true)),
            ],
        );
    }

    fn held_parts(&self, threads: usize) {
        self.compare(
            &format!("read, sealed into a held part of 16 MiB, {threads} threads"),
            self.rounds,
            [
                ("straight", &mut || self.hold(threads)),
                #[cfg(target_arch = "x86_64")]
                ("cache, then non-temporal stores", &mut || self.hold_past_cache(threads)),
            ],
        );
    }

    /// Medians, and each contender's speed as a share of the first one's.
    fn compare<const N: usize>(&self, title: &str, rounds: usize, contenders: [(&str, &mut dyn FnMut()); N]) {
        let names = contenders.each_ref().map(|(name, _)| *name);
        let times = take_turns(rounds, contenders.map(|(_, run)| run));
        let times = times.map(|times| times[times.len() / 2].as_secs_f64());
        println!("\n{title}: medians of {rounds}");
        for (name, time) in names.into_iter().zip(times) {
            println!("  {name:34} {:8.0} MB/s {:8.3}", self.len as f64 / 1e6 / time, times[0] / time);
        }
    }

    fn read(&self, threads: usize, piece: usize) {
        self.each_piece(threads, piece, |primitive, pieces| {
            self.read_pieces(primitive, pieces, &mut vec![0; piece], &mut vec![0; sealed_len(piece)]);
        });
    }

    /// Both buffers within one huge page.
    fn read_to_huge_page(&self, threads: usize) {
        const PIECE: usize = 256 * KIB;
        self.each_piece(threads, PIECE, |primitive, pieces| {
            let mut memory = on_huge_pages(2 * HUGE_PAGE);
            let start = memory.as_ptr().align_offset(HUGE_PAGE);
            let (plain, rest) = memory[start..start + HUGE_PAGE].split_at_mut(PIECE);
            self.read_pieces(primitive, pieces, plain, &mut rest[..sealed_len(PIECE)]);
        });
    }

    /// Each thread on a core of its own.
    fn read_pinned(&self, threads: usize) {
        const PIECE: usize = 256 * KIB;
        let allowed = sched_getaffinity(None).unwrap();
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
        let thread = AtomicUsize::new(0);
        self.each_piece(threads, PIECE, |primitive, pieces| {
            let mut own = CpuSet::new();
            own.set(cores[thread.fetch_add(1, Relaxed) % cores.len()]);
            sched_setaffinity(None, &own).unwrap();
            self.read_pieces(primitive, pieces, &mut vec![0; PIECE], &mut vec![0; sealed_len(PIECE)]);
        });
    }

    fn read_pieces(
        &self,
        primitive: &Primitive,
        pieces: &mut dyn Iterator<Item = usize>,
        plain: &mut [u8],
        sealed: &mut [u8],
    ) {
        for at in pieces {
            self.file.read_exact_at(plain, at as u64).unwrap();
            seal(primitive, plain, sealed);
        }
    }

    fn read_by_uring(&self, threads: usize, fixed: bool) {
        const PIECE: usize = 256 * KIB;
        let file = types::Fd(self.file.as_raw_fd());
        self.each_piece(threads, PIECE, |primitive, pieces| {
            let mut buffers = [(); AHEAD].map(|()| vec![0; PIECE]);
            let mut sealed = vec![0; sealed_len(PIECE)];
            let mut ring = IoUring::new(AHEAD as u32).unwrap();
            if fixed {
                let slices = buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
                // SAFETY: an `IoSliceMut` is laid out as an `iovec`. The buffers are declared before the ring, so they outlive it.
                unsafe {
                    let slices = std::slice::from_raw_parts(slices.as_ptr().cast(), AHEAD);
                    ring.submitter().register_buffers(slices).unwrap();
                }
            }
            let ask = |ring: &mut IoUring, slot: usize, buffer: *mut u8, at: usize| {
                let read = match fixed {
                    true => opcode::ReadFixed::new(file, buffer, PIECE as u32, slot as u16).offset(at as u64).build(),
                    false => opcode::Read::new(file, buffer, PIECE as u32).offset(at as u64).build(),
                };
                // SAFETY: the buffer has `PIECE` bytes, and nobody looks at it until the read is done, which is waited for below.
                unsafe { ring.submission().push(&read.user_data(slot as u64)) }.unwrap();
            };
            let mut reading = 0;
            for (slot, at) in pieces.take(AHEAD).enumerate() {
                ask(&mut ring, slot, buffers[slot].as_mut_ptr(), at);
                reading += 1;
            }
            while reading > 0 {
                ring.submit_and_wait(1).unwrap();
                loop {
                    let Some(done) = ring.completion().next() else { break };
                    assert_eq!(done.result(), PIECE as i32);
                    let slot = done.user_data() as usize;
                    seal(primitive, &buffers[slot], &mut sealed);
                    match pieces.next() {
                        Some(at) => ask(&mut ring, slot, buffers[slot].as_mut_ptr(), at),
                        None => reading -= 1,
                    }
                }
            }
        });
    }

    fn map(&self, threads: usize, piece: usize, advice: Option<Advice>) {
        let map = self.mapped();
        if let Some(advice) = advice {
            map.advise(advice).unwrap();
        }
        self.each_piece(threads, piece, |primitive, pieces| {
            let mut sealed = vec![0; sealed_len(piece)];
            for at in pieces {
                seal(primitive, &map[at..at + piece], &mut sealed);
            }
        });
    }

    fn map_populated(&self, threads: usize) {
        let map = self.mapped();
        self.each_piece(threads, STRIPE, |primitive, pieces| {
            let mut sealed = vec![0; SEALED_STRIPE];
            for at in pieces {
                map.advise_range(Advice::PopulateRead, at, STRIPE).unwrap();
                seal(primitive, &map[at..at + STRIPE], &mut sealed);
            }
        });
    }

    /// Whoever seals the last MiB of a region gives its pages back.
    fn map_given_back(&self, threads: usize, region: usize) {
        let map = self.mapped();
        let left: Vec<AtomicUsize> = map.chunks(region).map(|region| AtomicUsize::new(region.len())).collect();
        self.each_piece(threads, STRIPE, |primitive, pieces| {
            let mut sealed = vec![0; SEALED_STRIPE];
            for at in pieces {
                seal(primitive, &map[at..at + STRIPE], &mut sealed);
                if left[at / region].fetch_sub(STRIPE, Relaxed) == STRIPE {
                    let start = at / region * region;
                    let len = region.min(self.len - start);
                    // SAFETY: the map is of a file and only read, so a page that is read again comes from the file again.
                    unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, len) }.unwrap();
                }
            }
        });
    }

    fn mapped(&self) -> Mmap {
        // SAFETY: nobody else knows the file.
        unsafe { Mmap::map(&self.file) }.unwrap()
    }

    fn write(&self, threads: usize, piece: usize, allocated: bool) {
        let out = self.create(allocated, OFlags::empty());
        self.each_piece(threads, piece, |primitive, pieces| {
            let (mut plain, mut sealed) = (vec![0; piece], vec![0; sealed_len(piece)]);
            for at in pieces {
                self.file.read_exact_at(&mut plain, at as u64).unwrap();
                seal(primitive, &plain, &mut sealed);
                out.write_all_at(&sealed, sealed_len(at) as u64).unwrap();
            }
        });
        out.sync_all().unwrap();
    }

    /// A sealed stripe ends within a block, so stripes are copied one behind the other, and whole blocks of them written.
    fn write_direct(&self, threads: usize, piece: usize, allocated: bool) {
        let out = self.create(allocated, OFlags::DIRECT);
        self.each_piece(threads, DIRECT_STRIPES * STRIPE, |primitive, pieces| {
            let (mut plain, mut sealed) = (vec![0; STRIPE], vec![0; SEALED_STRIPE]);
            let mut aligned = MmapMut::map_anon(DIRECT_STRIPES * SEALED_STRIPE).unwrap();
            for at in pieces {
                let mut written = 0;
                for n in 0..DIRECT_STRIPES {
                    self.file.read_exact_at(&mut plain, (at + n * STRIPE) as u64).unwrap();
                    seal(primitive, &plain, &mut sealed);
                    let copied = (n + 1) * SEALED_STRIPE;
                    aligned[copied - SEALED_STRIPE..copied].copy_from_slice(&sealed);
                    let whole = copied / BLOCK * BLOCK;
                    if whole - written >= piece {
                        out.write_all_at(&aligned[written..whole], (sealed_len(at) + written) as u64).unwrap();
                        written = whole;
                    }
                }
            }
        });
        out.sync_all().unwrap();
    }

    /// Empty: what the turn before has written goes now.
    fn create(&self, allocated: bool, flags: OFlags) -> File {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).custom_flags(flags.bits() as i32);
        let file = options.open(self.dir.path().join("sealed")).unwrap();
        if allocated {
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, sealed_len(self.len) as u64).unwrap();
        }
        file
    }

    /// As where a store has to send a part again: sealed bytes go to memory that is too large for the cache.
    fn hold(&self, threads: usize) {
        self.each_piece(threads, STRIPE, |primitive, pieces| {
            let (mut plain, mut part) = (vec![0; STRIPE], on_huge_pages(PART_STRIPES * SEALED_STRIPE));
            for (n, at) in pieces.enumerate() {
                self.file.read_exact_at(&mut plain, at as u64).unwrap();
                seal(primitive, &plain, held_stripe(&mut part, n));
            }
        });
    }

    #[cfg(target_arch = "x86_64")]
    fn hold_past_cache(&self, threads: usize) {
        self.each_piece(threads, STRIPE, |primitive, pieces| {
            let (mut plain, mut part) = (vec![0; STRIPE], on_huge_pages(PART_STRIPES * SEALED_STRIPE));
            let mut sealed = vec![0; SEALED_STRIPE];
            for (n, at) in pieces.enumerate() {
                self.file.read_exact_at(&mut plain, at as u64).unwrap();
                seal(primitive, &plain, &mut sealed);
                copy_past_cache(&sealed, held_stripe(&mut part, n));
            }
        });
    }

    /// Threads with a key each, which take the next piece until there is none.
    fn each_piece(
        &self,
        threads: usize,
        piece: usize,
        work: impl Fn(&Primitive, &mut dyn Iterator<Item = usize>) + Sync,
    ) {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let primitive = Primitive::new(Backend::default()).unwrap();
                    let pieces = iter::repeat_with(|| next.fetch_add(piece, Relaxed));
                    work(&primitive, &mut pieces.take_while(|at| *at < self.len));
                });
            }
        });
    }
}

fn seal(primitive: &Primitive, plain: &[u8], sealed: &mut [u8]) {
    for (plain, sealed) in plain.chunks_exact(CHUNK).zip(sealed.chunks_exact_mut(SEALED_CHUNK)) {
        primitive.seal(plain, sealed).unwrap();
    }
    black_box(sealed);
}

fn sealed_len(plain: usize) -> usize {
    plain / CHUNK * SEALED_CHUNK
}

fn on_huge_pages(len: usize) -> MmapMut {
    let memory = MmapMut::map_anon(len).unwrap();
    memory.advise(Advice::HugePage).unwrap();
    memory
}

/// Where the `n`th stripe goes: after a part's last one comes the first again.
fn held_stripe(part: &mut [u8], n: usize) -> &mut [u8] {
    let start = n % PART_STRIPES * SEALED_STRIPE;
    &mut part[start..start + SEALED_STRIPE]
}

#[cfg(target_arch = "x86_64")]
fn copy_past_cache(from: &[u8], to: &mut [u8]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

    // SAFETY: every bit pattern is a vector, and both instructions are of every x86-64.
    unsafe {
        let (before, vectors, after) = to.align_to_mut::<__m128i>();
        assert!(before.is_empty() && after.is_empty() && from.len() == size_of_val(vectors));
        for (from, to) in from.as_chunks::<16>().0.iter().zip(vectors) {
            _mm_stream_si128(to, _mm_loadu_si128(from.as_ptr().cast()));
        }
        _mm_sfence();
    }
}
