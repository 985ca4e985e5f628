//! The files in a directory and below.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sealift::{Error, ErrorKind};

use crate::filter::Filters;

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Files, sorted by their names.
    pub(crate) files: Vec<FoundFile>,
    /// What is no file, and why it is left out.
    pub(crate) skipped: Vec<(PathBuf, &'static str)>,
    /// What could not be looked at.
    pub(crate) failed: Vec<(PathBuf, Error)>,
}

#[derive(Debug)]
pub(crate) struct FoundFile {
    pub(crate) path: PathBuf,
    /// Its path from the directory on, segments separated by `/`.
    pub(crate) name: String,
    pub(crate) len: u64,
}

/// Looks through `dir`. Symbolic links are left out, or followed.
pub(crate) fn walk(dir: &Path, filters: &Filters, follow_links: bool) -> Found {
    let mut walk = Walk { filters, follow_links, found: Found::default(), above: Vec::new() };
    match fs::metadata(dir) {
        Ok(metadata) => walk.directory(dir, "", &metadata),
        Err(e) => walk.failed(dir, e),
    }
    walk.found
}

struct Walk<'a> {
    filters: &'a Filters,
    follow_links: bool,
    found: Found,
    /// The directories that lead here, so that links that lead back are noticed.
    above: Vec<(u64, u64)>,
}

impl Walk<'_> {
    fn directory(&mut self, dir: &Path, name: &str, metadata: &Metadata) {
        let id = (metadata.dev(), metadata.ino());
        if self.above.contains(&id) {
            return self.skip(dir, "a symbolic link to a directory that it is in");
        }
        let entries = fs::read_dir(dir).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(e) => return self.failed(dir, e),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        self.above.push(id);
        for entry in entries {
            self.entry(&entry.path(), name);
        }
        self.above.pop();
    }

    fn entry(&mut self, path: &Path, above: &str) {
        let Some(segment) = path.file_name().and_then(|name| name.to_str()) else {
            let message = "its name is not UTF-8, as an object's must be";
            self.found.failed.push((path.to_owned(), Error::new(ErrorKind::InvalidInput, message)));
            return;
        };
        let name = if above.is_empty() { segment.to_owned() } else { format!("{above}/{segment}") };
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() && self.follow_links => fs::metadata(path),
            metadata => metadata,
        };
        let metadata = match metadata {
            Ok(metadata) => metadata,
            // It was there a moment ago, or is a link to nowhere.
            Err(e) if self.filters.take(&name) => return self.failed(path, e),
            Err(_) => return,
        };
        if metadata.is_dir() && segment.eq_ignore_ascii_case(".sealift") {
            self.skip(path, "it holds what belongs to the objects beside it");
        } else if metadata.is_dir() {
            self.directory(path, &name, &metadata);
        } else if !self.filters.take(&name) {
            // Not meant, so whatever it is.
        } else if metadata.is_file() {
            self.found.files.push(FoundFile { path: path.to_owned(), name, len: metadata.len() });
        } else if metadata.is_symlink() {
            self.skip(path, "a symbolic link (--follow-links stores what it leads to)");
        } else {
            self.skip(path, "neither a file nor a directory");
        }
    }

    fn skip(&mut self, path: &Path, why: &'static str) {
        self.found.skipped.push((path.to_owned(), why));
    }

    fn failed(&mut self, path: &Path, e: io::Error) {
        let error = Error::new(ErrorKind::SourceRead, "cannot be read").with_source(e);
        self.found.failed.push((path.to_owned(), error));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_only_if_asked_for_and_never_in_circles() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("a/b")).unwrap();
        fs::create_dir_all(path("a/.sealift")).unwrap();
        fs::write(path("a/b/file"), "1").unwrap();
        fs::write(path("a/.sealift/file"), "1").unwrap();
        symlink(path("a"), path("a/b/up")).unwrap();
        symlink("file", path("a/b/link")).unwrap();
        symlink("nowhere", path("a/b/broken")).unwrap();
        let names = |found: &Found| found.files.iter().map(|file| file.name.clone()).collect::<Vec<_>>();

        let found = walk(&path("a"), &Filters::default(), false);
        assert_eq!((names(&found), found.skipped.len(), found.failed.len()), (vec!["b/file".into()], 4, 0));
        let found = walk(&path("a"), &Filters::default(), true);
        assert_eq!(names(&found), ["b/file", "b/link"]);
        assert_eq!((found.skipped.len(), found.failed.len()), (2, 1));
        assert_eq!(walk(&path("nothing"), &Filters::default(), false).failed.len(), 1);
    }
}
