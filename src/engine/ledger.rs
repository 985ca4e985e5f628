//! The ledger: one append-only file for each upload, so that a crash costs re-sending and nothing else.
//!
//! Layout (FORMAT.md, "Ledger"): a header in the clear, then records that are Cobblestone messages under the object's data key, each
//! bound by its context to its number and to all that came before. Of an upload that is not sealed, and has no data key, records are in
//! the clear, and each ends with a hash of itself and all before it: that notices damage, not intent.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::identity::Identity;
use crate::crypto::{self, Backend, DataKey};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, context};
use crate::source::SourceIdentity;
use crate::types::{ETag, ObjectId, ObjectKey, Salt, UploadId};
use crate::upload::{PartPlan, Record, SealedPart};

/// How long part records may wait for the disk. Losing them costs re-sending those parts.
const GROUP_SYNC: Duration = Duration::from_secs(1);
/// More than any header has: four times the metadata limit, a path and a plan.
const MAX_HEADER: u32 = 64 * 1024;
/// More than any record has: a manifest of 10,000 parts takes about 1.3 MB as JSON.
const MAX_RECORD: u32 = 4 * 1024 * 1024;

/// The header: what resuming needs to know before it has the data key. In the clear, so without secrets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    pub(crate) ledger: u32,
    pub(crate) store: String,
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) upload: UploadId,
    /// What of the object's metadata is ours: the envelope, or the mark of one that is not sealed.
    pub(crate) envelope: std::collections::BTreeMap<String, String>,
    pub(crate) plan: PartPlan,
    pub(crate) checksums: bool,
    pub(crate) if_not_exists: bool,
    /// What it reads. `None` for a stream, which cannot be read again.
    pub(crate) source: Option<SourceIdentity>,
}

impl Header {
    pub(crate) const VERSION: u32 = 1;

    pub(crate) fn object_key(&self) -> Result<ObjectKey> {
        self.key.parse()
    }

