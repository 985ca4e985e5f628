//! A large file in a directory store: 4 GiB in the soak.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::{Run, Sandbox, rounds};

/// The default budget, and what is not of it: the program itself, its threads' stacks.
const MEMORY: u64 = (256 + 32) << 20;

/// Memory that a process has of its own, in bytes; 0 if it has ended. Pages of a file that `put` has mapped are the page cache's.
fn own_memory(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    own.and_then(|own| own.trim().strip_suffix(" kB")).map_or(0, |kib| kib.parse::<u64>().unwrap() << 10)
}

/// Runs `command` to its end, watching its memory, of which it may have so many bytes.
pub(crate) fn run_within(command: &mut Command, memory: u64) -> Run {
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let began = Instant::now();
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(own_memory(&child));
        sleep(Duration::from_millis(5));
    }
    let run = Run::of_child(child).expect(0);
    eprintln!("{args:?}: peak memory {} MiB, {:.1} s", peak >> 20, began.elapsed().as_secs_f64());
    assert!(0 < peak && peak < memory, "{args:?}: {} MiB", peak >> 20);
    run
}

pub(crate) fn same(a: &Path, b: &Path) -> bool {
    Command::new("cmp").args([a, b]).status().unwrap().success()
}

#[test]
fn a_large_file_comes_back_whole_and_by_range_within_the_budget() {
    let sandbox = Sandbox::new();
    let (chunk, part) = (16_384, 16 << 20);
    // Not a multiple of anything.
    let len = (rounds(160, 4 << 10) as u64) * (1 << 20) + 12_345;
    sandbox.large_file("src", len);
    let run = |args: &[&str]| run_within(sandbox.command(args).stdout(Stdio::piped()), MEMORY);
    run(&["put", "src", "store/obj"]);
    run(&["get", "store/obj", "out"]);
    assert!(same(&sandbox.path("src"), &sandbox.path("out")));
    std::fs::remove_file(sandbox.path("out")).unwrap();
    run(&["verify", "store/obj", "--against", "src"]);
    let stat = run(&["stat", "store/obj", "--json"]).json();
    assert_eq!((stat["plain_len"].as_u64(), stat["parts"].as_u64()), (Some(len), Some(len.div_ceil(part))));

    let source = std::fs::File::open(sandbox.path("src")).unwrap();
    let mut last = 0;
    for (first, end) in [
        (0, 1),
        (chunk - 1, chunk + 1),
        (part - 1, part + 1),
        (part, 2 * part),
        (3 * part - 12_345, 6 * part + 54_321),
        (len / 2 + 17, len / 2 + 17 + (1 << 20)),
        (len - 12_345 - chunk - 1, len - 12_344),
        (len - 1, len),
        (0, 3 << 20),
    ] {
        use std::os::unix::fs::FileExt as _;
        let mut slice = vec![0; (end - first) as usize];
        source.read_exact_at(&mut slice, first).unwrap();
        let range = format!("{first}-{}", end - 1);
        assert!(sandbox.run(&["cat", "store/obj", "--range", &range]).expect(0).bytes() == slice, "{range}");
        last = last.max(end);
    }
    assert_eq!(last, len);
    let past = format!("{len}-{}", len + 1);
    let refused = sandbox.run(&["cat", "store/obj", "--range", &past]).expect_error(1, "range");
    assert!(refused.bytes().is_empty());
}
