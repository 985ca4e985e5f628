//! In memory: the cipher alone, one part, the whole way of an upload, and small objects.

use std::hint::black_box;
use std::sync::{Arc, Mutex};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use sealift::crypto::{
    Backend, CHUNK, Opener, Primitive, SEALED_CHUNK, SEALED_STRIPE, STRIPE, STRIPE_CHUNKS, Sealer, TAG, crc64,
    open_message, seal_message,
};
use sealift::source::BytesSource;
use sealift::store::DiscardStore;
use sealift::{DataKey, Engine};

use super::bed::{Bed, on_threads};
use super::measure::{Against, Amount, Claim, Limits, Row};
use crate::args::Group;
use crate::exit::Result;

const ARITHMETIC: Limits = Limits { busy: "the CPU: AES rounds and GHASH", waiting: "cores that others took" };
const CONTEXT: &[u8] = b"sealift bench";
/// Seals of small messages in one turn.
const MESSAGES: u64 = 10_000;

/// Sealing and opening plaintext that is in memory already.
pub(super) fn rows<'a>(bed: &'a Bed, rows: &mut Vec<Row<'a>>, claims: &mut Vec<Claim>) -> Result {
    let bytes = Amount::Bytes(bed.plain.len() as u64);
    for &threads in &bed.threads {
        let row = |what: &str, name: &str, limits, work: Box<dyn FnMut() -> Result + 'a>| Row {
            group: Group::Memory,
            id: format!("memory/{what}/{threads}"),
            name: name.to_owned(),
            threads,
            amount: bytes,
            limits,
            work,
        };
        let primitives = (0..threads).map(|_| Primitive::new(bed.backend)).collect::<Result<Vec<_>, _>>()?;
        rows.push(row(
            "primitive",
            &format!("{} alone, 16 KiB a call", bed.backend),
            ARITHMETIC,
            Box::new(move || primitive(bed, &primitives)),
        ));
        rows.push(row("part", "one part sealed", ARITHMETIC, Box::new(move || part(bed, threads))));
        let engine = bed.engine(threads)?;
        let limits = Limits { busy: "the CPU: AES rounds and GHASH", waiting: "beginning and ending an upload" };
        rows.push(row("upload", "an upload, dropped", limits, Box::new(move || upload(bed, &engine))));
        let sealed = bed.sealed_part()?;
        rows.push(row("open", "one part opened", ARITHMETIC, Box::new(move || open(bed, &sealed, threads))));
        let id = |what: &str, threads: usize| vec![format!("memory/{what}/{threads}")];
        claims.push(Claim::of_rows(
            format!("one part sealed, {}: of the cipher alone", super::on(threads)),
            id("part", threads),
            id("primitive", threads),
            Some(0.95),
        ));
        for (what, about) in [("part", "sealing"), ("open", "opening")] {
            if threads > 1 {
                let about = format!("{about} on {threads} cores: of {threads} times one core");
                let claim = Claim::of_rows(about, id(what, threads), id(what, 1), Some(0.95));
                claims.push(Claim { times: threads as f64, ..claim });
            }
        }
    }
    rows.push(Row {
        group: Group::Memory,
        id: "memory/crc64/1".to_owned(),
        name: "CRC-64 alone, 16 KiB a call".to_owned(),
        threads: 1,
        amount: bytes,
        limits: Limits { busy: "the CPU, or memory", waiting: "cores that others took" },
        work: Box::new(move || {
            for chunk in bed.plain.chunks(CHUNK) {
                black_box(crc64(black_box(chunk)));
            }
            Ok(())
        }),
    });
    Ok(())
}

