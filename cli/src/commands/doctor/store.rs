//! The store: who asks, where it is, what time it is there.

use std::path::{Path, PathBuf};

use sealift::store::{DirStore, MultipartStore, percent_decode};
use sealift::{Error, ErrorKind, ObjectId};

use super::probe::Probe;
use super::{Report, told};
use crate::args::StoreArgs;
use crate::exit::Result;
use crate::interrupt::Interrupts;
use crate::store::keeps_nothing;
use crate::url::{Location, Remote, Scheme};

/// How far clocks may be apart before that is worth a word, in seconds.
const NOTABLE: u64 = 30;
/// How far before stores refuse what this machine dates.
const REFUSED: u64 = 15 * 60;

/// A store, as what it is.
pub(super) enum Store {
    Dir(DirStore),
    #[cfg(feature = "oss")]
    Oss(Box<sealift::store::OssStore>),
    #[cfg(feature = "s3")]
    S3(Box<sealift::store::S3Store>),
}

impl Store {
    pub(super) fn as_dyn(&self) -> &dyn MultipartStore {
        match self {
            Self::Dir(store) => store,
            #[cfg(feature = "oss")]
            Self::Oss(store) => store.as_ref(),
            #[cfg(feature = "s3")]
            Self::S3(store) => store.as_ref(),
        }
    }

    fn clock_ahead(&self) -> Option<i64> {
        match self {
            Self::Dir(_) => None,
            #[cfg(feature = "oss")]
            Self::Oss(store) => store.clock_ahead(),
            #[cfg(feature = "s3")]
            Self::S3(store) => store.clock_ahead(),
        }
    }
}

/// The store, if it can be tried any further.
type Passed = Option<Store>;

pub(super) async fn check(url: &Location, at: &StoreArgs, report: &mut Report) -> Result {
    // Beside the objects there, or to be there. From here on a signal ends the checks, and what they wrote is removed all the same.
    let name = format!(".sealift-doctor-{}", base16ct::lower::encode_string(ObjectId::random()?.as_bytes()));
    match url {
        Location::File(path) => {
            let Some(dir) = directory(path, report)? else { return Ok(()) };
            let store = Store::Dir(DirStore::open(&dir)?);
            let mut probe = Probe::new(&store, name.clone());
            let done = Interrupts::listen()?.dropping(probe.run(report)).await;
            probe.remove(report).await?;
            // What the store made around the objects.
            let _ = std::fs::remove_dir_all(dir.join(name));
            done
        }
        Location::Remote(remote) => {
            let Some(store) = Box::pin(connect(remote, at, report)).await? else { return Ok(()) };
            let Some(folder) = bucket(&store, remote, report).await? else { return Ok(()) };
            let mut probe = Probe::new(&store, format!("{folder}{name}"));
            let done = Interrupts::listen()?.dropping(probe.run(report)).await;
            probe.remove(report).await?;
            done
        }
        Location::Discard => Err(keeps_nothing()),
    }
}

/// The directory to try things in: the one that is meant, or what there is of the way to it.
fn directory(path: &Path, report: &mut Report) -> Result<Option<PathBuf>> {
    let there = path.ancestors().find(|dir| dir.exists());
    let Some(dir) = there else {
        report.fail("directory", ErrorKind::NotFound, format!("there is no directory above {}", path.display()))?;
        return Ok(None);
    };
    // An object's own path means the directory it is in.
    let dir = if dir == path && !dir.is_dir() { dir.parent().unwrap_or(dir) } else { dir };
    if !dir.is_dir() {
        let why = format!("{} is no directory, so nothing can be stored below it: name another place", dir.display());
        report.fail("directory", ErrorKind::Io, why)?;
        return Ok(None);
    }
    match path.parent() {
        Some(parent) if dir != path && dir != parent => {
            let text = format!("there is no {} yet; the first `put` makes it, in {}", parent.display(), dir.display());
            report.ok("directory", text)?;
        }
        _ => report.ok("directory", format!("{} is there", dir.display()))?,
    }
    Ok(Some(dir.to_owned()))
}

/// The client for a bucket, with credentials.
async fn connect(remote: &Remote, at: &StoreArgs, report: &mut Report) -> Result<Passed> {
    let url = format!("{}://{}", remote.scheme.name(), remote.bucket);
    match remote.scheme {
        Scheme::Oss => connect_oss(&url, at, report),
        Scheme::S3 => connect_s3(&url, at, report).await,
    }
}

#[cfg(feature = "s3")]
async fn connect_s3(url: &str, at: &StoreArgs, report: &mut Report) -> Result<Passed> {
    let store = match crate::store::connect_s3(url, at).await {
        Ok(store) => store,
        Err(failure) => {
            report.fail("configuration", ErrorKind::Io, told(failure.error()))?;
            return Ok(None);
        }
    };
    match store.credentials_source().await {
        Ok(source) => report.ok("credentials", format!("found in {source}"))?,
        Err(error) => {
            report.fail_with("credentials", &error)?;
            return Ok(None);
        }
    }
    Ok(Some(Store::S3(Box::new(store))))
}

