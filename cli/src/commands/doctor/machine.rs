//! This machine: the program's own directory, and the processor.

use std::path::Path;

use sealift::ErrorKind;
use sealift::crypto::Backend;
use sealift::engine::{UploadState, list_uploads};

use super::Report;
use crate::config::Config;
use crate::exit::Result;
use crate::home::Home;

pub(super) fn check(report: &mut Report) -> Result {
    match Config::path().filter(|path| path.exists()) {
        Some(path) => report.ok("configuration", format!("{} is used", path.display()))?,
        None => report.ok("configuration", "there is no file, so flags have their own defaults")?,
    }
    ledgers(report)?;
    processor(report)
}

/// Without a place for ledgers nothing can be uploaded.
fn ledgers(report: &mut Report) -> Result {
    let dir = Home::find()?.uploads();
    // It is made with the first upload.
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    if let Err(error) = tempfile::tempfile_in(there) {
        let text = format!(
            "{}: {error}; ledgers of uploads belong there: make it writable, or set SEALIFT_HOME",
            there.display()
        );
        return report.fail("ledgers", ErrorKind::Io, text);
    }
    let uploads = list_uploads(&dir)?;
    let left = uploads.iter().filter(|upload| upload.state != UploadState::Running).count();
    match left {
        0 => report.ok("ledgers", format!("{} can be written", dir.display())),
        n => report.warn(
            "ledgers",
            format!("{n} uploads were interrupted; `sealift uploads list` shows them, `resume` goes on, `reap` gives them up"),
        ),
    }
}

fn processor(report: &mut Report) -> Result {
    let backend = Backend::default();
    let features = features();
    let has = |name: &str| features.contains(&name);
    let shown = if features.is_empty() { "no instructions for AES".to_owned() } else { features.join(" ") };
    let text = format!("AES-256-GCM by {}, on {} threads; the processor has {shown}", backend.name(), threads());
    if !has("aes") {
        return report.warn("processor", format!("{text}: sealing is slow here"));
    }
    report.ok("processor", text)
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// What the processor has that AES-256-GCM is faster with.
fn features() -> Vec<&'static str> {
    let mut features = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let found = [
            ("aes", std::arch::is_x86_feature_detected!("aes")),
            ("pclmulqdq", std::arch::is_x86_feature_detected!("pclmulqdq")),
            ("vaes", std::arch::is_x86_feature_detected!("vaes")),
            ("vpclmulqdq", std::arch::is_x86_feature_detected!("vpclmulqdq")),
            ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ];
        features.extend(found.into_iter().filter_map(|(name, is_there)| is_there.then_some(name)));
    }
    #[cfg(target_arch = "aarch64")]
    {
        let found = [
            ("aes", std::arch::is_aarch64_feature_detected!("aes")),
            ("pmull", std::arch::is_aarch64_feature_detected!("pmull")),
        ];
        features.extend(found.into_iter().filter_map(|(name, is_there)| is_there.then_some(name)));
    }
    features
}