    pub(crate) fn identity(&self) -> Result<Identity> {
        Identity::from_metadata(&self.envelope)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
enum Row {
    Part { part: PartRow, etag: ETag },
    Manifest { parts: Vec<PartRow> },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartRow {
    number: u32,
    len: u64,
    crc64: u64,
    salt: String,
}

impl From<&SealedPart> for PartRow {
    fn from(part: &SealedPart) -> Self {
        let salt = base16ct::lower::encode_string(part.salt.as_bytes());
        Self { number: part.number.get(), len: part.len, crc64: part.crc64, salt }
    }
}

impl PartRow {
    fn part(&self) -> Result<SealedPart> {
        let malformed = || Error::new(ErrorKind::Ledger, "a ledger record holds a salt that is none");
        let salt = base16ct::lower::decode_vec(&self.salt).ok().and_then(|salt| salt.try_into().ok());
        let salt = salt.ok_or_else(malformed)?;
        Ok(SealedPart { number: self.number.try_into()?, len: self.len, salt: Salt(salt), crc64: self.crc64 })
    }
}

/// An upload's ledger, open and locked for this process.
pub(crate) struct Ledger {
    file: File,
    path: PathBuf,
    backend: Backend,
    object_id: ObjectId,
    records: u64,
    hash: [u8; 32],
    synced: Instant,
}

/// Removes the ledger of an upload that is over. One that stays finds that out when it is resumed.
pub(super) fn forget(path: &Path) {
    if let Err(e) = remove(path) {
        tracing::warn!(error = %e, "the upload is over, but its ledger could not be removed");
    }
}

/// What a ledger knows of its upload.
#[derive(Default)]
pub(crate) struct Recorded {
    /// Parts by the latest record of each.
    pub(crate) parts: Vec<(SealedPart, ETag)>,
    pub(crate) manifest: Option<Vec<SealedPart>>,
}

impl Ledger {
    /// Makes the ledger of a new upload, on disk before this returns.
    pub(crate) fn create(dir: &Path, backend: Backend, object_id: ObjectId, header: &Header) -> Result<Self> {
        let doing = || format!("making the upload ledger in {}", dir.display());
        create_private_dir(dir).map_err(|e| Error::io(doing(), e))?;
        let path = path_in(dir, &object_id);
        let json = serde_json::to_vec(header)
            .map_err(|e| Error::new(ErrorKind::Internal, "writing a ledger header").with_source(e))?;
        let mut bytes = u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        bytes.extend_from_slice(&json);
        // Whole under another name first: a file that ends in .ledger always has a whole header.
        let mut temp = tempfile::Builder::new().prefix(".new-").tempfile_in(dir).map_err(|e| Error::io(doing(), e))?;
        temp.write_all(&bytes).and_then(|()| temp.as_file().sync_all()).map_err(|e| Error::io(doing(), e))?;
        lock(temp.as_file(), &path)?;
        let file = temp.persist_noclobber(&path).map_err(|e| Error::io(doing(), e.error))?;
        sync_dir(dir).map_err(|e| Error::io(doing(), e))?;
        let hash = Sha256::digest(&bytes).into();
        Ok(Self { file, path, backend, object_id, records: 0, hash, synced: Instant::now() })
    }

    /// Appends a part record. On disk within a second, or with the next durable record.
    pub(crate) fn append(&mut self, data_key: Option<&DataKey>, record: &Record) -> Result<()> {
        let row = match record {
            Record::Initiated { .. } => return Ok(()), // the header says it
            Record::Part { sealed, etag, .. } => Row::Part { part: sealed.into(), etag: etag.clone() },
            Record::Manifest(parts) => Row::Manifest { parts: parts.iter().map(Into::into).collect() },
        };
        let json = serde_json::to_vec(&row)
            .map_err(|e| Error::new(ErrorKind::Internal, "writing a ledger record").with_source(e))?;
        let number = self.records + 1;
        let content = match data_key {
            Some(data_key) => {
                let context = context::ledger(&self.object_id, number, &self.hash);
                crypto::seal_message(self.backend, data_key, &context, &json)?
            }
            None => [json.as_slice(), &next_hash(&self.hash, &json)].concat(),
        };
        let mut bytes = u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        bytes.extend_from_slice(&content);
        self.file.write_all(&bytes).map_err(|e| self.failed("writing", e))?;
        self.records = number;
        self.hash = next_hash(&self.hash, &bytes);
        Ok(())
    }

    /// A second handle on the file to put what was appended on disk with, if that is due or `now` is asked for.
    pub(crate) fn sync_due(&mut self, now: bool) -> Result<Option<File>> {
        if !now && self.synced.elapsed() < GROUP_SYNC {
            return Ok(None);
        }
        self.synced = Instant::now();
        self.file.try_clone().map(Some).map_err(|e| self.failed("putting on disk", e))
    }

    fn failed(&self, doing: &str, e: std::io::Error) -> Error {
        Error::io(format!("{doing} the upload ledger {}", self.path.display()), e)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// An upload that was begun and has not ended: its ledger, open and locked, without its data key.
pub struct PendingUpload {
    file: File,
    path: PathBuf,
    header: Header,
    header_bytes: Vec<u8>,
}

impl PendingUpload {
    /// Opens the ledger of upload `id` in `dir`. An unambiguous beginning of the id is enough.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none, [`InvalidInput`](ErrorKind::InvalidInput) if several begin so,
    /// [`Ledger`](ErrorKind::Ledger) if it is damaged or the upload is running in another process.
    pub fn open(dir: &Path, id: &str) -> Result<Self> {
        let mut found = ledgers(dir)?.into_iter().filter(|(name, _)| !id.is_empty() && name.starts_with(id));
        let (_, path) = found.next().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no upload {id:?}; `uploads list` shows those there are"))
        })?;
        if found.next().is_some() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("several uploads begin with {id:?}; give more of it"),
            ));
        }
        let doing = |e| Error::io(format!("opening the upload ledger {}", path.display()), e);
        let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(doing)?;
        // A listing takes a lock for a moment.
        let mut tries = 20;
        while let Err(e) = lock(&file, &path) {
            tries -= 1;
            if tries == 0 {
                return Err(e);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let (header, header_bytes) = read_header(&mut file, &path)?;
        Ok(Self { file, path, header, header_bytes })
    }

    /// Its id, as [`list_uploads`] has it.
    #[must_use]
    pub fn id(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// URL of the store it goes to.
    #[must_use]
    pub fn store_url(&self) -> &str {
        &self.header.store
    }

    /// Key of the object it makes.
    ///
    /// # Errors
    /// [`Ledger`](ErrorKind::Ledger) if the ledger names none.
    pub fn key(&self) -> Result<ObjectKey> {
        self.header.object_key().map_err(|e| Error::new(ErrorKind::Ledger, "the ledger names no key").with_source(e))
    }

    /// The file it reads. `None` if that was a stream: then it can only be aborted.
    #[must_use]
    pub fn source_path(&self) -> Option<&Path> {
        self.header.source.as_ref().map(|source| source.path.as_path())
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Whether it makes an object that is stored as it is. Then no key is needed to go on with it.
    #[must_use]
    pub fn is_unsealed(&self) -> bool {
        format::unsealed_by(&self.header.envelope).is_some()
    }

    /// Reads the records, with the data key where they are sealed, and makes the ledger ready to append to.
    pub(crate) fn into_ledger(
        self,
        backend: Backend,
        data_key: Option<&DataKey>,
    ) -> Result<(Ledger, Header, Recorded)> {
        let Self { mut file, path, header, header_bytes } = self;
        let doing = |e| Error::io(format!("reading the upload ledger {}", path.display()), e);
        let object_id = *header.identity()?.object_id();
        let end = file.metadata().map_err(doing)?.len();
        let mut at = header_bytes.len() as u64;
        let mut ledger = Ledger {
            file: file.try_clone().map_err(doing)?,
            path: path.clone(),
            backend,
            object_id,
            records: 0,
            hash: Sha256::digest(&header_bytes).into(),
            synced: Instant::now(),
        };
        let mut recorded = Recorded::default();
        loop {
            file.seek(SeekFrom::Start(at)).map_err(doing)?;
            let Some(bytes) = read_record(&mut file, end - at).map_err(doing)? else { break };
            let number = ledger.records + 1;
            let refused = |e: Error| {
                Error::new(
                    ErrorKind::Ledger,
                    format!(
                        "record {number} of the upload ledger {} was altered; `uploads abort` gives the upload up",
                        path.display()
                    ),
                )
                .with_source(e)
            };
            let content = bytes.get(4..).unwrap_or_default();
            let json = match data_key {
                Some(data_key) => {
                    let context = context::ledger(&object_id, number, &ledger.hash);
                    crypto::open_message(backend, data_key, &context, content)
                }
                None => unhashed(content, &ledger.hash),
            };
            let json = json.map_err(refused)?;
            let row: Row = serde_json::from_slice(&json)
                .map_err(|e| refused(Error::new(ErrorKind::Malformed, "not a ledger record").with_source(e)))?;
            recorded.add(row).map_err(refused)?;
            ledger.records = number;
            ledger.hash = next_hash(&ledger.hash, &bytes);
            at += bytes.len() as u64;
        }
        // What is left is a record that a crash cut off.
        file.set_len(at).and_then(|()| file.sync_all()).map_err(doing)?;
        file.seek(SeekFrom::Start(at)).map_err(doing)?;
        Ok((ledger, header, recorded))
    }

    /// Forgets the upload here, without telling the store.
    pub(crate) fn remove(self) -> Result<()> {
        remove(&self.path)
    }
}

impl std::fmt::Debug for PendingUpload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingUpload").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Recorded {
    fn add(&mut self, row: Row) -> Result<()> {
        match row {
            Row::Part { part, etag } => {
                let part = part.part()?;
                self.parts.retain(|(earlier, _)| earlier.number != part.number);
                self.parts.push((part, etag));
            }
            Row::Manifest { parts } => {
                self.manifest = Some(parts.iter().map(PartRow::part).collect::<Result<_>>()?);
            }
        }
        Ok(())
    }
}

/// A whole record, or `None` where a crash cut one off. A run of zeros is such a cut too: file systems may lengthen a file before they
/// write into it.
fn read_record(file: &mut File, left: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; 4];
    if left < 4 {
        return Ok(None);
    }
    file.read_exact(&mut bytes)?;
    let len = bytes.first_chunk().map_or(0, |len| u32::from_be_bytes(*len));
    if len == 0 || len > MAX_RECORD || u64::from(len) > left - 4 {
        return Ok(None);
    }
    bytes.resize(4 + len as usize, 0);
    file.read_exact(bytes.get_mut(4..).unwrap_or_default())?;
    Ok(Some(bytes))
}

/// A record in the clear without the hash behind it, which must be its own.
fn unhashed(content: &[u8], hash_before: &[u8; 32]) -> Result<Vec<u8>> {
    match content.split_last_chunk::<32>() {
        Some((json, hash)) if *hash == next_hash(hash_before, json) => Ok(json.to_vec()),
        _ => Err(Error::new(ErrorKind::Malformed, "it does not end with its hash")),
    }
}

fn next_hash(hash: &[u8; 32], record: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(hash).chain_update(record).finalize().into()
}

/// An upload as a listing shows it.
#[derive(Clone, Debug)]
pub struct UploadEntry {
    /// What `resume` and `abort` take.
    pub id: String,
    /// URL of the store.
    pub store: String,
    /// Key of the object.
    pub key: String,
    /// The file it reads. `None` if that was a stream, or is not known.
    pub source: Option<PathBuf>,
    /// What the store calls it. `None` if the ledger is damaged.
    pub upload: Option<UploadId>,
    /// When something was last recorded of it.
    pub modified: Option<SystemTime>,
    /// Where it stands.
    pub state: UploadState,
}

/// Where an upload in a ledger stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadState {
    /// A process is working on it.
    Running,
    /// It stopped before its end; `resume` goes on with it.
    Interrupted,
    /// Its ledger cannot be read; only its file can be removed.
    Damaged,
}

/// The uploads whose ledgers are in `dir`, oldest first.
///
/// # Errors
/// [`Io`](ErrorKind::Io) if the directory cannot be read. One that does not exist holds none.
pub fn list_uploads(dir: &Path) -> Result<Vec<UploadEntry>> {
    let mut entries = Vec::new();
    for (id, path) in ledgers(dir)? {
        let mut file = match File::open(&path) {
            // It ended since the directory was read.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            file => file.map_err(|e| Error::io(format!("opening the upload ledger {}", path.display()), e))?,
        };
        let state = match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => UploadState::Running,
            _ => UploadState::Interrupted,
        };
        let modified = file.metadata().and_then(|file| file.modified()).ok();
        entries.push(match read_header(&mut file, &path) {
            Ok((Header { store, key, upload, source, .. }, _)) => {
                let source = source.map(|source| source.path);
                UploadEntry { id, store, key, source, upload: Some(upload), modified, state }
            }
            Err(_) => {
                let (store, key, state) = (String::new(), String::new(), UploadState::Damaged);
                UploadEntry { id, store, key, source: None, upload: None, modified, state }
            }
        });
    }
    Ok(entries)
}

