//! `uploads reap`: what nobody works on any more, found in the ledgers here and in the store.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sealift::engine::{PendingUpload, UploadEntry, UploadState, forget_damaged, list_uploads};
use sealift::store::{DirStore, ListedUpload, MultipartStore};
use sealift::{Engine, Error, ErrorKind};
use serde::Serialize;

use crate::args::{StoreArgs, UploadsReap};
use crate::commands::small_engine;
use crate::duration::roughly;
use crate::exit::{Failure, Result};
use crate::home::Home;
use crate::output::{self, printable};
use crate::store::{self, keeps_nothing};
use crate::url::{Location, Remote};

/// How old an upload has to be that may be another machine's.
const FOREIGN: Duration = Duration::from_secs(7 * 86_400);

/// An upload, and what became of it.
#[derive(Serialize)]
struct Row {
    /// Of its ledger, if it has one here.
    id: Option<String>,
    url: String,
    source: Option<String>,
    /// As `uploads list` has it, or `unknown` where only the store knows it.
    state: &'static str,
    /// The store's name for it.
    upload: Option<String>,
    action: Action,
    why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    Aborted,
    WouldAbort,
    /// A ledger that cannot be read was removed; there was nothing to abort by it.
    Forgotten,
    WouldForget,
    Kept,
    Failed,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::WouldAbort => "would abort",
            Self::Forgotten => "forgotten",
            Self::WouldForget => "would forget",
            Self::Kept => "kept",
            Self::Failed => "FAILED",
        }
    }
}

pub(crate) async fn reap(args: UploadsReap) -> Result {
    let scope = match &args.url {
        Some(url) => Some(Scope::of(url, &args.store).await?),
        None => None,
    };
    // The store first: whatever of this machine's it shows then has its ledger when those are read.
    let listed = match &scope {
        Some(scope) => scope.store.list_uploads_with_times(&scope.prefix).await?,
        None => Vec::new(),
    };
    let dir = Home::find()?.uploads();
    let entries = list_uploads(&dir)?;
    let known: HashSet<_> = entries.iter().filter_map(|entry| entry.upload.clone()).collect();
    let reaper = Reaper { engine: small_engine()?, dir: &dir, args: &args };
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    let mut add = |(row, failure): (Row, Option<Error>)| {
        rows.push(row);
        failures.extend(failure);
    };
    for entry in entries {
        if scope.as_ref().is_none_or(|scope| scope.holds(&entry)) {
            add(reaper.own(entry).await);
        }
    }
    if let Some(scope) = &scope {
        for found in listed {
            if scope.holds_key(found.upload.key.as_str()) && !known.contains(&found.upload.id) {
                add(reaper.foreign(found, scope).await);
            }
        }
    }
    args.json.print(&rows, || match rows.as_slice() {
        [] => "There is nothing to give up.".to_owned(),
        rows => rows.iter().map(Row::line).collect::<Vec<_>>().join("\n"),
    })?;
    let failed = failures.len();
    match failures.into_iter().next() {
        None => Ok(()),
        Some(first) => {
            let message = format!("{failed} uploads could not be given up; the first: {first}");
            Err(Error::new(first.kind(), message).with_source(first).into())
        }
    }
}

impl Row {
    fn line(&self) -> String {
        let why = self.why.as_ref().map(|why| format!("  ({why})")).unwrap_or_default();
        let name = match (&self.id, &self.upload) {
            (Some(id), _) => id,
            (None, Some(upload)) => upload,
            (None, None) => "-",
        };
        let url = if self.url.is_empty() { "-" } else { &self.url };
        printable(&format!("{:12}  {}  {url}{why}", self.action.name(), name))
    }
}

/// Where uploads go that are asked for.
struct Scope {
    store: Arc<dyn MultipartStore>,
    place: Location,
    /// What the keys begin with, in `store`.
    prefix: String,
}

impl Scope {
    async fn of(url: &Location, at: &StoreArgs) -> Result<Self> {
        let (store, prefix): (Arc<dyn MultipartStore>, _) = match url {
            Location::File(dir) if dir.is_dir() => (Arc::new(DirStore::open(dir)?), String::new()),
            Location::File(path) => {
                let dir = path.parent().filter(|dir| dir.is_dir());
                let missing = || Failure::new(ErrorKind::NotFound, format!("there is no directory {}", path.display()));
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                (Arc::new(DirStore::open(dir.ok_or_else(missing)?)?), name.to_owned())
            }
            Location::Remote(remote) => (remote.store(at).await?, remote.key.clone()),
            Location::Discard => return Err(keeps_nothing()),
        };
        Ok(Self { store, place: url.clone(), prefix })
    }

