//! `ls`, `rm`, `cp` and `mv`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt as _;
use sealift::format::{Envelope, unsealed_by};
use sealift::store::{DirStore, ListedObject, MultipartStore, PutCondition};
use sealift::{Error, ErrorKind, ObjectKey};
use serde::Serialize;

use crate::args::{Copy, Ls, Output, Rm, StoreArgs};
use crate::exit::{Failure, Result};
use crate::output;
use crate::store::{Object, keeps_nothing};
use crate::url::{Location, Remote};

#[derive(Serialize)]
struct Listed {
    key: String,
    sealed_len: u64,
    modified: Option<String>,
}

pub(crate) async fn ls(args: Ls) -> Result {
    let listed: Vec<Listed> = match &args.url {
        Location::File(path) if path.is_dir() => {
            DirStore::open(path)?.list("").map_ok(Listed::from).try_collect().await?
        }
        Location::Remote(remote) => below(remote, &args.store).await?,
        url => vec![one(url, &args.store).await?],
    };
    args.json.print(&listed, || {
        let width = listed.iter().map(|object| object.sealed_len.to_string().len()).max().unwrap_or_default();
        let line = |object: &Listed| {
            let modified = object.modified.as_deref().unwrap_or("-");
            format!("{:>width$}  {modified:20}  {}", object.sealed_len, output::printable(&object.key))
        };
        listed.iter().map(line).collect::<Vec<_>>().join("\n")
    })
}

async fn one(url: &Location, at: &StoreArgs) -> Result<Listed> {
    let Object { store, key } = url.object(at).await?;
    let info = store.head(&key).await?;
    Ok(Listed::from(ListedObject { key, len: info.len, modified: info.modified }))
}

/// The object of this name and what is below it, as in a directory.
async fn below(remote: &Remote, at: &StoreArgs) -> Result<Vec<Listed>> {
    let store = remote.store(at).await?;
    let is_folder = remote.key.is_empty() || remote.key.ends_with('/');
    let mut listed: Vec<Listed> = store.list(&remote.as_folder().key).map_ok(Listed::from).try_collect().await?;
    if !is_folder {
        match one(&Location::Remote(remote.clone()), at).await {
            Ok(object) => listed.insert(0, object),
            Err(failure) if failure.kind() == ErrorKind::NotFound && !listed.is_empty() => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(listed)
}

impl From<ListedObject> for Listed {
    fn from(object: ListedObject) -> Self {
        let modified = object.modified.map(output::timestamp);
        Self { key: object.key.to_string(), sealed_len: object.len, modified }
    }
}

pub(crate) async fn rm(args: Rm) -> Result {
    let Object { store, key } = args.url.object(&args.store).await?;
    envelope(store.as_ref(), &key, &args.url).await?;
    store.delete(&key).await?;
    #[derive(Serialize)]
    struct Removed {
        removed: String,
    }
    args.output.done(&Removed { removed: args.url.to_string() }, || format!("{}: removed", args.url))
}

pub(crate) async fn cp(args: Copy) -> Result {
    copy(&args).await?;
    report(&args, "copied", &args.output)
}

pub(crate) async fn mv(args: Copy) -> Result {
    let source = copy(&args).await?;
    source.store.delete(&source.key).await.map_err(|e| {
        e.while_doing(format_args!("{} is copied to {}, but removing the first failed", args.source, args.dest))
    })?;
    report(&args, "moved", &args.output)
}

fn report(args: &Copy, what: &str, output: &Output) -> Result {
    #[derive(Serialize)]
    struct Copied {
        source: String,
        dest: String,
    }
    let copied = Copied { source: args.source.to_string(), dest: args.dest.to_string() };
    output.done(&copied, || format!("{}: {what} to {}", copied.source, copied.dest))
}

/// Copies, and returns what was copied.
async fn copy(args: &Copy) -> Result<Object> {
    let at = args.store.clone().with(args.sse.clone());
    let object = args.source.object(&at).await?;
    let envelope = envelope(object.store.as_ref(), &object.key, &args.source).await?;
    let new = args.dest.new_object(&at).await?;
    if envelope.is_some_and(|envelope| envelope.is_bound()) && new.key != object.key {
        let message = format!("{} is bound to its name: as {} it could not be opened", args.source, new.key);
        return Err(Failure::new(ErrorKind::InvalidInput, message).hint("get it, and put it under the other name"));
    }
    let is_same = match (&args.source, &args.dest) {
        (Location::File(source), Location::File(dest)) => is_same(source, dest),
        (source, dest) => source == dest,
    };
    if is_same {
        let message = format!("{} and {} are the same object", args.source, args.dest);
        return Err(Failure::new(ErrorKind::InvalidInput, message));
    }
    let (store, source, dest) = match (&args.source, &args.dest) {
        (Location::File(source), Location::File(dest)) => {
            let root = common_directory(source, dest);
            let store: Arc<dyn MultipartStore> = Arc::new(DirStore::open(&root)?);
            (store, key_under(&root, source)?, key_under(&root, dest)?)
        }
        (Location::Remote(source), Location::Remote(dest))
            if (source.scheme, &source.bucket) == (dest.scheme, &dest.bucket) =>
        {
            (object.store, object.key, new.key)
        }
        (_, Location::Discard) => return Err(keeps_nothing()),
        _ => {
            let message =
                format!("{} and {} are in two stores, and copies are made within one", args.source, args.dest);
            let hint = "get it, and put it there: it is then sealed anew";
            return Err(Failure::new(ErrorKind::InvalidInput, message).hint(hint));
        }
    };
    let condition = if args.if_not_exists { PutCondition::IfNotExists } else { PutCondition::None };
    store.copy(&source, &dest, condition).await?;
    Ok(Object { store, key: source })
}

/// An object's envelope; none if it was stored unsealed by `put --no-seal`. What somebody else stored is left alone by commands that
/// remove and replace.
async fn envelope(store: &dyn MultipartStore, key: &ObjectKey, url: &Location) -> Result<Option<Envelope>> {
    let info = store.head(key).await?;
    if unsealed_by(&info.properties.metadata).is_some() {
        return Ok(None);
    }
    Envelope::from_metadata(&info.properties.metadata).map(Some).map_err(|e| {
        Failure::from(e.while_doing(url))
            .hint_if(ErrorKind::NotSealed, "a file that Sealift did not store is a case for the tools of the system")
    })
}

fn is_same(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real(a) == real(b)
}

/// The deepest directory that holds both.
fn common_directory(a: &Path, b: &Path) -> PathBuf {
    let dirs = |path: &Path| path.parent().unwrap_or(path).to_owned();
    let (a, b) = (dirs(a), dirs(b));
    a.components().zip(b.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

fn key_under(root: &Path, path: &Path) -> Result<ObjectKey> {
    let key = path.strip_prefix(root).ok().and_then(Path::to_str);
    let key = key.ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, format!("{} is not UTF-8, as an object's name must be", path.display()))
    })?;
    Ok(key.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_in_two_directories_have_keys_under_the_common_one() {
        let (a, b) = (Path::new("/x/y/a"), Path::new("/x/z/w/b"));
        let root = common_directory(a, b);
        assert_eq!(root, Path::new("/x"));
        assert_eq!(key_under(&root, a).unwrap().as_str(), "y/a");
        assert_eq!(key_under(&root, b).unwrap().as_str(), "z/w/b");
        assert_eq!(common_directory(Path::new("/a"), Path::new("/b")), Path::new("/"));
        assert_eq!(common_directory(Path::new("/xy/a"), Path::new("/x/b")), Path::new("/"));
    }
}
