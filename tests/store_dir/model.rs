//! Any sequence of operations, against the simplest store there is.

use proptest::prelude::*;
use sealift::ByteRange;
use sealift::store::{Limits, MemoryStore};

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Put { key: usize, seed: u64, len: usize, new: bool },
    Upload { key: usize, seed: u64, lens: Vec<usize>, places: u8, abort: bool },
    Copy { from: usize, to: usize, new: bool },
    Delete { key: usize },
    Get { key: usize, range: Option<ByteRange> },
}

const KEYS: [&str; 6] = ["a", "a.b", "b-", "b/c", "b/d/e", "b/d.e"];

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..KEYS.len();
    let range = prop_oneof![
        (0_u64..300, 0_u64..300).prop_map(|(a, b)| ByteRange::Inclusive { first: a.min(b), last: a.max(b) }),
        (0_u64..300).prop_map(ByteRange::From),
        (0_u64..300).prop_map(ByteRange::Suffix),
    ];
    prop_oneof![
        (key(), any::<u64>(), 0_usize..200, any::<bool>()).prop_map(|(key, seed, len, new)| Op::Put {
            key,
            seed,
            len,
            new
        }),
        (key(), any::<u64>(), prop::collection::vec(0_usize..90, 1..5), any::<u8>(), any::<bool>())
            .prop_map(|(key, seed, lens, places, abort)| Op::Upload { key, seed, lens, places, abort }),
        (key(), key(), any::<bool>()).prop_map(|(from, to, new)| Op::Copy { from, to, new }),
        key().prop_map(|key| Op::Delete { key }),
        (key(), prop::option::of(range)).prop_map(|(key, range)| Op::Get { key, range }),
    ]
}

/// Does it, and tells what came of it, but for ETags.
async fn apply(store: &dyn MultipartStore, op: &Op) -> Result<Vec<u8>, ErrorKind> {
    let condition = |new| if new { PutCondition::IfNotExists } else { PutCondition::None };
    let name = |i: &usize| key(KEYS[*i]);
    let done = async {
        match op {
            Op::Put { key, seed, len, new } => {
                let (body, properties) = object(*seed, *len);
                store.put_object(&name(key), held(&body), &properties, condition(*new)).await?;
            }
            Op::Upload { key, seed, lens, places, abort } => {
                let (body, properties) = object(*seed, lens.iter().sum());
                let upload = Upload { key: name(key), id: store.initiate(&name(key), &properties).await? };
                let mut parts = Vec::new();
                let mut start = 0;
                for (i, len) in lens.iter().enumerate() {
                    let number = PartNumber::try_from(i as u32 + 1)?;
                    let offset = (places >> i & 1 == 0).then_some(start as u64);
                    let payload = held(&body.slice(start..start + len));
                    let etag =
                        store.put_part(&upload, PutPart { number, attempt: Attempt(1), offset, payload }).await?;
                    parts.push(CompletedPart { number, etag });
                    start += len;
                }
                match abort {
                    true => store.abort(&upload).await?,
                    false => drop(store.complete(&upload, &parts, PutCondition::None).await?),
                }
            }
            Op::Copy { from, to, new } => drop(store.copy(&name(from), &name(to), condition(*new)).await?),
            Op::Delete { key } => store.delete(&name(key)).await?,
            Op::Get { key, range } => {
                let got = store.get(&name(key), *range, None).await?;
                let (range, info) = (got.range, got.info);
                let pieces: Vec<Bytes> = got.body.try_collect().await?;
                let told = format!("{range:?} of {} {:?}: {:?}", info.len, info.properties, pieces.concat());
                return Ok(told.into_bytes());
            }
        }
        Ok(Vec::new())
    };
    done.await.map_err(|error: sealift::Error| error.kind())
}

#[tokio::test]
async fn an_empty_part_may_lie_behind_one_with_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::open(dir.path()).unwrap();
    let upload = Op::Upload { key: 0, seed: 0, lens: vec![0, 1, 0], places: 0b010, abort: false };
    assert_eq!(apply(&store, &upload).await, Ok(Vec::new()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn behaves_as_a_map_in_memory(ops in prop::collection::vec(op(), 1..25)) {
        let dir = tempfile::tempdir().unwrap();
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let store = DirStore::open(dir.path()).unwrap();
            let model = MemoryStore::with_limits(Limits { min_part: 0, ..store.limits() });
            for op in &ops {
                prop_assert_eq!(apply(&store, op).await, apply(&model, op).await, "{:?}", op);
            }
            prop_assert_eq!(listed(&store).await, listed(&model).await);
            prop_assert_eq!(store.list_uploads("").await.unwrap(), []);
            Ok(())
        })?;
    }
}

async fn listed(store: &dyn MultipartStore) -> Vec<(ObjectKey, u64)> {
    store.list("").map_ok(|object| (object.key, object.len)).try_collect().await.unwrap()
}
