//! Walking the tree: the objects, and the uploads in progress.

use std::fs;
use std::io;
use std::path::Path;

use super::layout::{FOLDER, Place, Staging, cannot, is_upload_id};
use super::staging;
use crate::error::Result;
use crate::store::percent::percent_encode;
use crate::store::{ListedObject, ListedUpload, Upload};
use crate::types::{ObjectKey, UploadId};

/// Something a walk comes across.
#[derive(Debug)]
pub(super) enum Entry {
    /// A directory to go down into; its keys begin with the string.
    Dir(String),
    /// What lies at a key's path and was not looked at yet.
    Name(ObjectKey),
    Object(ListedObject),
}

impl Entry {
    /// What entries of one directory are sorted by, so that the walk is ascending by key: `a.b` comes before `a/b`.
    fn order(&self) -> &str {
        match self {
            Self::Dir(prefix) => prefix,
            Self::Name(key) => key.as_str(),
            Self::Object(object) => object.key.as_str(),
        }
    }
}

/// The entries of one directory that lead to keys with `prefix` behind `after`, descending, so that the next is popped from the end.
///
/// What no key can name is passed over: names that are not UTF-8 or too long, links to directories.
pub(super) fn entries(root: &Path, dir: &str, prefix: &str, after: &str) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (name, is_dir) in names(&root.join(dir))? {
        let key = format!("{dir}{name}");
        if is_dir {
            let below = key + "/";
            let has_prefix = below.starts_with(prefix) || prefix.starts_with(&below);
            // What begins like neither is all before it, or all behind it.
            let has_later = after.starts_with(&below) || below.as_str() > after;
            if name != FOLDER && has_prefix && has_later {
                entries.push(Entry::Dir(below));
            }
        } else if key.starts_with(prefix)
            && key.as_str() > after
            && let Ok(key) = ObjectKey::try_from(key)
            && Place::new(root, &key).is_ok()
        {
            entries.push(Entry::Name(key));
        }
    }
    entries.sort_unstable_by(|a, b| b.order().cmp(a.order()));
    Ok(entries)
}

/// The names at the end of `entries`, looked at: the objects among them, in their order. Some of many at once, because whoever reads a page of
/// a directory of millions goes no further.
pub(super) fn look(root: &Path, names: Vec<Entry>) -> Vec<Entry> {
    let object = |entry: Entry| {
        let Entry::Name(key) = entry else { return Some(entry) };
        let stat = fs::metadata(Place::new(root, &key).ok()?.body()).ok().filter(fs::Metadata::is_file)?;
        Some(Entry::Object(ListedObject { key, len: stat.len(), modified: stat.modified().ok() }))
    };
    names.into_iter().filter_map(object).collect()
}

/// The uploads in progress under keys that begin with `prefix`, ascending by key.
pub(super) fn uploads(root: &Path, prefix: &str) -> Result<Vec<ListedUpload>> {
    let mut uploads = Vec::new();
    let mut dirs = vec![String::new()];
    while let Some(dir) = dirs.pop() {
        let folder = root.join(&dir).join(FOLDER).join("uploads");
        for (id, _) in names(&folder)?.into_iter().filter(|(name, is_dir)| *is_dir && is_upload_id(name)) {
            if let Some(name) = staging::name(&Staging(folder.join(&id)))?
                && let Ok(key) = ObjectKey::try_from(format!("{dir}{name}"))
                && key.as_str().starts_with(prefix)
            {
                let begun = fs::metadata(Staging(folder.join(&id)).description()).and_then(|file| file.modified()).ok();
                uploads.push(ListedUpload { upload: Upload { key, id: UploadId(id) }, begun });
            }
        }
        for (name, _) in names(&root.join(&dir))?.into_iter().filter(|(name, is_dir)| *is_dir && name != FOLDER) {
            let below = format!("{dir}{name}/");
            if below.starts_with(prefix) || prefix.starts_with(&below) {
                dirs.push(below);
            }
        }
    }
    uploads.sort_unstable_by(|ListedUpload { upload: a, .. }, ListedUpload { upload: b, .. }| {
        (&a.key, &a.id).cmp(&(&b.key, &b.id))
    });
    Ok(uploads)
}

/// The UTF-8 names in a directory, and which are directories. Nothing if it is not there, or not any more.
fn names(dir: &Path) -> Result<Vec<(String, bool)>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(cannot("list", dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(cannot("list", dir))?;
        // A link to a directory counts as a file here, and is no regular one: links could lead a walk in circles.
        let is_dir = entry.file_type().map_err(cannot("list", &entry.path()))?.is_dir();
        names.extend(entry.file_name().into_string().ok().map(|name| (name, is_dir)));
    }
    Ok(names)
}

/// An absolute path as a `file:` URL (RFC 8089).
pub(super) fn file_url(path: &Path) -> String {
    format!("file://{}", percent_encode(path.as_os_str().as_encoded_bytes(), b"/"))
}
