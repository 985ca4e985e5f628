//! Objects as plain files in a directory tree.

mod body;
mod layout;
mod list;
mod publish;
mod staging;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::{self, BoxFuture, FutureExt as _};
use futures::stream::{self, BoxStream, StreamExt as _};

use self::body::Body;
use self::layout::{Place, Staging, cannot};
use self::list::Entry;
use self::staging::{PartFile, PartTurn};
use super::direct::{DirectStore, PartSink, Written};
use super::{
    CompletedPart, GetObject, Limits, ListedObject, ListedUpload, MultipartStore, ObjectInfo, Payload, Properties,
    PutCondition, PutPart, StoredPart, Upload,
};
use crate::error::{Error, ErrorKind, Result};
use crate::source::ReadAt;
use crate::types::{ByteRange, ETag, ObjectKey, PartNumber, UploadId};

/// How many segments of a payload that are ready one call writes.
const SEGMENTS: usize = 32;
/// How many names of a listing one call looks at.
const LISTED: usize = 256;
/// How many bytes one call reads, and `get` yields at once.
const PIECE: u64 = 1 << 20;

/// A directory as an object store: an object's body is the plain file at the key's path, everything else lies in a folder `.sealift`
/// beside it.
///
/// ```text
/// root/a/b/c                                     the body of the key a/b/c
/// root/a/b/.sealift/c.<hex>.json                 its metadata; <hex> is the body's first 24 bytes, of a shorter body all
/// root/a/b/.sealift/lock                         locked by whoever publishes, deletes or replaces metadata in root/a/b
/// root/a/b/.sealift/new-metadata                 metadata that is being written, to replace another
/// root/a/b/.sealift/uploads/<id>/upload.json     an upload in progress: the key's last segment, and the metadata to be
/// root/a/b/.sealift/uploads/<id>/body            the body to be; parts whose offset is known are written in place
/// root/a/b/.sealift/uploads/<id>/part-00001      record of a stored part: ETag, length, where its bytes are
/// root/a/b/.sealift/uploads/<id>/part-00001-…    bytes of a part whose offset is not known, joined at Complete
/// ```
///
/// **Whoever backs up, copies or moves a body must take its metadata file along**: a sealed body's wrapped data key is in it.
/// [`metadata_path`](Self::metadata_path) names the file. Bodies that something else put there can be read and listed, and have no
/// properties.
///
/// # Guarantees
/// - Body and metadata switch together, by one rename: a crash at any point leaves the whole old object or the whole new one. That
///   rests on bodies that begin with bytes of their own, as a sealed body does with a fresh salt; of two bodies that begin with the same
///   24 bytes, the older has the newer's metadata for a moment, or for good if the machine crashes then.
/// - What `complete` and `put_object` have answered is on the disk (fsync of body, metadata and directories).
/// - A part is recorded after its bytes are on the disk, so [`list_parts`](MultipartStore::list_parts) is right after any crash.
/// - Writers on one key, in one process or many, leave one whole object with its own metadata;
///   [`IfNotExists`](PutCondition::IfNotExists) has one winner, against programs that do not know this store too.
/// - A read sees one state of an object, even if it is replaced or deleted meanwhile.
/// - Metadata is replaced by one rename too, and an ETag tells of it: of two who replace the same, one learns that it
///   [changed](ErrorKind::Changed). A read's `if_match` looks at the body alone, so readers go on.
///
/// They hold on local file systems, and over the network as far as its locks, renames and fsync keep their promises.
///
/// # Limits
/// Keys have no empty segments, none that is `.`, `..` or `.sealift`, none longer than 255 bytes, the last no longer than 201; and one
/// key cannot go on below another (`a` beside `a/b`). Such keys are [`InvalidInput`](ErrorKind::InvalidInput). A symbolic link at a
/// key's path is followed by reads and replaced by writes; links to directories are followed in keys but not in listings. File names
/// that are not UTF-8 are not listed.
///
/// The methods need a tokio runtime, whose blocking threads do the work.
///
/// ```
/// use futures::TryStreamExt;
/// use sealift::ObjectKey;
/// use sealift::store::{DirStore, MultipartStore, Payload, Properties, PutCondition};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let store = DirStore::open(dir.path())?;
/// let key: ObjectKey = "a/b".parse()?;
/// store.put_object(&key, Payload::held(vec!["body".into()]), &Properties::default(), PutCondition::None).await?;
///
/// assert_eq!(std::fs::read(dir.path().join("a/b"))?, b"body");
/// let pieces: Vec<_> = store.get(&key, None, None).await?.body.try_collect().await?;
/// assert_eq!(pieces.concat(), b"body");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DirStore {
    root: Arc<Path>,
}

