//! A real server, SeaweedFS, behind a network that fails, and a program that is killed in the middle of it.
//!
//! `SEALIFT_SEED=n` replays one round; `SEALIFT_SOAK=1` runs ten times as many, and moves 20 GiB where a test moves 160 MiB: it needs 24 GiB of
//! room. `SEALIFT_PROGRAM=target/release/sealift`, with its whole path, lets another build of the program do it.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::large;
use crate::proxy::{Fault, Pace, Proxy};
use crate::rng::Rng;
use crate::s3::World;
use crate::support::{Run, rounds, wait};

const URL: &str = "s3://bucket/obj";
const PUT: [&str; 7] = ["put", "src", URL, "--part-size", "5M", "--threads", "1"];

/// The process that a proxy kills, and how many more requests it lets it make.
type Victim = Arc<Mutex<Option<(Option<Pid>, u64)>>>;

/// Runs the program and kills it when it makes request number `at`, counted from 0. Says whether it came to that.
fn killed_at(world: &World, victim: &Victim, at: u64, args: &[&str]) -> bool {
    *victim.lock().unwrap() = Some((None, at));
    let mut child = world.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    if let Some((pid, _)) = victim.lock().unwrap().as_mut() {
        *pid = Some(Pid::from_child(&child));
    }
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let ended = child.wait().unwrap();
    let was_killed = victim.lock().unwrap().take().is_none();
    assert!(was_killed || ended.success(), "{args:?}: {ended}: {said}");
    was_killed
}

/// Kills the victim if its time has come, and says what becomes of the request it has just made.
fn kill(victim: &Victim, rng: &mut Rng) -> Fault {
    let mut victim = victim.lock().unwrap();
    match victim.as_mut() {
        Some((Some(pid), 0)) => {
            kill_process(*pid, Signal::KILL).unwrap();
            *victim = None;
            match rng.below(3) {
                // The server may do what it was asked for, all of it or with half a body, or never hear of it.
                0 => Fault::None,
                1 => Fault::CutBody(rng.below(5 << 20)),
                _ => Fault::xml("503 Slow Down", "", "<Error><Code>SlowDown</Code></Error>"),
            }
        }
        Some((_, left)) => {
            *left = left.saturating_sub(1);
            Fault::None
        }
        None => Fault::None,
    }
}

#[test]
fn s16_killed_at_any_request_to_a_real_server_resume_yields_the_object() {
    let world = World::new();
    let plain = world.sandbox.random_file("src", (32 << 20) + 12_345);
    let (victim, rng) = (Victim::default(), Arc::new(Mutex::new(Rng::new(0))));
    let (of_proxy, random) = (Arc::clone(&victim), Arc::clone(&rng));
    let proxy = Proxy::before(world.server.port, move |_| kill(&of_proxy, &mut random.lock().unwrap()));
    world.reach_by(&proxy.url());
    world.run(&PUT).expect(0);
    let requests = proxy.seen().len() as u64;

    let rounds = 0..rounds(20, 200) as u64;
    let rounds = match std::env::var("SEALIFT_SEED") {
        Ok(seed) => seed.parse().map(|seed| seed..seed + 1).expect("SEALIFT_SEED is a number"),
        Err(_) => rounds,
    };
    for round in rounds {
        eprintln!("round {round}; SEALIFT_SEED={round} replays it");
        world.run(&["rm", URL]).expect(0);
        *rng.lock().unwrap() = Rng::new(round);
        let at = rng.lock().unwrap().below(requests);
        killed_at(&world, &victim, at, &PUT);
        // And, in half of the rounds, once more while it resumes.
        let again = {
            let mut rng = rng.lock().unwrap();
            rng.chance(50).then(|| rng.below(requests))
        };
        match (world.sandbox.uploads().as_slice(), again) {
            ([id], Some(at)) => drop(killed_at(&world, &victim, at, &["uploads", "resume", id])),
            (uploads, _) => assert!(uploads.len() < 2, "{uploads:?}"),
        }
        match world.sandbox.uploads().as_slice() {
            [id] => drop(world.run(&["uploads", "resume", id]).expect(0)),
            // Killed before there was anything to resume, or when all was done.
            _ if world.run(&["stat", URL]).code() == Some(0) => {}
            _ => drop(world.run(&PUT).expect(0)),
        }
        assert!(world.run(&["cat", URL]).expect(0).bytes() == plain);
        assert_eq!(world.sandbox.uploads(), [""; 0]);
    }
}

