//! What figures depend on: the machine, its system, and what else it is doing.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sealift::crypto::{Backend, CpuFeatures};
use serde::Serialize;

/// What it was measured on.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) cpu_features: String,
    pub(super) memory_bytes: Option<u64>,
    pub(super) kernel: String,
    pub(super) huge_pages: Option<String>,
    /// The program's own version.
    pub(super) version: &'static str,
    pub(super) backend: &'static str,
    pub(super) backend_why: String,
}

/// A directory's file system.
#[derive(Debug, Serialize)]
pub(super) struct FileSystem {
    pub(super) dir: String,
    pub(super) kind: String,
    pub(super) device: String,
}

/// What the machine did while it was measured.
#[derive(Debug, Serialize)]
pub(super) struct Load {
    /// Processes that were running or wanted to, on average over a minute, before the first turn.
    pub(super) before: Option<f64>,
    pub(super) after: Option<f64>,
    /// Share of the time that the hypervisor gave to others.
    pub(super) stolen: Option<f64>,
}

/// Taken before the first turn.
pub(super) struct LoadBefore {
    load: Option<f64>,
    ticks: Option<Ticks>,
}

#[derive(Clone, Copy)]
struct Ticks {
    all: u64,
    stolen: u64,
}

impl Machine {
    pub(super) fn look(chosen: Option<Backend>) -> Self {
        let features = CpuFeatures::detect();
        let choice = Backend::fastest_on(features);
        let (backend, why) = match chosen {
            Some(backend) => (backend, "as --backend says".to_owned()),
            None => (choice.backend, choice.why.to_owned()),
        };
        Self {
            cpu: cpu_model(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu_features: features.to_string(),
            memory_bytes: memory(),
            kernel: kernel(),
            huge_pages: huge_pages(),
            version: env!("CARGO_PKG_VERSION"),
            backend: backend.name(),
            backend_why: why,
        }
    }
}

impl FileSystem {
    /// That of `dir`, as the longest mount point above it says.
    pub(super) fn of(dir: &Path) -> Self {
        let path = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let (kind, device) = mounts
            .lines()
            .filter_map(mount)
            .filter(|mount| path.starts_with(&mount.point))
            .fold(None::<Mount>, |best, mount| match best {
                Some(best) if best.point.len() > mount.point.len() => Some(best),
                _ => Some(mount),
            })
            .map_or_else(|| ("unknown".to_owned(), "unknown".to_owned()), |mount| (mount.kind, mount.device));
        Self { dir: dir.display().to_string(), kind, device }
    }
}

impl LoadBefore {
    pub(super) fn now() -> Self {
        Self { load: load_average(), ticks: ticks() }
    }

    pub(super) fn until_now(self) -> Load {
        let stolen = match (self.ticks, ticks()) {
            (Some(before), Some(now)) if now.all > before.all => {
                Some(now.stolen.saturating_sub(before.stolen) as f64 / (now.all - before.all) as f64)
            }
            _ => None,
        };
        Load { before: self.load, after: load_average(), stolen }
    }
}

/// CPU time of this process and of the children that it has waited for.
pub(super) fn cpu_time() -> Duration {
    let own = clock_gettime(ClockId::ProcessCPUTime);
    let own = Duration::new(u64::try_from(own.tv_sec).unwrap_or(0), u32::try_from(own.tv_nsec).unwrap_or(0));
    own + children_time().unwrap_or_default()
}

/// See proc_pid_stat(5): fields 16 and 17, in clock ticks.
fn children_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(13);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.trim().to_owned())
}

fn kernel() -> String {
    let name = rustix::system::uname();
    format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy())
}

fn memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let kib = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.split_whitespace().next()?;
    kib.parse::<u64>().ok()?.checked_mul(1024)
}

/// The setting in brackets.
fn huge_pages() -> Option<String> {
    let settings = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?;
    Some(settings.split_once('[')?.1.split_once(']')?.0.to_owned())
}

fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// See proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
fn ticks() -> Option<Ticks> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
    Some(Ticks { all: fields.iter().sum(), stolen: *fields.get(7)? })
}

struct Mount {
    point: String,
    kind: String,
    device: String,
}

/// See proc_pid_mountinfo(5).
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let point = before.split(' ').nth(4)?.replace("\\040", " ");
    let mut after = after.split(' ');
    Some(Mount { point, kind: after.next()?.to_owned(), device: after.next()?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_as_the_manual_says() {
        let line = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = mount(line).unwrap();
        assert_eq!([mount.point, mount.kind, mount.device], ["/mnt 2", "ext3", "/dev/root"]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_is_known() {
        let machine = Machine::look(None);
        assert!(machine.kernel.starts_with("Linux ") && machine.memory_bytes > Some(1 << 20));
        assert_ne!(FileSystem::of(Path::new("/proc/self")).kind, "unknown");
        assert!(children_time().is_some() && ticks().is_some() && load_average().is_some());
        let before = cpu_time();
        while cpu_time() == before {}
    }
}