impl DirStore {
    /// The store under the directory `root`, which is created with the first object if it is not there.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if `root` is something else than a directory, [`Io`](ErrorKind::Io) if a relative path
    /// has no current directory to start from.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        let root = std::path::absolute(root).map_err(cannot("find", root))?;
        if root.exists() && !root.is_dir() {
            return Err(Error::new(ErrorKind::InvalidInput, format!("{} is not a directory", root.display())));
        }
        Ok(Self { root: root.into() })
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the metadata of the body that has `key` now is looked for, whether it is there or not: what to restore for a sealed body
    /// whose envelope is missing.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such body.
    ///
    /// # Cancellation
    /// Only reads.
    pub async fn metadata_path(&self, key: &ObjectKey) -> Result<PathBuf> {
        let place = self.place(key)?;
        blocking(move || Ok(place.metadata(&body::head_at(&place)?))).await
    }

    fn place(&self, key: &ObjectKey) -> Result<Place> {
        Place::new(&self.root, key)
    }

    fn staging(&self, upload: &Upload) -> Result<(Place, Staging)> {
        let place = self.place(&upload.key)?;
        let staging = place.upload(&upload.id)?;
        Ok((place, staging))
    }
}

impl MultipartStore for DirStore {
    /// The format's own limits, as far as there are any: a file system has none of these.
    fn limits(&self) -> Limits {
        Limits { min_part: 1, max_part: 5 << 30, max_parts: PartNumber::MAX, max_metadata: 2048, equal_parts: false }
    }

    fn url(&self) -> String {
        list::file_url(&self.root)
    }