/// Runs the program to its end, watching its memory. What it prints is dropped, or compared with a file.
fn run_within(world: &World, memory: u64, args: &[&str], prints: Option<&Path>) {
    let mut cmp = prints.map(|file| Command::new("cmp").arg("-").arg(file).stdin(Stdio::piped()).spawn().unwrap());
    let stdout = cmp.as_mut().map_or(Stdio::null(), |cmp| cmp.stdin.take().unwrap().into());
    large::run_within(world.command(args).stdout(stdout), memory);
    assert!(cmp.is_none_or(|mut cmp| cmp.wait().unwrap().success()), "{args:?} does not print what it should");
}

#[test]
fn s24_s25_much_through_a_slow_network_that_fails_in_every_way() {
    let world = World::new();
    let (len, budget) = (rounds(160, 20 << 10) as u64 * (1 << 20), 96 << 20);
    world.sandbox.large_file("src", len);
    let rng = Mutex::new(Rng::new(1));
    let pace = Pace { latency: Duration::from_millis(10), bytes_per_second: 40 << 20 };
    let proxy = Proxy::slow(world.server.port, pace, move |_| {
        let mut rng = rng.lock().unwrap();
        match rng.below(40) {
            0 => Fault::xml("503 Slow Down", "", "<Error><Code>SlowDown</Code></Error>"),
            1 => Fault::xml("500 Internal Server Error", "", "<Error><Code>InternalError</Code></Error>"),
            2 => Fault::LoseAnswer,
            3 => Fault::CutBody(rng.below(8 << 20)),
            4 => Fault::CutAnswer(rng.below(8 << 20)),
            _ => Fault::None,
        }
    });
    world.reach_by(&proxy.url());
    // What is not the budget's: the program itself, its threads' stacks, connections.
    let memory = budget + (32 << 20);
    let (budget, source) = (budget.to_string(), world.sandbox.path("src"));
    run_within(&world, memory, &["put", "src", URL, "--memory-budget", &budget], None);
    run_within(&world, memory, &["cat", URL, "--memory-budget", &budget], Some(&source));
    // A third copy of 20 GiB does not fit everywhere.
    if len < 1 << 30 {
        run_within(&world, memory, &["get", URL, "out", "--memory-budget", &budget], None);
        assert!(large::same(&source, &world.sandbox.path("out")));
        run_within(&world, memory, &["verify", URL, "--against", "src", "--memory-budget", &budget], None);
    }
    assert_eq!(world.sandbox.uploads(), [""; 0]);
}

#[test]
fn a_download_that_was_killed_goes_on_where_it_was() {
    let world = World::new();
    let plain = world.sandbox.random_file("src", 160 << 20);
    world.run(&["put", "src", URL]).expect(0);
    let partial = world.sandbox.path(".out.sealift-partial");
    for signal in [Signal::KILL, Signal::INT] {
        let pace = Pace { latency: Duration::ZERO, bytes_per_second: 8 << 20 };
        let slow = Proxy::slow(world.server.port, pace, |_| Fault::None);
        world.reach_by(&slow.url());
        let get = ["get", URL, "out", "--json"];
        let child = world.command(&get).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // The note of how much is there lies behind the plaintext.
        let noted = || partial.metadata().is_ok_and(|file| file.len() > plain.len() as u64).then_some(());
        wait("a note", noted);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let run = Run::of_child(child);
        assert!(partial.exists() && !world.sandbox.exists("out"));
        if signal == Signal::INT {
            run.expect_error(130, "the same command goes on from there");
        }
        world.reach_by(&world.server.url());
        let got = world.run(&get).expect(0).json();
        assert!(got["resumed_from"].as_u64().unwrap() >= 64 << 20, "{got}");
        assert!(world.sandbox.read("out") == plain);
        assert!(!partial.exists());
        std::fs::remove_file(world.sandbox.path("out")).unwrap();
    }
}
