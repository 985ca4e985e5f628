//! From a place to the store it is in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{Stream, TryStreamExt as _};
use sealift::store::{DirStore, DiscardStore, MultipartStore};
use sealift::{Error, ErrorKind, ObjectKey};

use crate::args::StoreArgs;
#[cfg(any(feature = "oss", feature = "s3"))]
use crate::config::{Config, Place, variable};
use crate::exit::{Failure, Result};
use crate::url::{Location, Remote, Scheme};

/// An object's store and its key there.
pub(crate) struct Object {
    pub(crate) store: Arc<dyn MultipartStore>,
    pub(crate) key: ObjectKey,
}

/// A directory or a part of a bucket, for what is done to all objects in it and below.
pub(crate) enum Below {
    Dir { dir: PathBuf, store: DirStore },
    Remote { remote: Remote, store: Arc<dyn MultipartStore> },
    Discard(Arc<dyn MultipartStore>),
}

impl Below {
    pub(crate) fn list(&self) -> impl Stream<Item = Result<ObjectKey, Error>> {
        let listed = match self {
            Self::Dir { store, .. } => store.list(""),
            Self::Remote { remote, store } => store.list(&remote.key),
            Self::Discard(store) => store.list(""),
        };
        listed.map_ok(|listed| listed.key)
    }

    /// The key of the object that is called `name` from here on.
    pub(crate) fn key(&self, name: &str) -> Result<ObjectKey, Error> {
        match self {
            Self::Dir { .. } | Self::Discard(_) => name.parse(),
            Self::Remote { remote, .. } => format!("{}{name}", remote.key).parse(),
        }
    }

    /// What the object of a listed key is called from here on.
    pub(crate) fn name<'a>(&self, key: &'a ObjectKey) -> &'a str {
        let above = match self {
            Self::Dir { .. } | Self::Discard(_) => "",
            Self::Remote { remote, .. } => &remote.key,
        };
        key.as_str().strip_prefix(above).unwrap_or(key.as_str())
    }

    /// What a user would write for a listed object, and the object as it would be for that.
    pub(crate) fn object(&self, key: ObjectKey) -> (String, Result<Object, Error>) {
        let (dir, store) = match self {
            Self::Dir { dir, store } => (dir, store),
            Self::Remote { remote, store } => {
                let url = Remote { key: key.to_string(), ..remote.clone() }.to_string();
                return (url, Ok(Object { store: Arc::clone(store), key }));
            }
            Self::Discard(store) => return (key.to_string(), Ok(Object { store: Arc::clone(store), key })),
        };
        let path = dir.join(key.as_str());
        // What is bound to its name is bound to the last segment, in the store that is its directory.
        let object = match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
            (Some(dir), Some(name)) => DirStore::open(dir)
                .and_then(|store| Ok(Object { store: Arc::new(store) as Arc<dyn MultipartStore>, key: name.parse()? })),
            _ => Ok(Object { store: Arc::new(store.clone()) as Arc<dyn MultipartStore>, key }),
        };
        (path.display().to_string(), object)
    }
}

impl Location {
    /// The directory here, or what is below this name in a bucket.
    pub(crate) async fn below(&self, at: &StoreArgs) -> Result<Below> {
        match self {
            Self::File(dir) if dir.is_dir() => Ok(Below::Dir { store: DirStore::open(dir)?, dir: dir.clone() }),
            Self::File(dir) => {
                Err(Failure::new(ErrorKind::NotFound, format!("there is no directory {}", dir.display())))
            }
            Self::Remote(remote) => Ok(Below::Remote { remote: remote.as_folder(), store: remote.store(at).await? }),
            Self::Discard => Err(keeps_nothing()),
        }
    }

    /// The same for objects to be written; the store makes the directories it needs.
    pub(crate) async fn new_below(&self, at: &StoreArgs) -> Result<Below> {
        match self {
            Self::File(dir) => {
                at.refuse_sse()?;
                Ok(Below::Dir { store: DirStore::open(dir)?, dir: dir.clone() })
            }
            Self::Remote(_) => self.below(at).await,
            Self::Discard => Ok(Below::Discard(Arc::new(DiscardStore::new()))),
        }
    }