/// The header, and its bytes as they are hashed.
pub(super) fn read_header(file: &mut File, path: &Path) -> Result<(Header, Vec<u8>)> {
    let refuse = |why: &'static str| {
        Error::new(
            ErrorKind::Ledger,
            format!(
                "the upload ledger {} {why}; its upload can only be forgotten, by removing that file",
                path.display()
            ),
        )
    };
    let mut bytes = vec![0; 4];
    file.read_exact(&mut bytes).map_err(|e| refuse("is cut off in its header").with_source(e))?;
    let len = bytes.first_chunk().map_or(0, |len| u32::from_be_bytes(*len));
    if len > MAX_HEADER {
        return Err(refuse("has no header that this version knows"));
    }
    bytes.resize(4 + len as usize, 0);
    file.read_exact(bytes.get_mut(4..).unwrap_or_default())
        .map_err(|e| refuse("is cut off in its header").with_source(e))?;
    let header: Header = serde_json::from_slice(bytes.get(4..).unwrap_or_default())
        .map_err(|e| refuse("has no header that this version knows").with_source(e))?;
    if header.ledger != Header::VERSION {
        return Err(refuse("is of another version"));
    }
    Ok((header, bytes))
}

/// Ids and paths of the ledgers in `dir`, oldest first.
pub(super) fn ledgers(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let doing = |e| Error::io(format!("listing the upload ledgers in {}", dir.display()), e);
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(doing)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(doing)?;
        let name = entry.file_name();
        if let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".ledger")) {
            let modified = entry.metadata().and_then(|m| m.modified()).ok();
            found.push((modified, id.to_owned(), entry.path()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, id, path)| (id, path)).collect())
}

/// Where the ledger of an upload is.
pub(super) fn path_in(dir: &Path, object_id: &ObjectId) -> PathBuf {
    dir.join(format!("{}.ledger", id_of(object_id)))
}

/// The id a person types: hex, because base64url may begin with a dash.
pub(crate) fn id_of(object_id: &ObjectId) -> String {
    base16ct::lower::encode_string(object_id.as_bytes())
}

pub(super) fn lock(file: &File, path: &Path) -> Result<()> {
    file.try_lock().map_err(|e| match e {
        TryLockError::WouldBlock => Error::new(
            ErrorKind::Ledger,
            format!("the upload is running in another process, which holds {}", path.display()),
        ),
        TryLockError::Error(e) => Error::io(format!("locking the upload ledger {}", path.display()), e),
    })
}

fn create_private_dir(dir: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

pub(super) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(|e| Error::io(format!("removing the upload ledger {}", path.display()), e)),
    }
}

fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}
