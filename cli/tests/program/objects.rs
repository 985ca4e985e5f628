//! What each command is for.

use crate::support::{Run, Sandbox, noise, python};
use std::io::Read as _;
use std::process::{Command, Stdio};

#[test]
fn a_file_comes_back_as_it_was() {
    let sandbox = Sandbox::new();
    for len in [0, 1, 16_383, 16_384, 1 << 20, 3_000_001] {
        let plain = sandbox.random_file("src", len);
        sandbox.run(&["put", "src", "store/obj", "--part-size", "1M"]).expect(0);
        sandbox.run(&["get", "store/obj", "out", "--force"]).expect(0);
        assert_eq!(sandbox.read("out"), plain);
        assert_eq!(sandbox.run(&["cat", "store/obj"]).expect(0).bytes(), plain);
        sandbox.run(&["verify", "store/obj"]).expect(0);
        sandbox.run(&["verify", "store/obj", "--against", "src"]).expect(0);
        let sealed = sandbox.read("store/obj");
        assert!(sealed.ends_with(b"SEALIFT1"));
        assert!(len < 1000 || !sealed.windows(16).any(|window| window == &plain[..16]), "plaintext is in the object");
    }
}

#[test]
fn a_dash_is_stdin_and_stdout() {
    let sandbox = Sandbox::new();
    let plain = noise(5_000_000);
    let args = ["put", "-", "obj", "--part-size", "1M"];
    sandbox.run_with_input(&args, &plain).expect(0);
    assert_eq!(sandbox.run(&["get", "obj", "-"]).expect(0).bytes(), plain);
    sandbox.run_with_input(&["verify", "obj", "--against", "-"], &plain).expect(0);
    sandbox.run_with_input(&["put", "-", "empty"], b"").expect(0);
    assert_eq!(sandbox.run(&["cat", "empty"]).expect(0).bytes(), b"");
    sandbox.run(&["put", "src", "-"]).expect(2);
    sandbox.run(&["get", "obj", "-", "--json"]).expect_error(2, "stdout");
}

#[test]
fn a_stream_in_parts_too_large_for_memory_waits_in_a_spool() {
    let sandbox = Sandbox::new();
    sandbox.large_file("src", 150 << 20);
    std::fs::create_dir(sandbox.path("spool")).unwrap();
    let args = ["put", "-", "obj", "--memory-budget", "32M", "--threads", "2", "--part-size", "64M"];
    let put = |more: &[&str]| {
        let stdin = std::fs::File::open(sandbox.path("src")).unwrap();
        Run::of(sandbox.command(args.iter().chain(more)).stdin(stdin))
    };
    let refused = put(&[]).expect_error(2, "memory budget of about 264 MiB");
    assert!(refused.stderr().contains("--spool-dir"), "{}", refused.stderr());
    put(&["--spool-dir", "none"]).expect_error(3, "spool directory none");
    put(&["--spool-dir", "spool"]).expect(0);
    let stat = sandbox.run(&["stat", "obj", "--json"]).expect(0).json();
    assert_eq!((stat["plain_len"].as_u64(), stat["parts"].as_u64()), (Some(150 << 20), Some(3)));
    sandbox.run(&["verify", "obj", "--against", "src"]).expect(0);
    assert_eq!(sandbox.list("spool"), [""; 0]);
    assert_eq!(sandbox.uploads(), [""; 0]);
}

#[test]
fn pipes_that_have_a_name_are_streams() {
    let sandbox = Sandbox::new();
    let fifo = sandbox.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let child = sandbox.start(&["put", "fifo", "obj"]);
    std::fs::write(&fifo, b"through a pipe").unwrap();
    Run::of_child(child).expect(0);
    assert_eq!(sandbox.run(&["cat", "obj"]).expect(0).bytes(), b"through a pipe");
    assert_eq!(sandbox.uploads(), [""; 0]);
}

#[test]
fn a_reader_of_stdout_that_goes_away_is_no_error() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 5_000_000);
    sandbox.run(&["put", "src", "obj"]).expect(0);
    let mut child = sandbox.start(&["cat", "obj"]);
    let mut first = [0; 100];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let run = Run::of_child(child).expect(0);
    assert_eq!(run.stderr(), "");
}