#[cfg(not(feature = "s3"))]
async fn connect_s3(_: &str, _: &StoreArgs, report: &mut Report) -> Result<Passed> {
    report.fail("configuration", ErrorKind::Io, "this program was built without S3")?;
    Ok(None)
}

#[cfg(feature = "oss")]
fn connect_oss(url: &str, at: &StoreArgs, report: &mut Report) -> Result<Passed> {
    match crate::store::open_oss(url, at) {
        Ok(store) => {
            report.ok("credentials", format!("found in {}", store.credentials_source()))?;
            Ok(Some(Store::Oss(Box::new(store))))
        }
        Err(failure) => {
            let is_about_them = failure.error().to_string().contains("credentials");
            let check = if is_about_them { "credentials" } else { "configuration" };
            report.fail(check, ErrorKind::Io, told(failure.error()))?;
            Ok(None)
        }
    }
}

#[cfg(not(feature = "oss"))]
fn connect_oss(_: &str, _: &StoreArgs, report: &mut Report) -> Result<Passed> {
    report.fail("configuration", ErrorKind::Io, "this program was built without OSS")?;
    Ok(None)
}

/// Whether the bucket answers; then the folder that is meant, as the beginning of keys.
async fn bucket(store: &Store, remote: &Remote, report: &mut Report) -> Result<Option<String>> {
    let folder = remote.as_folder().key;
    let first = super::probe::first_below(store.as_dyn(), &folder).await;
    endpoint(store, first.as_ref().err(), report)?;
    clock(store.clock_ahead(), report)?;
    let is_folder = match first {
        Ok(found) => {
            report.ok("bucket", format!("{} is there and can be listed", remote.bucket))?;
            found
        }
        Err(error) if is_unreachable(store, &error) => return Ok(None),
        Err(error) => {
            report.fail_with("bucket", &error)?;
            // A bucket that may not be listed may still be written to.
            if !is_listing_refused(&error) {
                return Ok(None);
            }
            true
        }
    };
    // What is no folder yet may be meant as an object.
    Ok(Some(if is_folder || folder.is_empty() {
        folder
    } else {
        remote.key.rsplit_once('/').map_or(String::new(), |(dir, _)| format!("{dir}/"))
    }))
}

/// Whether the request got no answer at all.
fn is_unreachable(store: &Store, error: &Error) -> bool {
    store.clock_ahead().is_none() && matches!(error.kind(), ErrorKind::Io | ErrorKind::Unreachable | ErrorKind::Timeout)
}

/// Whether listing was refused to somebody whom the store knows.
fn is_listing_refused(error: &Error) -> bool {
    let text = told(error);
    error.kind() == ErrorKind::PermissionDenied && text.contains("AccessDenied")
}

fn endpoint(store: &Store, error: Option<&Error>, report: &mut Report) -> Result {
    let url = store.as_dyn().url();
    let named =
        url.split_once('?').and_then(|(_, query)| query.split('&').find_map(|pair| pair.strip_prefix("endpoint=")));
    let named = named.and_then(percent_decode).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    if let Some(error) = error.filter(|error| is_unreachable(store, error)) {
        let place = named.as_deref().unwrap_or("AWS");
        let why =
            format!("{place} does not answer: {}; check --endpoint, the network, and its certificate", told(error));
        return report.fail("endpoint", ErrorKind::Io, why);
    }
    match named.as_deref() {
        None => report.ok("endpoint", "AWS answers, over TLS"),
        Some(named) if named.starts_with("https://") => report.ok("endpoint", format!("{named} answers, over TLS")),
        Some(named) if is_loopback(named) => report.ok("endpoint", format!("{named} answers; it is this machine")),
        Some(named) => report.warn(
            "endpoint",
            format!(
                "{named} answers, but without TLS: names, metadata and sizes are readable on the way; use https://"
            ),
        ),
    }
}

fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    ["localhost", "127.", "[::1]"].iter().any(|start| host.starts_with(start))
}

fn clock(ahead: Option<i64>, report: &mut Report) -> Result {
    let Some(ahead) = ahead else { return Ok(()) };
    let off = ahead.unsigned_abs();
    let how = format!("this machine's clock is {off} s {} the store's", if ahead > 0 { "behind" } else { "ahead of" });
    match off {
        0..=NOTABLE => report.ok("clock", format!("this machine and the store agree, to within {NOTABLE} s")),
        _ if off < REFUSED => report.warn("clock", format!("{how}: set it, before that becomes 15 minutes")),
        _ => report.fail(
            "clock",
            ErrorKind::Io,
            format!(
                "{how}, and stores refuse requests from 15 minutes on: set it (`timedatectl set-ntp true`). Sealift goes by the store's \
                 clock once it was refused; other programs, and credentials that expire, do not"
            ),
        ),
    }
}
