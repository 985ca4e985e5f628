//! The stores that the user names: sealed there and back, beside the same client sending plaintext.

use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sealift::crypto::STRIPE;
use sealift::source::FileSource;
use sealift::store::{
    CompletedPart, DirStore, DiscardStore, MultipartStore, Payload, Properties, PutCondition, PutPart, Upload,
};
use sealift::{Attempt, ByteRange, Error, ErrorKind, PartNumber};

use super::bed::Bed;
use super::files::{get, places};
use super::measure::{Amount, Claim, Limits, Row};
use crate::args::{Group, StoreArgs};
use crate::exit::{Failure, Result};
use crate::url::Location;

const NETWORK: Limits =
    Limits { busy: "the CPU: sealing or opening, HTTP, and TLS", waiting: "the store and the way to it" };
/// Bytes of a part of plaintext, and how many are sent at once.
const PART: u64 = 16 << 20;
const AT_ONCE: usize = 8;

/// A store to be measured, and what is made in it.
pub(super) struct Target {
    url: String,
    store: Arc<dyn MultipartStore>,
    prefix: String,
    keeps: bool,
}

impl Target {
    pub(super) async fn open(url: &Location, at: &StoreArgs, unique: &str) -> Result<Self> {
        let (store, folder): (Arc<dyn MultipartStore>, _) = match url {
            Location::Discard => (Arc::new(DiscardStore::new()), String::new()),
            Location::File(dir) if dir.is_dir() => (Arc::new(DirStore::open(dir)?), String::new()),
            Location::File(dir) => {
                return Err(Failure::new(ErrorKind::NotFound, format!("there is no directory {}", dir.display())));
            }
            Location::Remote(remote) => (remote.store(at).await?, remote.as_folder().key),
        };
        let keeps = !matches!(url, Location::Discard);
        Ok(Self { url: url.to_string(), store, prefix: format!("{folder}sealift-bench-{unique}"), keeps })
    }

    /// Removes what was made here.
    pub(super) async fn clean(&self) -> Result {
        for what in ["read", "sealed", "plain"] {
            match self.store.delete(&self.key(what).parse()?).await {
                Err(e) if self.keeps && e.kind() != ErrorKind::NotFound => return Err(e.into()),
                _ => {}
            }
        }
        Ok(())
    }

    fn key(&self, what: &str) -> String {
        format!("{}-{what}", self.prefix)
    }
}

pub(super) fn rows<'a>(
    bed: &'a Bed,
    targets: &'a [Target],
    rows: &mut Vec<Row<'a>>,
    claims: &mut Vec<Claim>,
) -> Result {
    for (n, target) in (1..).zip(targets) {
        let most = bed.most_threads();
        let engine = bed.engine(most)?;
        let id = |what: &str| format!("url/{n}-{what}/{most}");
        let mut push = |what: &str, name: &str, amount, work: Box<dyn FnMut() -> Result + 'a>| {
            let name = format!("{name}, {}", target.url);
            rows.push(Row { group: Group::Url, id: id(what), name, threads: most, amount, limits: NETWORK, work });
        };
        let put_as = {
            let engine = engine.clone();
            move |what| {
                let source = Box::new(FileSource::open(bed.file())?);
                bed.wait(bed.put_into(&engine, Arc::clone(&target.store), target.key(what), source))
            }
        };
        let put_plain = move || bed.wait(put_plain(bed, target));
        let all = Amount::Bytes(bed.size);
        if target.keeps {
            // What is read back, before the first turn: a reader refuses what is replaced meanwhile, so that is an object of its own.
            put_as("read")?;
            put_plain()?;
        }
        push("put", "sealed", all, Box::new(move || put_as("sealed")));
        push("plain-put", "plaintext by the same client", all, Box::new(put_plain));
        let mut claim = |mine: &str, other: &str, about: &str| {
            let about = format!("{about}, {}: of the same client's plaintext", target.url);
            claims.push(Claim::of_rows(about, vec![id(mine)], vec![id(other)], Some(0.9)));
        };
        claim("put", "plain-put", "upload");
        if !target.keeps {
            continue;
        }
        claim("open", "plain-get", "download");
        claim("range", "plain-range", "range of 1 MiB");
        let reader = bed.wait(bed.open(&engine, Arc::clone(&target.store), &target.key("read")))?;
        let ranges = reader.clone();
        push(
            "open",
            "opened and dropped",
            all,
            Box::new(move || {
                bed.wait(reader.verify(None))?;
                Ok(())
            }),
        );
        push(
            "plain-get",
            "plaintext by the same client, dropped",
            all,
            Box::new(move || bed.wait(get_plain(bed, target))),
        );
        let few = 10;
        let range = Amount::Items(few, "ranges");
        let len = bed.size.min(STRIPE as u64);
        let places = move || places(bed.size, len).take(few as usize);
        let of = move |first| ByteRange::Inclusive { first, last: first + len - 1 };
        push(
            "range",
            "1 MiB authenticated",
            range,
            Box::new(move || {
                places().try_for_each(|first| {
                    black_box(bed.wait(ranges.read_range(of(first)))?);
                    Ok(())
                })
            }),
        );
        push(
            "plain-range",
            "1 MiB of plaintext",
            range,
            Box::new(move || {
                places().try_for_each(|first| {
                    black_box(bed.wait(get(target.store.as_ref(), &target.key("plain"), of(first)))?);
                    Ok(())
                })
            }),
        );
    }
    Ok(())
}

async fn put_plain(bed: &Bed, target: &Target) -> Result {
    let (store, key) = (&target.store, target.key("plain").parse()?);
    let upload = &Upload { id: store.initiate(&key, &Properties::default()).await?, key };
    let file = Arc::new(std::fs::File::open(bed.file()).map_err(|e| Error::io("opening the benchmark's file", e))?);
    let parts = (0..bed.size.div_ceil(PART)).map(|n| {
        let file = Arc::clone(&file);
        async move {
            let (offset, number) = (n * PART, PartNumber::try_from(u32::try_from(n + 1).unwrap_or(u32::MAX))?);
            let mut bytes = vec![0; PART.min(bed.size - offset) as usize];
            let read = tokio::task::spawn_blocking(move || file.read_exact_at(&mut bytes, offset).map(|()| bytes));
            let read = read.await.map_err(|e| Error::new(ErrorKind::Internal, "reading died").with_source(e))?;
            let bytes = read.map_err(|e| Error::io("reading the benchmark's file", e))?;
            let payload = Payload::held(vec![Bytes::from(bytes)]);
            let part = PutPart { number, attempt: Attempt(1), offset: Some(offset), payload };
            Ok::<_, Error>(CompletedPart { number, etag: store.put_part(upload, part).await? })
        }
    });
    let parts: Vec<_> = stream::iter(parts).buffered(AT_ONCE).try_collect().await?;
    store.complete(upload, &parts, PutCondition::None).await?;
    Ok(())
}

/// As many ranges at once as parts are sent.
async fn get_plain(bed: &Bed, target: &Target) -> Result {
    let key = target.key("plain").parse()?;
    let ranges = (0..bed.size.div_ceil(PART)).map(|n| {
        let (first, last) = (n * PART, bed.size.min((n + 1) * PART) - 1);
        let (store, key) = (&target.store, &key);
        async move {
            let mut body = store.get(key, Some(ByteRange::Inclusive { first, last }), None).await?.body;
            while let Some(bytes) = body.try_next().await? {
                black_box(bytes);
            }
            Ok::<_, Error>(())
        }
    });
    stream::iter(ranges).buffered(AT_ONCE).try_collect::<()>().await?;
    Ok(())
}
