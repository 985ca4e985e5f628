//! `get --recursive`.

use std::fs;
use std::path::{Path, PathBuf};

use futures::TryStreamExt as _;
use sealift::engine::{GetOptions, ReadOptions};
use sealift::{Engine, Error, ErrorKind};
use serde::Serialize;

use super::tree::{Summary, each};
use crate::args::Get;
use crate::exit::{Failure, Result};
use crate::home::Home;
use crate::interrupt::Interrupts;
use crate::keys::TrustedByUser;
use crate::output::Total;
use crate::store::Object;

#[derive(Serialize)]
struct Opened {
    url: String,
    dest: String,
    plain_len: u64,
    resumed_from: u64,
}

/// What opening every object needs.
struct Run {
    engine: Engine,
    demands: ReadOptions,
    /// `None` to read what is not sealed.
    trusted: Option<TrustedByUser>,
    dir: PathBuf,
    overwrite: bool,
    total: Total,
}

pub(crate) async fn get_tree(args: Get, verbose: u8) -> Result {
    let interrupts = Interrupts::listen()?;
    if args.dest.as_os_str() == "-" {
        return Err(Failure::new(ErrorKind::InvalidInput, "--recursive needs a directory to write to"));
    }
    let demands = args.keys.demands()?;
    let engine = args.engine.engine()?;
    let below = args.url.below(&args.store).await?;
    let trusted = match args.sealing.no_seal {
        true => None,
        false => Some(args.keys.keys.trusted(&Home::find()?).await?),
    };
    fs::create_dir_all(&args.dest).map_err(|e| Error::io(format!("making {}", args.dest.display()), e))?;
    let mut summary = Summary::new(args.url.to_string(), args.dest.display().to_string());
    let bar = args.output.bar(verbose);
    let total = bar.total(0);
    let (dir, overwrite) = (args.dest.clone(), args.force);
    let run = Run { engine, demands, trusted, dir, overwrite, total };
    let mut opened = Vec::new();
    let work = async {
        let mut keys = Vec::new();
        let mut listing = std::pin::pin!(below.list());
        while let Some(key) = listing.try_next().await? {
            let name = below.name(&key).to_owned();
            if !args.tree.filters.take(&name) {
                continue;
            }
            if name.is_empty() || name.ends_with('/') {
                summary.skip(key.to_string(), "it stands for a folder, and is no file");
                continue;
            }
            let path = match path_below(&args.dest, &name) {
                Ok(path) => path,
                Err(e) => {
                    summary.fail(key.to_string(), &e);
                    continue;
                }
            };
            if args.tree.skip_existing && fs::symlink_metadata(&path).is_ok() {
                summary.existing += 1;
                continue;
            }
            keys.push((key, name));
        }
        each(
            keys,
            None,
            |(key, name)| {
                let run = &run;
                let (url, object) = below.object(key);
                async move {
                    let done = match object {
                        Ok(object) => run.open(object, &name).await,
                        Err(e) => Err(e),
                    };
                    (url, done)
                }
            },
            |n, (url, done)| {
                match done {
                    Ok((dest, plain_len, resumed_from)) => {
                        opened.push((n, Opened { url, dest, plain_len, resumed_from }));
                    }
                    Err(e) => summary.fail(url, &e),
                }
                true
            },
        )
        .await;
        Ok(())
    };
    let ended = interrupts.dropping(work).await;
    let took = bar.finish();
    ended.map_err(|failure| {
        failure.hint_if(ErrorKind::Cancelled, "to go on, run the same command with --skip-existing")
    })?;
    opened.sort_by_key(|(n, _)| *n);
    summary.objects = opened.into_iter().map(|(_, opened)| opened).collect();
    summary.plain_len = summary.objects.iter().map(|opened| opened.plain_len - opened.resumed_from).sum();
    let did = if args.sealing.no_seal { "Read" } else { "Opened" };
    let reported = summary.report(did, "opened", took, &args.output);
    reported.map_err(|failure| match run.trusted.as_ref() {
        Some(trusted) => trusted.explain_failure(failure),
        None => failure,
    })
}

impl Run {
    /// Opens one object into its file. Returns that, its length, and what of it was there.
    async fn open(&self, object: Object, name: &str) -> Result<(String, u64, u64), Error> {
        let Object { store, key } = object;
        let path = path_below(&self.dir, name)?;
        make_parents(&self.dir, &path)?;
        if !self.overwrite && fs::symlink_metadata(&path).is_ok() {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("{} exists already", path.display())));
        }
        let options = |len| {
            self.total.add(len);
            GetOptions { overwrite: self.overwrite, resume: true, progress: self.total.callback() }
        };
        let (len, written) = match &self.trusted {
            Some(trusted) => {
                let reader = self.engine.open(store, key, &trusted.keys, &self.demands).await?;
                (reader.len(), reader.write_to_file(&path, options(reader.len())).await?)
            }
            None => {
                let reader = self.engine.open_unsealed(store, key, &self.demands).await?;
                (reader.len(), reader.write_to_file(&path, options(reader.len())).await?)
            }
        };
        Ok((path.display().to_string(), len, written.resumed_from))
    }
}

/// Where the object `name` belongs. Whoever can write to the store chose the name, so it may try to lead elsewhere.
fn path_below(dir: &Path, name: &str) -> Result<PathBuf, Error> {
    let is_bad = |segment: &str| {
        matches!(segment, "" | "." | "..") || segment.contains('\0') || segment.eq_ignore_ascii_case(".sealift")
    };
    if name.split('/').any(is_bad) {
        let message = "its name is no path of a file below a directory, so it is not written";
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(dir.join(name))
}

/// Makes the directories between `dir` and `path`, and refuses what leads through a symbolic link.
fn make_parents(dir: &Path, path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(dir);
    let between = parent.strip_prefix(dir).unwrap_or(Path::new(""));
    let mut at = dir.to_owned();
    for segment in between.components() {
        at.push(segment);
        match fs::create_dir(&at) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.map_err(|e| Error::io(format!("making {}", at.display()), e))?,
        }
        if !fs::symlink_metadata(&at).is_ok_and(|there| there.is_dir()) {
            let message =
                format!("{} is no directory: a file, or a symbolic link, which is not followed", at.display());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_directory() {
        let dir = Path::new("/dest");
        assert_eq!(path_below(dir, "a/b c").unwrap(), Path::new("/dest/a/b c"));
        assert_eq!(path_below(dir, "..a/...").unwrap(), Path::new("/dest/..a/..."));
        for name in
            ["..", "../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a/.", ".sealift/x", "a/.SEALIFT/x", "a\0b"]
        {
            assert_eq!(path_below(dir, name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
        }
    }

    #[test]
    fn links_in_the_directory_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        make_parents(dir.path(), &path("a/b/c")).unwrap();
        assert!(path("a/b").is_dir());
        std::os::unix::fs::symlink("/tmp", path("link")).unwrap();
        assert!(make_parents(dir.path(), &path("link/c")).is_err());
        fs::write(path("file"), "").unwrap();
        assert!(make_parents(dir.path(), &path("file/c")).is_err());
    }
}