    /// Whether it is the key that was asked for, or one below.
    fn holds_key(&self, key: &str) -> bool {
        let rest = key.strip_prefix(self.prefix.as_str());
        let ends = self.prefix.is_empty() || self.prefix.ends_with('/');
        rest.is_some_and(|rest| ends || rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether the upload of a ledger goes there.
    fn holds(&self, entry: &UploadEntry) -> bool {
        match (&self.place, store::object_url(&entry.store, &entry.key).parse()) {
            // A ledger that cannot be read names no place.
            _ if entry.state == UploadState::Damaged => false,
            (Location::File(dir), Ok(Location::File(path))) => path.starts_with(dir),
            (Location::Remote(scope), Ok(Location::Remote(Remote { scheme, bucket, key }))) => {
                let is_there = endpoint(&entry.store) == endpoint(&self.store.url());
                (scope.scheme, &scope.bucket) == (scheme, &bucket) && is_there && self.holds_key(&key)
            }
            _ => false,
        }
    }
}

/// The endpoint in a store's URL. Buckets of one name at two endpoints are two.
fn endpoint(store: &str) -> Option<&str> {
    let (_, query) = store.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix("endpoint="))
}

struct Reaper<'a> {
    engine: Engine,
    dir: &'a Path,
    args: &'a UploadsReap,
}

impl Reaper<'_> {
    /// An upload that has a ledger here.
    async fn own(&self, entry: UploadEntry) -> (Row, Option<Error>) {
        let is_damaged = entry.state == UploadState::Damaged;
        let mut row = Row {
            url: if is_damaged { String::new() } else { store::object_url(&entry.store, &entry.key) },
            source: entry.source.map(|path| path.display().to_string()),
            state: super::state_name(entry.state),
            upload: entry.upload.map(|upload| upload.0),
            action: Action::Kept,
            why: None,
            id: Some(entry.id.clone()),
        };
        if entry.state == UploadState::Running {
            row.why = Some("it is running".to_owned());
            return (row, None);
        }
        if let Some(why) = self.args.older_than.and_then(|limit| too_young(entry.modified, limit)) {
            row.why = Some(why);
            return (row, None);
        }
        let done = match (is_damaged, self.args.dry_run) {
            (true, true) => Ok(Action::WouldForget),
            (false, true) => Ok(Action::WouldAbort),
            (true, false) => forget_damaged(self.dir, &entry.id).map(|()| Action::Forgotten).map_err(Failure::from),
            (false, false) => self.abort(&entry.id).await.map(|()| Action::Aborted),
        };
        if is_damaged && done.is_ok() {
            let why = "its ledger cannot be read; what it left is found by: sealift uploads reap URL --older-than TIME";
            row.why = Some(why.to_owned());
        }
        match done {
            Ok(action) => (Row { action, ..row }, None),
            // It was taken up, or ended, since the ledgers were listed.
            Err(failure) if matches!(failure.kind(), ErrorKind::Ledger | ErrorKind::NotFound) && !is_damaged => {
                row.why = Some(failure.error().to_string());
                (row, None)
            }
            Err(failure) => row.failed(failure.into_error()),
        }
    }

    async fn abort(&self, id: &str) -> Result {
        let pending = PendingUpload::open(self.dir, id)?;
        let store = store::open(pending.store_url(), &self.args.store).await?;
        Ok(self.engine.abort(pending, store.as_ref()).await?)
    }

    /// An upload that only the store knows.
    async fn foreign(&self, found: ListedUpload, scope: &Scope) -> (Row, Option<Error>) {
        let ListedUpload { upload, begun } = found;
        let mut row = Row {
            id: None,
            url: store::object_url(&scope.store.url(), upload.key.as_str()),
            source: None,
            state: "unknown",
            upload: Some(upload.id.0.clone()),
            action: Action::Kept,
            why: begun.map(|begun| format!("not of this machine; begun {}", output::timestamp(begun))),
        };
        if let Some(why) = too_young(begun, self.args.older_than.unwrap_or(FOREIGN)) {
            row.why = Some(format!("no ledger here knows it, and {why}; to give it up all the same: --older-than 0s"));
            return (row, None);
        }
        if self.args.dry_run {
            return (Row { action: Action::WouldAbort, ..row }, None);
        }
        match self.engine.abort_unknown(&upload, scope.store.as_ref()).await {
            Ok(()) => (Row { action: Action::Aborted, ..row }, None),
            Err(error) => row.failed(error),
        }
    }
}

impl Row {
    fn failed(self, error: Error) -> (Self, Option<Error>) {
        (Self { action: Action::Failed, why: Some(error.to_string()), ..self }, Some(error))
    }
}

/// Why something that happened at `time` is too young, if it is. What has no known age is.
fn too_young(time: Option<SystemTime>, limit: Duration) -> Option<String> {
    if limit.is_zero() {
        return None;
    }
    let Some(time) = time else { return Some("its age is not known".to_owned()) };
    // Another machine's clock may be ahead.
    let age = time.elapsed().unwrap_or_default();
    (age < limit).then(|| format!("it is {} old, less than {}", roughly(age), roughly(limit)))
}
