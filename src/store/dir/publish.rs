//! The step that makes an object: body and metadata switch at once, and whatever fails leaves what was there.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::Path;

use super::body::{Body, encode_metadata, etag, head, head_at, is_still_there};
use super::layout::{Place, Staging, cannot};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Properties, PutCondition};
use crate::types::ETag;

/// Publishes the staged body under its key.
///
/// A body's metadata has a name that only this body has, so it can lie there before anything refers to it. Then one rename switches
/// both. A crash before it leaves the old object, one after it the new, each with its own metadata; what may be left over is one
/// metadata file that belongs to no body.
pub(super) fn publish(
    place: &Place,
    staging: &Staging,
    body: &File,
    properties: &Properties,
    condition: PutCondition,
) -> Result<ETag> {
    body.sync_all().map_err(cannot("write", &staging.body()))?;
    let head = head(body).map_err(cannot("read", &staging.body()))?;
    let stat = body.metadata().map_err(cannot("look at", &staging.body()))?;
    let etag = etag(&stat, &head, properties)?;
    write_synced(&staging.metadata(), &encode_metadata(properties)?)?;

    let _lock = lock(place)?;
    check_free(place)?;
    if condition == PutCondition::IfNotExists && exists(&place.body())? {
        return Err(already_exists(place));
    }
    let (alike, replaced) = match head_at(place) {
        Ok(there) if there == head => (true, None),
        there => (false, there.ok()),
    };
    let metadata = place.metadata(&head);
    // The metadata of a body that begins alike has the same name: it is put back if that body stays.
    let kept = alike && keep_metadata(place, &metadata)?;
    fs::rename(staging.metadata(), &metadata).map_err(cannot("create", &metadata))?;
    let switched = sync_dir(&place.folder()).and_then(|()| switch(place, staging, condition));
    if let Err(error) = switched {
        // If it failed after the body was in place, the metadata is that body's.
        if !is_still_there(place, &stat) {
            // What fails here too leaves what a crash would have left; the first error is the one to tell.
            _ = if kept { fs::rename(place.new_metadata(), &metadata) } else { fs::remove_file(&metadata) };
            _ = sync_dir(&place.folder());
        }
        return Err(error);
    }
    sync_dir(&place.dir)?;
    if kept {
        // One that is left is overwritten by the next.
        _ = fs::remove_file(place.new_metadata());
    }
    if let Some(replaced) = replaced {
        // Only the metadata of the very body that was replaced. A file left by a crash is harmless; one that belongs to a body which
        // somebody moved away for a while is not ours to remove.
        _ = fs::remove_file(place.metadata(&replaced));
    }
    Ok(etag)
}

/// Replaces the metadata of the body that is there, if that is still the one of `if_match`, by one rename: a crash leaves the old
/// metadata or the new, and perhaps a file that the next replacement overwrites.
pub(super) fn replace_metadata(place: &Place, metadata: BTreeMap<String, String>, if_match: &ETag) -> Result<ETag> {
    // Fails where there is no object, before a folder is made for a lock.
    Body::open(place)?;
    let _lock = lock(place)?;
    // Whoever publishes, deletes or replaces metadata here waits from now on.
    let Body { file, head, info } = Body::open(place)?;
    if info.etag != *if_match {
        return Err(Error::new(ErrorKind::Changed, format!("{} is not what it was", place.body().display())));
    }
    let stat = file.metadata().map_err(cannot("look at", &place.body()))?;
    let properties = Properties { metadata, ..info.properties };
    let (new, metadata) = (place.new_metadata(), place.metadata(&head));
    write_synced(&new, &encode_metadata(&properties)?)?;
    keep_access(&metadata, &new).map_err(cannot("write", &new))?;
    fs::rename(&new, &metadata).map_err(cannot("create", &metadata))?;
    sync_dir(&place.folder())?;
    etag(&stat, &head, &properties)
}

/// Copies `metadata`, if there is any, to where the next that is written goes. Whether there was.
fn keep_metadata(place: &Place, metadata: &Path) -> Result<bool> {
    let kept = place.new_metadata();
    match fs::read(metadata) {
        Ok(content) => write_synced(&kept, &content)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(cannot("read", metadata)(error)),
    }
    keep_access(metadata, &kept).map_err(cannot("write", &kept))?;
    Ok(true)
}

/// Who may read `old` may read `new`, which takes its place, and it is theirs as far as this process can give it to them.
fn keep_access(old: &Path, new: &Path) -> io::Result<()> {
    let Ok(old) = fs::metadata(old) else { return Ok(()) };
    let file = File::open(new)?;
    let (owner, group, ours) = (old.uid(), old.gid(), file.metadata()?);
    // Only root may give a file away. To a group, whoever is in it may.
    if (ours.uid(), ours.gid()) != (owner, group) && fchown(&file, Some(owner), Some(group)).is_err() {
        _ = fchown(&file, None, Some(group));
    }
    // After the owner: changing that clears some of the permissions.
    file.set_permissions(old.permissions())?;
    file.sync_all()
}

/// Removes an object: the body first, so that a crash between leaves metadata without a body, never the reverse.
pub(super) fn delete(place: &Place) -> Result<()> {
    // Fails where there is no object, before a folder is made for a lock.
    let head_before = head_at(place)?;
    if !exists(&place.folder())? {
        return remove_body(place);
    }
    let _lock = lock(place)?;
    let head = head_at(place).unwrap_or(head_before);
    remove_body(place)?;
    match fs::remove_file(place.metadata(&head)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot("remove", &place.metadata(&head))(error)),
        _ => Ok(()),
    }
}

