//! Files that are whole or not there, and stay once they are there: the only code of the key store that writes.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// Where a file is written before it gets its name. One name does, since whoever writes holds the store's lock.
const NEW: &str = ".new";

/// The store's lock for writing; given back when dropped.
///
/// Readers need none: each file is replaced as a whole, and a key's file is there before anything names the key.
pub(super) struct WriteLock {
    dir: PathBuf,
    _file: File,
}

impl WriteLock {
    /// Waits for the lock of the store at `dir`, against other threads and other processes.
    pub(super) fn acquire(dir: &Path) -> Result<Self> {
        let path = dir.join("lock");
        let lock = || -> io::Result<File> {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        let file = lock().map_err(|error| Error::io(format!("locking the key store by {}", path.display()), error))?;
        Ok(Self { dir: dir.to_owned(), _file: file })
    }

    /// Puts a file with `content` at `path`, which is inside the store, replacing one that is there.
    /// After a crash the old one is there or the new one, and once this returns the new one stays.
    pub(super) fn write(&self, path: &Path, content: &[u8]) -> Result<()> {
        let new = self.dir.join(NEW);
        let write = || -> io::Result<()> {
            // One that a crash left behind; created anew, so that it is ours and has our permissions.
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            sync_dir(path.parent().unwrap_or(&self.dir))
        };
        write().map_err(|error| Error::io(format!("writing {}", path.display()), error))
    }

    /// Removes the file at `path`, which is inside the store. Once this returns it stays away.
    pub(super) fn remove(&self, path: &Path) -> Result<()> {
        let remove = || -> io::Result<()> {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            sync_dir(path.parent().unwrap_or(&self.dir))
        };
        remove().map_err(|error| Error::io(format!("removing {}", path.display()), error))
    }
}

/// Makes a private directory.
pub(super) fn create_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::io(format!("making the directory {}", path.display()), error))
}

/// Makes the directory `dir` with all that `build` puts into it, at once: a crash leaves all of it or nothing under
/// that name.
///
/// `Ok(None)` if there is one already that is not empty, be it that another process was faster.
pub(super) fn install<T>(dir: &Path, build: impl FnOnce(&Path) -> Result<T>) -> Result<Option<T>> {
    let failed = |error| Error::io(format!("making the key store {}", dir.display()), error);
    let dir = resolve(dir).map_err(failed)?;
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("the key store cannot be {}: name a directory in it", dir.display()),
        ));
    };
    let above = create_dirs_above(parent).map_err(failed)?;

    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".new-");
    // Beside the directory and not inside it, so that renaming it is all that is left to do. Removed again if that
    // fails.
    let new = tempfile::Builder::new()
        .prefix(&prefix)
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(failed)?;
    let built = build(new.path())?;
    sync_dir(new.path()).map_err(failed)?;

    let installed = match fs::rename(new.path(), &dir) {
        Ok(()) => {
            let _ = new.keep();
            Some(built)
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => None,
        Err(error) => return Err(failed(error)),
    };
    // Also where another process was faster: it may not have come to this yet, and we will use what it made.
    above.iter().try_for_each(|dir| sync_dir(dir)).map_err(failed)?;
    Ok(installed)
}

/// Whether there is nothing at `dir`, or an empty directory.
pub(super) fn is_absent(dir: &Path) -> Result<bool> {
    match fs::read_dir(dir).and_then(|mut entries| entries.next().transpose()) {
        Ok(entry) => Ok(entry.is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Error::io(format!("reading the key store {}", dir.display()), error)),
    }
}

/// `path` with a symbolic link followed, because renaming onto a link would replace the link.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::path::absolute(path),
        other => other,
    }
}

/// Makes `dir` and what is missing above it; returns the directories whose entries must be synced for it to last.
fn create_dirs_above(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let missing = dir.ancestors().take_while(|dir| !dir.exists()).count();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    Ok(dir.ancestors().take(missing + 1).map(Path::to_owned).collect())
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn written_files_are_private_and_leave_nothing_else_behind() {
        let dir = tempfile::tempdir().unwrap();
        let lock = WriteLock::acquire(dir.path()).unwrap();
        let path = dir.path().join("file");
        // What a crash between creation and renaming leaves.
        fs::write(dir.path().join(NEW), "half of the").unwrap();
        lock.write(&path, b"one").unwrap();
        lock.write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(mode(&path), 0o600);
        assert!(!dir.path().join(NEW).exists());
    }

    #[test]
    fn the_lock_excludes_other_writers() {
        let dir = tempfile::tempdir().unwrap();
        let lock = WriteLock::acquire(dir.path()).unwrap();
        let other = File::open(dir.path().join("lock")).unwrap();
        assert!(matches!(other.try_lock(), Err(fs::TryLockError::WouldBlock)));
        drop(lock);
        other.try_lock().unwrap();
    }

    #[test]
    fn directories_are_installed_whole_or_not_at_all() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/b");
        assert!(is_absent(&dir).unwrap());

        let failure = || Error::new(ErrorKind::Io, "disk full");
        let build = |path: &Path| -> Result<()> {
            fs::write(path.join("half"), "done").unwrap();
            Err(failure())
        };
        assert_eq!(install(&dir, build).unwrap_err().to_string(), "disk full");
        assert!(is_absent(&dir).unwrap());
        assert_eq!(fs::read_dir(home.path().join("a")).unwrap().count(), 0, "nothing is left behind");

        let build = |content: &'static str| {
            move |path: &Path| -> Result<()> { fs::write(path.join("file"), content).map_err(|_| failure()) }
        };
        assert!(install(&dir, build("first")).unwrap().is_some());
        assert!(install(&dir, build("second")).unwrap().is_none());
        assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "first");
        assert_eq!((mode(&dir), mode(&home.path().join("a"))), (0o700, 0o700));
        assert_eq!(fs::read_dir(home.path().join("a")).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn an_empty_directory_is_filled_and_a_link_to_one_followed() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", home.path().join("link")).unwrap();
        let build =
            |path: &Path| -> Result<()> { fs::write(path.join("file"), "x").map_err(|error| Error::io("", error)) };
        assert!(install(&home.path().join("link"), build).unwrap().is_some());
        assert!(home.path().join("real/file").exists());
        assert!(home.path().join("link").is_symlink());
    }
}