    fn metadata_place(&self, key: &ObjectKey) -> Option<String> {
        let place = self.place(key).ok()?;
        Some(place.metadata(&body::head_at(&place).ok()?).display().to_string())
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn initiate<'a>(&'a self, key: &'a ObjectKey, properties: &'a Properties) -> BoxFuture<'a, Result<UploadId>> {
        Box::pin(async move {
            let place = self.place(key)?;
            let properties = properties.clone();
            blocking(move || Ok(staging::create(&place, &properties, true)?.0)).await
        })
    }

    /// Stores one part, replacing an earlier attempt at it. With an offset, an attempt waits for an earlier one that is still being written;
    /// without, the last to end counts. One that was dropped ends with the write that is under way. Parts that are given offsets must not
    /// overlap.
    fn put_part<'a>(&'a self, upload: &'a Upload, part: PutPart) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(async move {
            let PutPart { number, attempt: _, offset, payload } = part;
            let stored = async {
                let (place, staging) = self.staging(upload)?;
                let file = match offset {
                    Some(offset) => {
                        let turn = blocking(move || PartTurn::wait(&place, staging, number)).await?;
                        blocking(move || turn.begin(offset)).await?
                    }
                    None => blocking(move || PartFile::apart(place, staging, number)).await?,
                };
                let file = Arc::new(file);
                let len = payload.len();
                let written = write(Arc::clone(&file), payload).await;
                blocking(move || match written {
                    Ok(()) => file.finish(len),
                    Err(error) => {
                        file.discard();
                        Err(error)
                    }
                })
                .await
            };
            stored.await.map_err(|error| error.with_part(number))
        })
    }

    fn direct(&self) -> Option<&dyn DirectStore> {
        Some(self)
    }

    fn complete<'a>(
        &'a self,
        upload: &'a Upload,
        parts: &'a [CompletedPart],
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(async move {
            let (place, staging) = self.staging(upload)?;
            let parts = parts.to_vec();
            blocking(move || {
                let etag = staging::complete(&place, &staging, &parts, condition)?;
                // The object is published; what is left of the upload is listed, and the next abort removes it.
                _ = staging::remove(&staging);
                Ok(etag)
            })
            .await
        })
    }

    fn abort<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            // An id that is none of ours names no upload, and that is a success.
            let Ok((place, staging)) = self.staging(upload) else { return Ok(()) };
            blocking(move || match staging::name(&staging)? {
                Some(name) if name != place.name => Ok(()),
                _ => staging::remove(&staging),
            })
            .await
        })
    }

    fn list_parts<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<Vec<StoredPart>>> {
        Box::pin(async move {
            let (place, staging) = self.staging(upload)?;
            blocking(move || {
                staging::check(&place, &staging)?;
                staging::list_parts(&staging)
            })
            .await
        })
    }

    fn list_uploads<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Upload>>> {
        Box::pin(async move {
            let listed = self.list_uploads_with_times(prefix).await?;
            Ok(listed.into_iter().map(|listed| listed.upload).collect())
        })
    }

    fn list_uploads_with_times<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ListedUpload>>> {
        let (root, prefix) = (Arc::clone(&self.root), prefix.to_owned());
        blocking(move || list::uploads(&root, &prefix)).boxed()
    }

    fn put_object<'a>(
        &'a self,
        key: &'a ObjectKey,
        payload: Payload,
        properties: &'a Properties,
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(async move {
            let place = self.place(key)?;
            let properties = properties.clone();
            let (staged, cleanup) = {
                let (place, properties) = (place.clone(), properties.clone());
                blocking(move || Staged::create(&place, &properties)).await?
            };
            let staged = Arc::new(staged);
            let published = async {
                write(Arc::clone(&staged), payload).await?;
                blocking(move || publish::publish(&place, &staged.staging, &staged.body, &properties, condition)).await
            };
            let published = published.await;
            // Nothing depends on it any more, and an abort can do it later.
            _ = blocking(move || cleanup.run()).await;
            published
        })
    }

    fn get<'a>(
        &'a self,
        key: &'a ObjectKey,
        range: Option<ByteRange>,
        if_match: Option<&'a ETag>,
    ) -> BoxFuture<'a, Result<GetObject>> {
        Box::pin(async move {
            let place = self.place(key)?;
            // The first piece comes with the metadata: one thread is woken for both.
            let (body, range, first) = blocking({
                let (key, if_match) = (key.clone(), if_match.cloned());
                move || {
                    let body = matching(Body::open(&place)?, &key, if_match.as_ref())?;
                    let range = match range {
                        Some(range) => range.resolve(body.info.len)?,
                        None => 0..body.info.len,
                    };
                    let first = body.read(range.start..range.end.min(range.start + piece_of(&range)))?;
                    Ok((body, range, first))
                }
            })
            .await?;
            let info = body.info.clone();
            let body = Arc::new(body);
            let (piece, start, end) = (piece_of(&range), range.start + first.len() as u64, range.end);
            let first = (!first.is_empty()).then(|| future::ready(Ok(first)).left_future());
            let pieces = (start..end).step_by(piece as usize).map(move |start| {
                let body = Arc::clone(&body);
                // Begun as soon as it is taken from here, and not when it is waited for.
                let read = tokio::task::spawn_blocking(move || body.read(start..end.min(start + piece)));
                ended(read).right_future()
            });
            // One piece is read ahead while the last is being used.
            Ok(GetObject { info, range, body: stream::iter(first.into_iter().chain(pieces)).buffered(2).boxed() })
        })
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<ObjectInfo>> {
        Box::pin(async move {
            let place = self.place(key)?;
            blocking(move || Ok(Body::open(&place)?.info)).await
        })
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let place = self.place(key)?;
            blocking(move || publish::delete(&place)).await
        })
    }

    fn copy<'a>(
        &'a self,
        from: &'a ObjectKey,
        to: &'a ObjectKey,
        condition: PutCondition,
    ) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(async move {
            let (from, to) = (self.place(from)?, self.place(to)?);
            blocking(move || {
                let source = Body::open(&from)?;
                let (staged, cleanup) = Staged::create(&to, &source.info.properties)?;
                let published = copy(&source, &from, &staged).and_then(|()| {
                    publish::publish(&to, &staged.staging, &staged.body, &source.info.properties, condition)
                });
                // Nothing depends on it any more, and an abort can do it later.
                _ = cleanup.run();
                published
            })
            .await
        })
    }

    fn replace_metadata<'a>(
        &'a self,
        key: &'a ObjectKey,
        metadata: &'a BTreeMap<String, String>,
        if_match: &'a ETag,
    ) -> BoxFuture<'a, Result<ETag>> {
        Box::pin(async move {
            let place = self.place(key)?;
            let (metadata, if_match) = (metadata.clone(), if_match.clone());
            blocking(move || publish::replace_metadata(&place, metadata, &if_match)).await
        })
    }

    fn list_after<'a>(&'a self, prefix: &'a str, after: &'a str) -> BoxStream<'a, Result<ListedObject>> {
        let stack = vec![Entry::Dir(String::new())];
        stream::try_unfold(stack, move |mut stack| async move {
            loop {
                let names = stack.iter().rev().take(LISTED).take_while(|entry| matches!(entry, Entry::Name(_))).count();
                if names > 0 {
                    let names = stack.split_off(stack.len() - names);
                    let root = Arc::clone(&self.root);
                    stack.extend(blocking(move || Ok(list::look(&root, names))).await?);
                    continue;
                }
                match stack.pop() {
                    None | Some(Entry::Name(_)) => return Ok(None),
                    Some(Entry::Object(object)) => return Ok(Some((object, stack))),
                    Some(Entry::Dir(dir)) => {
                        let (root, prefix, after) = (Arc::clone(&self.root), prefix.to_owned(), after.to_owned());
                        stack.extend(blocking(move || list::entries(&root, &dir, &prefix, &after)).await?);
                    }
                }
            }
        })
        .boxed()
    }
}