    /// The object here, to be read.
    pub(crate) async fn object(&self, at: &StoreArgs) -> Result<Object> {
        match self {
            Self::File(path) => {
                let (dir, key) = split(path)?;
                Ok(Object { store: Arc::new(DirStore::open(dir)?), key })
            }
            Self::Remote(remote) => {
                let key = object_key(remote)?;
                Ok(Object { store: remote.store(at).await?, key })
            }
            Self::Discard => Err(keeps_nothing()),
        }
    }

    /// What the store's own tool shows of the object here, where it is OSS.
    #[cfg_attr(not(feature = "oss"), expect(unused_variables, reason = "no other store has such a tool"))]
    pub(crate) async fn shown_by_its_tool(&self, at: &StoreArgs) -> Result<BTreeMap<String, String>> {
        match self {
            #[cfg(feature = "oss")]
            Self::Remote(remote) if remote.scheme == Scheme::Oss => {
                let key = object_key(remote)?;
                Ok(open_oss(&format!("oss://{}", remote.bucket), at)?.stat(&key).await?)
            }
            _ => Ok(BTreeMap::new()),
        }
    }

    /// The object here, to be written; the store makes the directories it needs.
    pub(crate) async fn new_object(&self, at: &StoreArgs) -> Result<Object> {
        match self {
            Self::File(path) => {
                at.refuse_sse()?;
                let (dir, key) = split(path)?;
                if path.is_dir() {
                    return Err(Failure::new(
                        ErrorKind::InvalidInput,
                        format!("{0} is a directory: name the object in it, such as {0}/NAME", path.display()),
                    ));
                }
                Ok(Object { store: Arc::new(DirStore::open(dir)?), key })
            }
            Self::Remote(_) => self.object(at).await,
            Self::Discard => Ok(Object { store: Arc::new(DiscardStore::new()), key: "discarded".parse()? }),
        }
    }
}

impl Remote {
    /// The same as the beginning of the keys below it.
    pub(crate) fn as_folder(&self) -> Self {
        let mut folder = self.clone();
        if !folder.key.is_empty() && !folder.key.ends_with('/') {
            folder.key.push('/');
        }
        folder
    }

    /// The store this is in.
    pub(crate) async fn store(&self, at: &StoreArgs) -> Result<Arc<dyn MultipartStore>> {
        match self.scheme {
            Scheme::Oss => Ok(Arc::new(open_oss(&format!("oss://{}", self.bucket), at)?)),
            Scheme::S3 => open_s3(&format!("s3://{}", self.bucket), at).await,
        }
    }
}

#[cfg(feature = "s3")]
async fn open_s3(url: &str, at: &StoreArgs) -> Result<Arc<dyn MultipartStore>> {
    Ok(Arc::new(connect_s3(url, at).await?))
}

