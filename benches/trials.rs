//! Trials: other ways to read, seal and write a file than Sealift's, each as a loop written by hand. What became of them is said in
//! `docs/performance.md`, section "Tried".
//!
//! `cargo bench --bench trials` runs all groups, `-- map ring` those two; with `-- --test` each way runs once on a small file. Groups: `read`,
//! `map`, `ring`, `write`, `held`. `SEALIFT_BENCH_MIB` sets the file's size, a multiple of 4.
#![allow(unsafe_code, reason = "maps, io_uring and non-temporal stores are measured")]
#![allow(clippy::unwrap_used, reason = "a benchmark has nobody to report an error to")]

#[cfg(target_os = "linux")]
#[path = "trials/linux.rs"]
mod linux;
#[cfg(target_os = "linux")]
#[path = "support/source.rs"]
mod source;
#[cfg(target_os = "linux")]
#[path = "support/turns.rs"]
mod turns;

fn main() {
    #[cfg(target_os = "linux")]
    linux::run();
    #[cfg(not(target_os = "linux"))]
    println!("These are trials of what Linux offers.");
}
