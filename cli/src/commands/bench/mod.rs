//! `bench`: how fast it is here, beside what it could be, and beside others.

mod bed;
mod by_hand;
mod chart;
mod files;
mod machine;
mod measure;
mod memory;
mod peers;
mod remote;
mod report;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use sealift::source::{FileSource, ReadSpeeds};
use sealift::{Error, ErrorKind};

use self::bed::Bed;
use self::machine::{FileSystem, LoadBefore, Machine};
use self::measure::Measured;
use self::remote::Target;
use self::report::{Entry, ReadMode, Report};
use crate::args::{Bench, Group};
use crate::exit::{Failure, Result};
use crate::interrupt::Interrupts;
use crate::output::Bar;
use crate::source;

pub(crate) async fn bench(args: Bench) -> Result {
    if let Some(chart) = &args.chart {
        // Better known now than after minutes.
        fs::write(chart, "").map_err(|e| Error::io(format!("writing {}", chart.display()), e))?;
    }
    // Looked at after every turn: then the files are removed.
    let interrupted = Interrupts::listen()?.into_flag();
    let machine = Machine::look(args.backend);
    let bed = Bed::new(&args)?;
    let mut targets = Vec::new();
    for url in args.urls.iter().filter(|_| args.includes(Group::Url)) {
        let unique = bed.dir().file_name().and_then(|name| name.to_str()).and_then(|name| name.rsplit('-').next());
        targets.push(Target::open(url, &args.store, unique.unwrap_or("0")).await?);
    }
    let measured = measured(&args, &bed, &targets, machine, &interrupted);
    for target in &targets {
        let cleaned = target.clean().await;
        if measured.is_ok() {
            cleaned?;
        }
    }
    let report = match measured {
        // Whatever failed then: a child that got the same signal, most likely.
        Err(_) if interrupted.load(Relaxed) => {
            return Err(Failure::new(ErrorKind::Cancelled, "the benchmark was stopped"));
        }
        measured => measured?,
    };
    if let Some(chart) = &args.chart {
        fs::write(chart, report.chart()).map_err(|e| Error::io(format!("writing {}", chart.display()), e))?;
    }
    args.json.print(&report, || report.table())
}

fn measured(args: &Bench, bed: &Bed, targets: &[Target], machine: Machine, interrupted: &AtomicBool) -> Result<Report> {
    let (mut rows, mut claims, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    if args.includes(Group::Memory) {
        memory::rows(bed, &mut rows, &mut claims)?;
    }
    if args.includes(Group::Small) {
        memory::small(bed, &mut rows, &mut claims)?;
    }
    if args.includes(Group::File) {
        files::dropped(bed, &mut rows, &mut claims)?;
    }
    if args.includes(Group::Directory) {
        files::directory(bed, &mut rows, &mut claims)?;
    }
    if args.includes(Group::Range) {
        files::ranges(bed, &mut rows, &mut claims)?;
    }
    if args.includes(Group::Peers) {
        skipped = peers::rows(bed, &mut rows, &mut claims)?;
    }
    remote::rows(bed, targets, &mut rows, &mut claims)?;

    let read_mode = read_mode(bed)?;
    let load = LoadBefore::now();
    let bar = Bar::of_steps(!args.json.json, (rows.len() * (bed.rounds + 1)) as u64);
    let measured = measure::take_turns(rows, bed.rounds, |round, name| {
        bar.step(&format!("round {round} of {}: {name}", bed.rounds));
        match interrupted.load(Relaxed) {
            true => Err(Failure::new(ErrorKind::Cancelled, "the benchmark was stopped")),
            false => Ok(()),
        }
    })?;
    bar.finish();
    let load = load.until_now();
    let file_system = FileSystem::of(bed.dir());
    let ratios = claims.iter().filter_map(|claim| claim.ratio(&measured)).collect();
    let doubts = doubts(&machine, &file_system, &load, bed.rounds, &measured);
    let rows = measured.iter().map(Entry::of).collect();
    let (rounds, file_bytes) = (bed.rounds, bed.size);
    Ok(Report { machine, file_system, load, rounds, file_bytes, read_mode, rows, ratios, skipped, doubts })
}

/// What `put --read-mode auto` finds out about the file.
fn read_mode(bed: &Bed) -> Result<ReadMode> {
    let (file, map) = (FileSource::open(bed.file())?, source::map(&bed.file())?);
    let speeds = ReadSpeeds::measure(&file, &map, bed.backend)?;
    Ok(ReadMode {
        read_bytes_per_second: speeds.map(|speeds| speeds.read),
        map_bytes_per_second: speeds.map(|speeds| speeds.map),
        chosen: if speeds.is_some_and(ReadSpeeds::map_is_faster) { "map" } else { "read" },
    })
}

/// Reasons not to believe the figures.
fn doubts(
    machine: &Machine,
    file_system: &FileSystem,
    load: &machine::Load,
    rounds: usize,
    rows: &[Measured],
) -> Vec<String> {
    let mut doubts = Vec::new();
    if load.before.is_some_and(|load| load > 0.25 * machine.cores as f64) {
        doubts.push("other programs were running when it began. Compare only what is conclusive, or run it again when they are done.".to_owned());
    }
    if load.stolen.is_some_and(|stolen| stolen > 0.02) {
        doubts.push("the hypervisor gave much of the time to other machines.".to_owned());
    }
    let noisy = rows.iter().filter(|row| row.is_noisy()).count();
    if noisy * 3 > rows.len() {
        doubts.push(format!(
            "{noisy} of {} rows vary by more than {:.0} % from round to round: this machine is too busy for conclusions.",
            rows.len(),
            measure::NOISY * 100.0
        ));
    }
    if rounds < 5 {
        doubts.push(format!("{rounds} rounds are too few for conclusions: they give an impression."));
    }
    if file_system.kind == "tmpfs" {
        doubts.push(format!("{} is memory: what is `synced` there is not on any disk.", file_system.dir));
    }
    doubts
}

impl Bench {
    fn includes(&self, group: Group) -> bool {
        self.only.is_empty() || self.only.contains(&group)
    }
}

/// `1 core`, `8 cores`.
fn on(threads: usize) -> String {
    if threads == 1 { "1 core".to_owned() } else { format!("{threads} cores") }
}
