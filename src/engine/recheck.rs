//! Reads again what an interrupted upload has stored, to see that the source still says the same.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::Shared;
use crate::crypto::{Crc64, STRIPE};
use crate::error::{Error, ErrorKind, Result};
use crate::source::ReadAt;
use crate::types::ETag;
use crate::upload::{PartPlan, SealedPart};

/// Compares the source with the checksums of the parts that were stored, all worker threads at once.
///
/// # Errors
/// [`SourceChanged`](ErrorKind::SourceChanged), naming the part.
pub(super) async fn recheck(
    shared: &Shared,
    source: &Arc<dyn ReadAt>,
    plan: &PartPlan,
    stored: &[(SealedPart, ETag)],
) -> Result<()> {
    let checks = stored.iter().map(|(part, _)| {
        let (source, part, offset) = (Arc::clone(source), *part, plan.offset(part.number));
        shared.workers.run(move |scratch| {
            let (mut crc, mut read) = (Crc64::new(), 0);
            while read < part.len {
                let len = (part.len - read).min(STRIPE as u64);
                crc.update(source.read_at(offset + read, len as usize, &mut scratch.plain)?);
                source.release(offset + read, len as usize);
                read += len;
            }
            if crc.value() == part.crc64 {
                return Ok(());
            }
            let message =
                "the source is not what it was when this part was uploaded: abort that upload, and upload it anew";
            Err(Error::new(ErrorKind::SourceChanged, message).with_part(part.number))
        })
    });
    stream::iter(checks).buffer_unordered(shared.workers.threads().max(1)).try_collect().await
}