impl DirectStore for DirStore {
    fn begin_part<'a>(
        &'a self,
        upload: &'a Upload,
        number: PartNumber,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Arc<dyn PartSink>>> {
        Box::pin(async move {
            let (place, staging) = self.staging(upload)?;
            let file = blocking(move || PartTurn::wait(&place, staging, number)?.begin(offset)).await;
            let file = file.map_err(|error| error.with_part(number))?;
            Ok(Arc::new(InPlace { file, written: Written::new(len) }) as Arc<dyn PartSink>)
        })
    }

    fn read_body(&self, key: &ObjectKey, if_match: &ETag) -> Result<Option<Arc<dyn ReadAt>>> {
        let body = matching(Body::open(&self.place(key)?)?, key, Some(if_match))?;
        Ok(Some(Arc::new(body)))
    }
}

/// `body`, if it is of the object that had this ETag. A reader goes on while the metadata is replaced: the bytes are the same.
fn matching(body: Body, key: &ObjectKey, if_match: Option<&ETag>) -> Result<Body> {
    if if_match.is_some_and(|etag| !body::is_same_body(etag, &body.info.etag)) {
        return Err(Error::new(ErrorKind::Changed, format!("{key} is not what it was")));
    }
    Ok(body)
}

/// A part that is written in place, by whoever has a piece of it. Its turn ends with the last write.
struct InPlace {
    file: PartFile,
    written: Written,
}

impl PartSink for InPlace {
    fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.written.add(at, bytes)?;
        write_at(&self.file, at, bytes)
    }

    fn finish(self: Arc<Self>) -> BoxFuture<'static, Result<ETag>> {
        blocking(move || self.file.finish(self.written.all()?)).boxed()
    }
}

