//! Where everything lies: the one place that turns keys into paths.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::types::{ObjectKey, PartNumber, UploadId};

/// The folder beside the bodies that holds everything else.
pub(super) const FOLDER: &str = ".sealift";
/// The most bytes the name of a file may have on the file systems in use.
const NAME_MAX: usize = 255;
/// How many of a body's first bytes name its metadata. A sealed body's first 24 are a fresh salt.
pub(super) const HEAD: usize = 24;
/// The longest name of a body, so that its metadata's name fits too.
const BODY_NAME_MAX: usize = NAME_MAX - ".".len() - 2 * HEAD - ".json".len();

/// Where one key's body lies, and what belongs to it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The directory the body lies in.
    pub(super) dir: PathBuf,
    /// The body's name there: the key's last segment.
    pub(super) name: String,
}

impl Place {
    /// The place of `key` under `root`.
    pub(super) fn new(root: &Path, key: &ObjectKey) -> Result<Self> {
        let invalid = |why: &str| {
            Err(Error::new(ErrorKind::InvalidInput, format!("the key {:?} cannot be a path: {why}", key.as_str())))
        };
        for segment in key.as_str().split('/') {
            match segment {
                "" => {
                    return invalid("it has an empty segment; remove the `/` at its beginning, at its end or doubled");
                }
                "." | ".." => return invalid("`.` and `..` mean other directories"),
                // Without regard to case, because some file systems have none.
                _ if segment.eq_ignore_ascii_case(FOLDER) => {
                    return invalid("`.sealift` is where this store keeps its own");
                }
                _ if segment.len() > NAME_MAX => return invalid("a segment is longer than 255 bytes"),
                _ => {}
            }
        }
        let (dir, name) = match key.as_str().rsplit_once('/') {
            Some((dir, name)) => (root.join(dir), name),
            None => (root.to_owned(), key.as_str()),
        };
        if name.len() > BODY_NAME_MAX {
            return invalid("its last segment is longer than 201 bytes, which leaves no room for the metadata's name");
        }
        Ok(Self { dir, name: name.to_owned() })
    }

    pub(super) fn body(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.dir.join(FOLDER)
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.folder().join("lock")
    }

    /// The metadata of the body that begins with `head`. The key's own name is in it so that a copied body neither shares the
    /// original's envelope nor loses it when the original is removed.
    pub(super) fn metadata(&self, head: &[u8]) -> PathBuf {
        self.folder().join(format!("{}.{}.json", self.name, base16ct::lower::encode_string(head)))
    }

    /// Metadata that is being written, or may have to be put back, by whoever holds the lock. No body's metadata has this name, which lacks the `.json`.
    pub(super) fn new_metadata(&self) -> PathBuf {
        self.folder().join("new-metadata")
    }

    pub(super) fn uploads(&self) -> PathBuf {
        self.folder().join("uploads")
    }

    /// The staging folder of an upload; [`NotFound`](ErrorKind::NotFound) if `id` is none this store gives.
    pub(super) fn upload(&self, id: &UploadId) -> Result<Staging> {
        // Ids come back from ledgers and command lines: one like `../..` must not reach the file system.
        if !is_upload_id(&id.0) {
            return Err(no_upload(&id.0));
        }
        Ok(Staging(self.uploads().join(&id.0)))
    }
}

/// The folder of one upload in progress.
#[derive(Clone, Debug)]
pub(super) struct Staging(pub(super) PathBuf);

impl Staging {
    /// What the object will have besides its bytes. Also the file that is locked: shared while a part is written, alone at Complete.
    pub(super) fn description(&self) -> PathBuf {
        self.0.join("upload.json")
    }

    /// The body to be. An upload without one is over.
    pub(super) fn body(&self) -> PathBuf {
        self.0.join("body")
    }

    /// The body's metadata until it is published.
    pub(super) fn metadata(&self) -> PathBuf {
        self.0.join("metadata")
    }

    /// The record of a stored part; empty while the part is not stored.
    pub(super) fn record(&self, number: PartNumber) -> PathBuf {
        self.0.join(format!("part-{:05}", number.get()))
    }

    /// A part's own file, where its offset is not known.
    pub(super) fn part(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    pub(super) fn no_such_upload(&self) -> Error {
        no_upload(&self.0.file_name().unwrap_or_default().to_string_lossy())
    }
}

/// The number of the part whose record has this file name.
pub(super) fn record_number(file_name: &str) -> Option<PartNumber> {
    let digits = file_name.strip_prefix("part-").filter(|digits| digits.len() == 5)?;
    PartNumber::try_from(digits.parse::<u32>().ok()?).ok()
}

pub(super) fn is_upload_id(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn no_upload(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no upload {id:?}; it may be completed or aborted already"))
}

/// 128 random bits in hexadecimal: an upload's id, a part's ETag.
pub(super) fn random_name() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(Error::no_randomness)?;
    Ok(base16ct::lower::encode_string(&bytes))
}

/// For `map_err`: an I/O error that names what was being done, and to which path.
pub(super) fn cannot<'a>(doing: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |error| Error::io(format!("cannot {doing} {}: {error}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_cannot_be_paths_are_refused() {
        let long = "n".repeat(256);
        let too_long_for_a_body = format!("a/{}", "n".repeat(202));
        for key in [
            "/a",
            "a/",
            "a//b",
            "/",
            ".",
            "..",
            "a/../b",
            "./a",
            ".sealift",
            "a/.sealift/b",
            ".SeaLift/lock",
            &long,
            &too_long_for_a_body,
        ] {
            let error = Place::new(Path::new("/root"), &key.parse().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{key}: {error}");
        }
    }

    #[test]
    fn the_longest_names_fit() {
        let key = format!("{}/{}", "d".repeat(255), "n".repeat(201));
        let place = Place::new(Path::new("/root"), &key.parse().unwrap()).unwrap();
        assert_eq!(place.metadata(&[0xFF; HEAD]).file_name().unwrap().len(), NAME_MAX);
        for key in ["...", "..a", ".sealift2", "a b/ü\n", "~"] {
            Place::new(Path::new("/root"), &key.parse().unwrap()).unwrap();
        }
    }

    #[test]
    fn ids_from_elsewhere_do_not_reach_the_file_system() {
        let place = Place::new(Path::new("/root"), &"a".parse().unwrap()).unwrap();
        for id in ["", ".", "../../../a", "0123456789abcdef0123456789abcde/", "0123456789ABCDEF0123456789ABCDEF"] {
            assert_eq!(place.upload(&UploadId(id.to_owned())).unwrap_err().kind(), ErrorKind::NotFound, "{id}");
        }
        place.upload(&UploadId(random_name().unwrap())).unwrap();
    }
}