#[test]
fn ls_shows_what_is_there() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 1000);
    sandbox.run(&["put", "src", "store/b"]).expect(0);
    sandbox.run(&["put", "src", "store/a/c"]).expect(0);
    let listed = sandbox.run(&["ls", "store", "--json"]).expect(0).json();
    let keys: Vec<_> = listed.as_array().unwrap().iter().map(|object| object["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["a/c", "b"]);
    assert_eq!(listed[1]["sealed_len"], sandbox.read("store/b").len());
    assert!(listed[1]["modified"].as_str().unwrap().ends_with('Z'));

    let text = sandbox.run(&["ls", "store"]).expect(0).stdout();
    assert!(
        text.lines().all(|line| line.ends_with("  a/c") || line.ends_with("  b")) && text.lines().count() == 2,
        "{text}"
    );
    let one = sandbox.run(&["ls", "store/b", "--json"]).expect(0).json();
    assert_eq!(one.as_array().unwrap().len(), 1);
    sandbox.run(&["ls", "nowhere"]).expect_error(3, "nowhere");
    std::fs::create_dir(sandbox.path("empty")).unwrap();
    assert_eq!(sandbox.run(&["ls", "empty"]).expect(0).stdout(), "");
}

#[test]
fn rm_takes_body_and_envelope() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 1000);
    sandbox.run(&["put", "src", "store/obj"]).expect(0);
    sandbox.envelope_file("store", "obj");
    sandbox.run(&["rm", "store/obj"]).expect(0);
    assert!(!sandbox.exists("store/obj"));
    assert!(!sandbox.list("store/.sealift").iter().any(|name| name.starts_with("obj.")));
    sandbox.run(&["rm", "store/obj"]).expect_error(3, "store/obj");

    sandbox.run(&["rm", "src"]).expect_error(4, "src");
    assert!(sandbox.exists("src"), "a file that was not sealed is not ours to remove");
}

#[test]
fn cp_and_mv_take_body_and_envelope() {
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 100_000);
    sandbox.run(&["put", "src", "a/one"]).expect(0);
    sandbox.run(&["cp", "a/one", "b/c/two"]).expect(0);
    sandbox.run(&["mv", "a/one", "a/three"]).expect(0);
    assert!(!sandbox.exists("a/one"));
    for object in ["b/c/two", "a/three"] {
        assert_eq!(sandbox.run(&["cat", object]).expect(0).bytes(), plain, "{object}");
    }

    sandbox.run(&["cp", "a/three", "b/c/two", "--if-not-exists"]).expect_error(1, "exist");
    sandbox.run(&["cp", "a/three", "b/c/two"]).expect(0);
    sandbox.run(&["mv", "a/three", "./a/../a/three"]).expect_error(2, "same");
    sandbox.run(&["cp", "a/none", "a/four"]).expect_error(3, "a/none");
    sandbox.run(&["cp", "src", "a/four"]).expect_error(4, "src");
    sandbox.run(&["cp", "a/three", "discard:"]).expect_error(2, "discard:");
    assert_eq!(sandbox.run(&["cat", "a/three"]).expect(0).bytes(), plain);

    let moved = sandbox.run(&["mv", "a/three", "a/five", "--json"]).expect(0).json();
    assert!(moved["dest"].as_str().unwrap().ends_with("/a/five"));
    let copied = sandbox.run(&["cp", "a/five", "a/six", "--json"]).expect(0).json();
    assert!(copied["source"].as_str().unwrap().ends_with("/a/five"));
}

#[test]
fn what_is_bound_to_its_name_keeps_it() {
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 1000);
    sandbox.run(&["put", "src", "a/bound", "--bind"]).expect(0);
    sandbox.run(&["put", "src", "a/free"]).expect(0);
    assert_eq!(sandbox.run(&["cat", "a/bound", "--bound"]).expect(0).bytes(), plain);
    sandbox.run(&["cat", "a/free", "--bound"]).expect_error(4, "bound");
    sandbox.run(&["verify", "a/bound"]).expect(0);
    sandbox.run(&["mv", "a/bound", "a/other"]).expect_error(2, "bound");
    sandbox.run(&["cp", "a/bound", "b/bound"]).expect(0);
    assert_eq!(sandbox.run(&["cat", "b/bound"]).expect(0).bytes(), plain);

    // Renamed behind its back.
    let envelope = sandbox.envelope_file("a", "bound");
    let renamed = envelope.file_name().unwrap().to_str().unwrap().replacen("bound", "other", 1);
    std::fs::rename(&envelope, envelope.with_file_name(renamed)).unwrap();
    std::fs::rename(sandbox.path("a/bound"), sandbox.path("a/other")).unwrap();
    sandbox.run(&["cat", "a/other"]).expect_error(4, "other");
}