/// A file that a payload goes into.
trait Target: Send + Sync + 'static {
    fn file(&self) -> (&File, &Path);
    fn start(&self) -> u64;
}

impl Target for PartFile {
    fn file(&self) -> (&File, &Path) {
        (&self.file, &self.path)
    }

    fn start(&self) -> u64 {
        self.start
    }
}

/// A body that is written and published in one call.
struct Staged {
    staging: Staging,
    body: File,
    path: PathBuf,
}

impl Staged {
    fn create(place: &Place, properties: &Properties) -> Result<(Self, Cleanup)> {
        let (_, staging) = staging::create(place, properties, false)?;
        let cleanup = Cleanup(Some(staging.clone()));
        let path = staging.body();
        let body = File::options().read(true).write(true).open(&path).map_err(cannot("open", &path))?;
        Ok((Self { staging, body, path }, cleanup))
    }
}

/// Removes a staging folder in the end, even if the future it is in is dropped. What a crash leaves is listed as an upload.
struct Cleanup(Option<Staging>);

impl Cleanup {
    fn run(mut self) -> Result<()> {
        self.0.take().map_or(Ok(()), |staging| staging::remove(&staging))
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let Some(staging) = self.0.take() else { return };
        let remove = move || _ = staging::remove(&staging);
        match tokio::runtime::Handle::try_current() {
            // Not on a thread that must not block.
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

impl Target for Staged {
    fn file(&self) -> (&File, &Path) {
        (&self.body, &self.path)
    }

    fn start(&self) -> u64 {
        0
    }
}

/// Writes all of a payload, as many segments in one call as are ready. Never a byte past its announced length: in a body that is
/// written in place, that is the next part's.
async fn write(target: Arc<impl Target>, payload: Payload) -> Result<()> {
    let len = payload.len();
    let mut sent = 0;
    let mut batches = payload.ready_chunks(SEGMENTS);
    while let Some(batch) = batches.next().await {
        let target = Arc::clone(&target);
        sent = blocking(move || {
            for segment in batch {
                let segment = segment?;
                let end = sent + segment.len() as u64;
                if end > len {
                    return Err(Payload::wrong_length(len, end));
                }
                write_at(target.as_ref(), sent, &segment)?;
                sent = end;
            }
            Ok(sent)
        })
        .await?;
    }
    if sent != len {
        return Err(Payload::wrong_length(len, sent));
    }
    Ok(())
}

/// Writes `bytes` at `at`, counted from the target's start.
fn write_at(target: &impl Target, at: u64, bytes: &[u8]) -> Result<()> {
    use std::os::unix::fs::FileExt as _;

    let at = target.start().checked_add(at).filter(|at| i64::try_from(*at).is_ok());
    let at = at.ok_or_else(|| Error::new(ErrorKind::LimitExceeded, "no file is that long"))?;
    let (file, path) = target.file();
    file.write_all_at(bytes, at).map_err(cannot("write", path))
}

fn copy(source: &Body, from: &Place, to: &Staged) -> Result<()> {
    // In the kernel, and without copying at all where the file system can share blocks.
    let copied = std::io::copy(&mut &source.file, &mut &to.body).map_err(cannot("copy", &from.body()))?;
    if copied != source.info.len {
        return Err(Error::new(ErrorKind::Changed, format!("{} changed while it was copied", from.body().display())));
    }
    Ok(())
}

/// How much of `range` is read at once. A short one is read in small pieces, so that the first can be used while the next is read.
fn piece_of(range: &Range<u64>) -> u64 {
    if range.end - range.start <= 4 * PIECE { PIECE / 4 } else { PIECE }
}

/// Runs what blocks on a thread that may. Once begun it runs to its end, whether or not anybody still waits for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    ended(tokio::task::spawn_blocking(work)).await
}

async fn ended<T>(task: tokio::task::JoinHandle<Result<T>>) -> Result<T> {
    match task.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::new(ErrorKind::Cancelled, "the runtime is shutting down")),
        },
    }
}
