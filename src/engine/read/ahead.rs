//! Spans of an object, several being fetched at a time within the memory budget, and handed over in order.

use std::ops::Range;
use std::sync::Arc;

use futures::stream::{self, FuturesOrdered, Stream, TryStreamExt as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::engine::Shared;
use crate::engine::retries::Retries;
use crate::error::Result;
use crate::store::MultipartStore;
use crate::upload::Flow;

/// Stripes that one request fetches, if the memory budget allows: a whole part of the default size.
const SPAN_STRIPES: u32 = 16;
/// How few they become so that as many requests as are wanted have room. Powers of two divide a part evenly.
const SHORT_SPAN_STRIPES: u32 = 4;
/// The most spans of an object that are fetched at once where it is found out how many are worthwhile.
const MAX_SPANS: u32 = 32;
/// How many are fetched at once from a store on this machine, unless the caller says otherwise.
const LOCAL_SPANS: u32 = 8;

/// What one request fetches.
pub(super) trait Fetchable {
    /// Bytes of the object that it is.
    fn take(&self) -> u64;
    /// Stripes that it takes in memory.
    fn stripes(&self) -> u32;
}

/// How many are fetched at once: `max_in_flight`, or as many as are worthwhile.
pub(super) fn flow(store: &dyn MultipartStore, max_in_flight: Option<u32>) -> Flow {
    match max_in_flight {
        Some(fixed) => Flow::new(fixed.max(1), false),
        None if store.direct().is_some() => Flow::new(LOCAL_SPANS, false),
        None => Flow::new(MAX_SPANS, true),
    }
}

/// Fetches `range`. `next` cuts the next span, of at most so many stripes, from what is left. A stripe takes a credit, up to `twice` of a
/// span take two; the credits go with the span to `fetch`.
///
/// How many are fetched at once is found out on the way, unless the store is on this machine or the caller has said it.
/// Spans ahead of the one that is awaited are fetched only while a quarter of the budget is free, and where it is short, that one is a
/// single stripe: readers that nobody polls keep others from being fast, not from going on.
pub(super) fn in_order<S, T, F>(
    shared: Arc<Shared>,
    retries: Arc<Retries>,
    flow: Flow,
    range: Range<u64>,
    twice: u32,
    next: impl Fn(Range<u64>, u32) -> Option<S> + Clone + Send,
    fetch: impl Fn(S, OwnedSemaphorePermit) -> F + Clone + Send,
) -> impl Stream<Item = Result<T>> + Send
where
    S: Fetchable + Send,
    T: Send,
    F: Future<Output = Result<T>> + Send,
{
    let end = range.end;
    let most = (shared.held_stripes() / 2).saturating_sub(twice).clamp(1, SPAN_STRIPES);
    let cost = move |span: &S| span.stripes() + twice.min(span.stripes());
    let throttled = retries.throttled();
    stream::try_unfold((range.start, FuturesOrdered::new(), flow, throttled), move |state| {
        let (mut at, mut in_flight, mut flow, mut throttled) = state;
        let (shared, retries, next, fetch) = (Arc::clone(&shared), Arc::clone(&retries), next.clone(), fetch.clone());
        async move {
            let buffers = &shared.buffers;
            while in_flight.len() < flow.limit() as usize {
                let share = (buffers.spare() / flow.limit()).saturating_sub(twice).max(1);
                let stripes = (1 << share.ilog2()).max(SHORT_SPAN_STRIPES).min(most);
                let Some(mut span) = next(at..end, stripes) else { break };
                let credits = match buffers.spare_credits(cost(&span)) {
                    Some(credits) => credits,
                    None if !in_flight.is_empty() => break,
                    None => match buffers.free_credits(cost(&span)) {
                        Some(credits) => credits,
                        None => {
                            let Some(short) = next(at..end, 1) else { break };
                            span = short;
                            buffers.credits(cost(&span)).await?
                        }
                    },
                };
                let take = span.take();
                at += take;
                let fetching = fetch(span, credits);
                in_flight.push_back(async move { Ok((take, fetching.await?)) });
            }
            let Some((len, fetched)) = in_flight.try_next().await? else { return Ok(None) };
            let throttled_by_now = retries.throttled();
            if std::mem::replace(&mut throttled, throttled_by_now) == throttled_by_now {
                flow.stored(Instant::now().into_std(), len);
            } else {
                flow.failed(true, u32::try_from(in_flight.len()).unwrap_or(u32::MAX));
            }
            Ok(Some((fetched, (at, in_flight, flow, throttled))))
        }
    })
}