#[test]
fn verify_compares_and_names_the_first_difference() {
    let sandbox = Sandbox::new();
    let plain = sandbox.random_file("src", 3_000_000);
    sandbox.run(&["put", "src", "obj", "--part-size", "1M"]).expect(0);
    let mut other = plain.clone();
    other[2_345_678] ^= 1;
    sandbox.write("other", &other);
    sandbox.run(&["verify", "obj", "--against", "other"]).expect_error(1, "offset 2345678 ");
    sandbox.write("other", &plain[..1_000_000]);
    sandbox.run(&["verify", "obj", "--against", "other"]).expect_error(1, "offset 1000000 ");
    sandbox.write("other", &[&plain[..], b"x"].concat());
    sandbox.run(&["verify", "obj", "--against", "other"]).expect_error(1, "offset 3000000 ");
    sandbox.run(&["verify", "obj", "--against", "none"]).expect_error(3, "none");
}

#[test]
fn discard_counts_and_keeps_nothing() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 3_000_000);
    let report = sandbox.run(&["put", "src", "discard:", "--json"]).expect(0).json();
    assert_eq!(report["plain_len"], 3_000_000);
    assert!(report["bytes_per_second"].as_u64().unwrap() > 0);
    let text = sandbox.run(&["put", "src", "discard:"]).expect(0).stdout();
    assert!(text.contains("2.86 MiB") && text.contains("/s"), "{text}");
    assert_eq!(sandbox.list("home/uploads"), [""; 0]);
    sandbox.run(&["get", "discard:", "out"]).expect_error(2, "discard:");
}

#[test]
fn data_key_is_hex_after_a_warning() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 10);
    sandbox.run(&["put", "src", "obj"]).expect(0);
    let run = sandbox.run(&["data-key", "obj"]).expect(0);
    let hex = run.stdout();
    assert!(hex.trim_end().len() == 64 && hex.trim_end().bytes().all(|b| b.is_ascii_hexdigit()), "{hex}");
    assert!(run.stderr().contains("warning"));
    assert_eq!(sandbox.run(&["data-key", "obj"]).expect(0).stdout(), hex);
    sandbox.run(&["put", "src", "obj"]).expect(0);
    assert_ne!(sandbox.run(&["data-key", "obj"]).expect(0).stdout(), hex, "s03: every upload has a key of its own");
}

#[test]
fn a_terminal_gets_a_bar_with_rate_and_time_left() {
    let sandbox = Sandbox::new();
    sandbox.large_file("src", 300 << 20);
    // A terminal of 100 columns; what the program writes to it is printed.
    let terminal = "import fcntl, os, pty, struct, sys, termios
def read(fd):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 100, 0, 0))
    return os.read(fd, 4096)
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:], read)))";
    let put = sandbox.command(["put", "src", "obj"]);
    let mut python = Command::new(python());
    python.args(["-c", terminal]).arg(put.get_program()).args(put.get_args()).current_dir(sandbox.path("."));
    python.env("SEALIFT_HOME", sandbox.path("home")).env("TERM", "xterm").stdin(Stdio::null());
    let shown = Run::of(&mut python).expect(0).stdout();
    let (bar, rest) = shown.rsplit_once("Sealed").expect("what is said at the end");
    assert!(rest.contains("300.00 MiB"), "{shown}");
    assert!(bar.contains("/300.00 MiB") && bar.contains("iB/s") && bar.contains("ETA"), "{shown}");
}

#[test]
fn nothing_is_on_stderr_in_a_pipe_but_what_matters() {
    let sandbox = Sandbox::new();
    sandbox.random_file("src", 2_000_000);
    assert!(sandbox.run(&["put", "src", "obj"]).expect(0).stderr().contains("BACK IT UP"));
    assert_eq!(sandbox.run(&["put", "src", "obj"]).expect(0).stderr(), "");
    assert_eq!(sandbox.run(&["get", "obj", "out"]).expect(0).stderr(), "");
    let quiet = sandbox.run(&["put", "src", "obj", "--quiet"]).expect(0);
    assert_eq!((quiet.stdout(), quiet.stderr()), (String::new(), String::new()));
    let verbose = sandbox.run(&["-vv", "put", "src", "obj"]).expect(0);
    assert!(verbose.stderr().contains("TRACE"), "{}", verbose.stderr());
    let logged = Run::of(sandbox.command(["put", "src", "obj"]).env("RUST_LOG", "sealift=trace").stdout(Stdio::null()));
    assert!(logged.expect(0).stderr().contains("TRACE"));
}