fn remove_body(place: &Place) -> Result<()> {
    fs::remove_file(place.body()).map_err(cannot("remove", &place.body()))?;
    sync_dir(&place.dir)
}

/// A clear error if the key's path is a directory: an object cannot lie beside keys that go on below it.
pub(super) fn check_free(place: &Place) -> Result<()> {
    let path = place.body();
    if path.symlink_metadata().is_ok_and(|stat| stat.is_dir()) {
        let message = format!("{} is a directory, so no object can have that key", path.display());
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(())
}

/// Creates a directory and those above it, each of them durable.
pub(super) fn create_dirs(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    match fs::create_dir(dir) {
        Ok(()) => dir.parent().map_or(Ok(()), sync_dir),
        Err(_) if dir.is_dir() => Ok(()),
        Err(error) => match (error.kind(), dir.parent()) {
            // Where the parent is there and this is all the same the answer, as in /proc, asking again would never end.
            (io::ErrorKind::NotFound, Some(parent)) if !parent.is_dir() => {
                create_dirs(parent)?;
                create_dirs(dir)
            }
            (io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory, _) => {
                let message =
                    format!("{} cannot be a directory: an object or another file is in the way", dir.display());
                Err(Error::new(ErrorKind::InvalidInput, message).with_source(error))
            }
            _ => Err(cannot("create", dir)(error)),
        },
    }
}

pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(cannot("write", dir))
}

pub(super) fn write_synced(path: &Path, content: &[u8]) -> Result<()> {
    File::create(path)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .map_err(cannot("write", path))
}

/// Whoever publishes or deletes in a directory does it alone, threads and processes alike: the kernel frees the lock with the file.
fn lock(place: &Place) -> Result<File> {
    create_dirs(&place.folder())?;
    let path = place.lock();
    let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    open.and_then(|file| file.lock().map(|()| file)).map_err(cannot("lock", &path))
}

fn switch(place: &Place, staging: &Staging, condition: PutCondition) -> Result<()> {
    let (from, to) = (staging.body(), place.body());
    let renamed = match condition {
        PutCondition::None => fs::rename(&from, &to),
        PutCondition::IfNotExists => rename_new(&from, &to),
    };
    renamed.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => already_exists(place),
        io::ErrorKind::NotFound => staging.no_such_upload(),
        _ => cannot("create", &to)(error),
    })
}

/// Renames only if nothing is there: writers that do not know our lock are told too.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;

        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Not every file system has it (NFS).
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            renamed => return Ok(renamed?),
        }
    }
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

fn exists(path: &Path) -> Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(cannot("look at", path)(error)),
    }
}

fn already_exists(place: &Place) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("{} exists already", place.body().display()))
}

#[cfg(test)]
mod tests {
    use super::super::staging;
    use super::*;
    use crate::types::ObjectKey;

    fn place(dir: &Path) -> Place {
        let key: ObjectKey = "a".parse().unwrap();
        Place::new(dir, &key).unwrap()
    }

    #[test]
    fn a_body_that_cannot_be_renamed_leaves_no_metadata() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        fs::write(dir.path().join("a"), "old").unwrap();
        let (_, staging) = staging::create(&place, &Properties::default(), false).unwrap();
        fs::write(staging.body(), "new").unwrap();
        let body = File::open(staging.body()).unwrap();
        // As an abort at this very moment does.
        fs::remove_file(staging.body()).unwrap();
        let error = publish(&place, &staging, &body, &Properties::default(), PutCondition::None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "old");
        assert!(!place.metadata(b"new").exists());
    }

    /// Unsealed files can begin alike, as tables with the same heading do.
    #[test]
    fn a_body_that_stays_keeps_its_metadata_though_another_that_begins_alike_could_not_take_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let put = |text: &str, is_there: bool| {
            let properties = Properties { content_type: Some(text.to_owned()), ..Properties::default() };
            let (_, staging) = staging::create(&place, &properties, false).unwrap();
            fs::write(staging.body(), format!("the same 24 bytes to begin, then {text}")).unwrap();
            let body = File::open(staging.body()).unwrap();
            if !is_there {
                // As an abort at this very moment does.
                fs::remove_file(staging.body()).unwrap();
            }
            publish(&place, &staging, &body, &properties, PutCondition::None)
        };
        let found = || Body::open(&place).unwrap().info.properties.content_type;

        put("old", true).unwrap();
        assert_eq!(put("new", false).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(found().as_deref(), Some("old"));
        put("newer", true).unwrap();
        assert_eq!(found().as_deref(), Some("newer"));
        // One that something else put there has none, and gets none.
        fs::remove_file(place.metadata(&head_at(&place).unwrap())).unwrap();
        put("newest", false).unwrap_err();
        assert_eq!(found(), None);
    }

    #[test]
    fn writers_that_know_no_lock_lose_or_win_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "ours").unwrap();
        fs::write(&to, "theirs").unwrap();
        assert_eq!(rename_new(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(
            (fs::read_to_string(&from).unwrap(), fs::read_to_string(&to).unwrap()),
            ("ours".into(), "theirs".into())
        );
        fs::remove_file(&to).unwrap();
        rename_new(&from, &to).unwrap();
        assert_eq!((fs::read_to_string(&to).unwrap(), from.exists()), ("ours".into(), false));
    }
}