/// Messages and objects of a few KiB, where what counts is everything but the bytes.
pub(super) fn small<'a>(bed: &'a Bed, rows: &mut Vec<Row<'a>>, claims: &mut Vec<Claim>) -> Result {
    let key = Arc::new(DataKey::random()?);
    let (plain, backend) = (bed.plain.get(..1024).unwrap_or(&bed.plain), bed.backend);
    let sealed = seal_message(backend, &key, CONTEXT, plain)?;
    let keys = Limits { busy: "the CPU: deriving a key", waiting: "cores that others took" };
    let mut row = |id: &str, name: &str, threads, amount, limits, work: Box<dyn FnMut() -> Result + 'a>| {
        rows.push(Row {
            group: Group::Small,
            id: format!("small/{id}"),
            name: name.to_owned(),
            threads,
            amount,
            limits,
            work,
        });
    };
    let messages = Amount::Items(MESSAGES, "messages");
    let own = Arc::clone(&key);
    row(
        "seal-1k/1",
        "messages of 1 KiB sealed",
        1,
        messages,
        keys,
        Box::new(move || {
            (0..MESSAGES).try_for_each(|_| {
                black_box(seal_message(backend, &own, CONTEXT, plain)?);
                Ok(())
            })
        }),
    );
    row(
        "open-1k/1",
        "messages of 1 KiB opened",
        1,
        messages,
        keys,
        Box::new(move || {
            (0..MESSAGES).try_for_each(|_| {
                black_box(open_message(backend, &key, CONTEXT, &sealed)?);
                Ok(())
            })
        }),
    );
    let most = bed.most_threads();
    let objects = Limits {
        busy: "the CPU: an envelope, a manifest, and three keys for each object",
        waiting: "handing over between threads",
    };
    for (size, count, at_once) in [(1024, bed.objects / 5, 1), (4096, bed.objects, 64)] {
        let engine = bed.engine(most)?;
        let how = if at_once == 1 { "one by one" } else { "64 at once" };
        row(
            &format!("objects-{}k/{most}", size / 1024),
            &format!("objects of {} KiB, {how}, dropped", size / 1024),
            if at_once == 1 { 1 } else { most },
            Amount::Items(count, "objects"),
            objects,
            Box::new(move || put_objects(bed, &engine, size, count, at_once)),
        );
    }
    claims.push(Claim {
        about: "messages of 1 KiB sealed, 1 core: of 20,000 a second".to_owned(),
        mine: vec!["small/seal-1k/1".to_owned()],
        other: Against::Rate(20_000.0),
        times: 1.0,
        bar: Some(1.0),
    });
    Ok(())
}

fn put_objects(bed: &Bed, engine: &Engine, size: usize, count: u64, at_once: usize) -> Result {
    let plain = bed.plain.slice(..size.min(bed.plain.len()));
    let store = Arc::new(DiscardStore::new());
    bed.wait(async {
        stream::iter(0..count)
            .map(|n| {
                bed.put_into(engine, store.clone(), format!("object-{n}"), Box::new(BytesSource::new(plain.clone())))
            })
            .buffer_unordered(at_once)
            .try_collect::<Vec<_>>()
            .await
    })?;
    Ok(())
}

/// Each thread takes the next stripe, and seals it chunk by chunk into its own buffer.
fn primitive(bed: &Bed, primitives: &[Primitive]) -> Result {
    let stripes = Mutex::new(bed.plain.chunks_exact(STRIPE));
    on_threads(primitives.len(), |n| {
        let mut sealed = vec![0; SEALED_STRIPE];
        let Some(primitive) = primitives.get(n) else { return Ok(()) };
        while let Some(stripe) = next(&stripes) {
            for (plain, sealed) in stripe.chunks_exact(CHUNK).zip(sealed.chunks_exact_mut(SEALED_CHUNK)) {
                primitive.seal(plain, sealed)?;
            }
            black_box(&mut sealed);
        }
        Ok(())
    })
}

fn part(bed: &Bed, threads: usize) -> Result {
    let mut sealer = Sealer::begin(bed.backend, &bed.key, CONTEXT)?;
    let stripes = bed.plain.chunks_exact(STRIPE).map(|stripe| Ok((stripe, sealer.next_stripe()?)));
    let stripes = Mutex::new(stripes.collect::<Result<Vec<_>, sealift::Error>>()?.into_iter());
    on_threads(threads, |_| {
        let mut sealed = vec![0; SEALED_STRIPE];
        while let Some((stripe, mut sealer)) = next(&stripes) {
            sealer.seal(stripe, &mut sealed)?;
            black_box(&mut sealed);
        }
        Ok(())
    })?;
    let mut last = [0; TAG];
    sealer.next_stripe()?.seal_last(&[], &mut last)?;
    Ok(())
}

fn open(bed: &Bed, sealed: &[u8], threads: usize) -> Result {
    let (header, chunks) = sealed.split_first_chunk().unwrap_or((&[0; 56], &[]));
    let opener = Opener::begin(bed.backend, &bed.key, CONTEXT, header)?;
    let stripes = Mutex::new(chunks.chunks_exact(SEALED_STRIPE).zip(0..));
    on_threads(threads, |_| {
        let mut plain = vec![0; STRIPE];
        while let Some((stripe, n)) = next(&stripes) {
            opener.open(n * STRIPE_CHUNKS as u64, stripe, false, &mut plain)?;
            black_box(&mut plain);
        }
        Ok(())
    })
}

fn upload(bed: &Bed, engine: &Engine) -> Result {
    let source = Box::new(BytesSource::new(bed.plain.clone()));
    bed.wait(bed.put_into(engine, Arc::new(DiscardStore::new()), "object".to_owned(), source))
}

/// What [`open`] opens.
pub(super) fn seal_part(backend: Backend, key: &DataKey, plain: &[u8]) -> Result<Vec<u8>> {
    Ok(seal_message(backend, key, CONTEXT, plain)?)
}

fn next<I: Iterator>(items: &Mutex<I>) -> Option<I::Item> {
    items.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next()
}