/// The bucket of S3 at `url`, with what flags, environment and configuration say of it.
#[cfg(feature = "s3")]
pub(crate) async fn connect_s3(url: &str, at: &StoreArgs) -> Result<sealift::store::S3Store> {
    at.refuse_sse()?;
    let place = configured(Scheme::S3, url)?;
    let mut builder: sealift::store::s3::S3Builder = url.parse()?;
    // What the environment says is found by the SDK, and goes before what is configured here.
    let configured = |value: Option<String>, names: &[&str]| value.filter(|_| variable(names).is_none());
    let endpoint = configured(place.endpoint, &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
    let region = configured(place.region, &["AWS_REGION", "AWS_DEFAULT_REGION"]);
    let profile = configured(place.profile, &["AWS_PROFILE", "AWS_ACCESS_KEY_ID"]);
    if let Some(endpoint) = at.endpoint.clone().or(endpoint) {
        builder = builder.endpoint(endpoint);
    }
    if let Some(region) = at.region.clone().or(region) {
        builder = builder.region(region);
    }
    if let Some(profile) = at.profile.clone().or(profile) {
        builder = builder.profile(profile);
    }
    Ok(builder.build().await?)
}

#[cfg(not(feature = "s3"))]
async fn open_s3(_: &str, _: &StoreArgs) -> Result<Arc<dyn MultipartStore>> {
    let message = "this program was built without S3";
    Err(Failure::new(ErrorKind::InvalidInput, message).hint("build it with `--features s3`"))
}

/// What the configuration file says of the bucket at `url`. Where it is, the URL of a ledger says itself.
#[cfg(any(feature = "oss", feature = "s3"))]
fn configured(scheme: Scheme, url: &str) -> Result<Place> {
    let (store, query) = url.split_once('?').unwrap_or((url, ""));
    let bucket = store.split_once("://").map_or(store, |(_, bucket)| bucket).trim_end_matches('/');
    let place = Config::read()?.place(scheme, bucket);
    Ok(if query.is_empty() { place } else { Place { endpoint: None, region: None, ..place } })
}

/// The bucket of OSS at `url`, with what flags, environment and configuration say of it.
#[cfg(feature = "oss")]
pub(crate) fn open_oss(url: &str, at: &StoreArgs) -> Result<sealift::store::OssStore> {
    let place = configured(Scheme::Oss, url)?;
    let mut builder: sealift::store::oss::Builder = url.parse()?;
    // A region that was given goes before an endpoint that was not.
    let or_env = |names: &[&str]| if at.region.is_none() { variable(names) } else { None };
    let is_ledgers = url.contains('?');
    let endpoint = at.endpoint.clone().or_else(|| or_env(&["OSS_ENDPOINT"]).filter(|_| !is_ledgers));
    let endpoint = endpoint.or_else(|| place.endpoint.filter(|_| at.region.is_none()));
    let region =
        at.region.clone().or_else(|| variable(&["OSS_REGION", "ALIBABA_CLOUD_REGION_ID"]).filter(|_| !is_ledgers));
    if let Some(endpoint) = endpoint {
        builder = builder.endpoint(endpoint);
    }
    if let Some(region) = region.or(place.region) {
        builder = builder.region(region);
    }
    let in_env = ["OSS_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_ID", "OSSUTIL_PROFILE"];
    let profile = at.profile.clone().or_else(|| place.profile.filter(|_| variable(&in_env).is_none()));
    Ok(builder.sse(at.sse.sse()?).from_env_and_files(profile.as_deref())?.build()?)
}

#[cfg(not(feature = "oss"))]
pub(crate) fn open_oss(_: &str, _: &StoreArgs) -> Result<DiscardStore> {
    let message = "this program was built without OSS";
    Err(Failure::new(ErrorKind::InvalidInput, message).hint("build it with `--features oss`"))
}

pub(crate) fn keeps_nothing() -> Failure {
    Failure::new(ErrorKind::InvalidInput, "`discard:` keeps nothing: it is only for `put`, to measure")
}

/// The store a ledger means by `url`.
pub(crate) async fn open(url: &str, at: &StoreArgs) -> Result<Arc<dyn MultipartStore>> {
    if url.starts_with("s3://") {
        return open_s3(url, at).await;
    }
    if url.starts_with("oss://") {
        return Ok(Arc::new(open_oss(url, at)?));
    }
    let location: Location = url.parse().map_err(|e: String| Error::new(ErrorKind::InvalidInput, e))?;
    match location {
        Location::File(dir) => Ok(Arc::new(DirStore::open(dir)?)),
        Location::Remote(remote) => remote.store(at).await,
        Location::Discard => Err(keeps_nothing()),
    }
}

/// What a user would write for the object `key` of that store.
pub(crate) fn object_url(store: &str, key: &str) -> String {
    // How a store of a cloud is reached, its URL says in a query.
    let store = if store.starts_with("file:") { store } else { store.split('?').next().unwrap_or(store) };
    match store.parse() {
        Ok(Location::File(dir)) => dir.join(key).display().to_string(),
        _ => format!("{}/{key}", store.trim_end_matches('/')),
    }
}

/// The key of an object, and not of what is a folder to those who look at the bucket.
pub(crate) fn object_key(remote: &Remote) -> Result<ObjectKey> {
    if remote.key.is_empty() || remote.key.ends_with('/') {
        let message = format!("{remote} names no object: end it with the object's name");
        return Err(Failure::new(ErrorKind::InvalidInput, message));
    }
    Ok(remote.key.parse()?)
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
