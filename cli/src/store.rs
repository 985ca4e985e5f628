//! From a place to the store it is in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{Stream, TryStreamExt as _};
use sealift::store::{DirStore, DiscardStore, MultipartStore};
use sealift::{Error, ErrorKind, ObjectKey};

use crate::exit::{Failure, Result};
use crate::url::Location;

/// An object's store and its key there.
pub(crate) struct Object {
    pub(crate) store: Arc<dyn MultipartStore>,
    pub(crate) key: ObjectKey,
}

/// A directory, for what is done to all objects in it and below.
pub(crate) struct Below {
    dir: PathBuf,
    store: DirStore,
}

impl Below {
    pub(crate) fn list(&self) -> impl Stream<Item = Result<ObjectKey, Error>> {
        self.store.list("").map_ok(|listed| listed.key)
    }

    /// What a user would write for a listed object, and the object as it would be for that.
    pub(crate) fn object(&self, key: ObjectKey) -> (String, Result<Object, Error>) {
        let path = self.dir.join(key.as_str());
        // What is bound to its name is bound to the last segment, in the store that is its directory.
        let object = match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
            (Some(dir), Some(name)) => DirStore::open(dir)
                .and_then(|store| Ok(Object { store: Arc::new(store) as Arc<dyn MultipartStore>, key: name.parse()? })),
            _ => Ok(Object { store: Arc::new(self.store.clone()) as Arc<dyn MultipartStore>, key }),
        };
        (path.display().to_string(), object)
    }
}

impl Location {
    /// The directory here.
    pub(crate) fn below(&self) -> Result<Below> {
        let dir = self.path()?.to_owned();
        if !dir.is_dir() {
            return Err(Failure::new(ErrorKind::NotFound, format!("there is no directory {}", dir.display())));
        }
        Ok(Below { store: DirStore::open(&dir)?, dir })
    }

    /// The object here, to be read.
    pub(crate) fn object(&self) -> Result<Object> {
        let path = self.path()?;
        let (dir, key) = split(path)?;
        Ok(Object { store: Arc::new(DirStore::open(dir)?), key })
    }

    /// The object here, to be written; the store makes the directories it needs.
    pub(crate) fn new_object(&self) -> Result<Object> {
        let path = match self {
            Self::File(path) => path,
            Self::Discard => {
                return Ok(Object { store: Arc::new(DiscardStore::new()), key: "discarded".parse()? });
            }
        };
        let (dir, key) = split(path)?;
        if path.is_dir() {
            return Err(Failure::new(
                ErrorKind::InvalidInput,
                format!("{0} is a directory: name the object in it, such as {0}/NAME", path.display()),
            ));
        }
        Ok(Object { store: Arc::new(DirStore::open(dir)?), key })
    }

    /// The path this is, in a store that can be read.
    pub(crate) fn path(&self) -> Result<&Path> {
        match self {
            Self::File(path) => Ok(path),
            Self::Discard => {
                Err(Failure::new(ErrorKind::InvalidInput, "`discard:` keeps nothing: it is only for `put`, to measure"))
            }
        }
    }
}

/// The store a ledger or a listing means by `url`.
pub(crate) fn open(url: &str) -> Result<Arc<dyn MultipartStore>> {
    let location: Location = url.parse().map_err(|e: String| Error::new(ErrorKind::InvalidInput, e))?;
    Ok(Arc::new(DirStore::open(location.path()?)?))
}

/// What a user would write for the object `key` of that store.
pub(crate) fn object_url(store: &str, key: &str) -> String {
    match store.parse() {
        Ok(Location::File(dir)) => dir.join(key).display().to_string(),
        _ => format!("{}/{key}", store.trim_end_matches('/')),
    }
}

/// Directory and name.
fn split(path: &Path) -> Result<(PathBuf, ObjectKey)> {
    use std::os::unix::ffi::OsStrExt as _;
    let invalid = |why: &str| Failure::new(ErrorKind::InvalidInput, format!("{} {why}", path.display()));
    // `Path` looks past a slash at the end, which says that a directory is meant.
    if path.as_os_str().as_bytes().ends_with(b"/") {
        return Err(invalid("names a directory: name the object in it"));
    }
    if path.components().any(|part| part.as_os_str().eq_ignore_ascii_case(".sealift")) {
        return Err(invalid("leads into a folder `.sealift`, which holds what belongs to the objects beside it"));
    }
    match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) => {
            let name = name.to_str().ok_or_else(|| invalid("has a name that is not UTF-8, as an object's must be"))?;
            Ok((dir.to_owned(), name.parse()?))
        }
        _ => Err(invalid("names no object: end it with the object's name")),
    }
}
