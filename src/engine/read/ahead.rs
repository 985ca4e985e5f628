//! Spans of an object, several being fetched at a time within the memory budget, and handed over in order.

use std::ops::Range;
use std::sync::Arc;

use futures::stream::{self, FuturesOrdered, Stream, TryStreamExt as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::engine::Shared;
use crate::engine::retries::Retries;
use crate::error::{Error, ErrorKind, Result};
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
/// span take two; `fetch` gets the credits with the span, and gives back those for what is still in memory, which come with it.
///
/// How many are fetched at once is found out on the way, unless the store is on this machine or the caller has said it.
/// Only while a quarter of the budget is free is a span fetched with credits that its reader keeps until it takes the bytes. Where that is
/// short, what is awaited is fetched a stripe at a time by a task of its own, whose credits are back when it is done. So readers that
/// nobody polls keep others from being fast, not from going on.
pub(super) fn in_order<S, T, F>(
    shared: Arc<Shared>,
    retries: Arc<Retries>,
    flow: Flow,
    range: Range<u64>,
    twice: u32,
    next: impl Fn(Range<u64>, u32) -> Option<S> + Clone + Send,
    fetch: impl Fn(S, OwnedSemaphorePermit) -> F + Clone + Send + 'static,
) -> impl Stream<Item = Result<(T, Option<OwnedSemaphorePermit>)>> + Send
where
    S: Fetchable + Send + 'static,
    T: Send + 'static,
    F: Future<Output = Result<(T, OwnedSemaphorePermit)>> + Send,
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
                let credits = buffers.spare_credits(cost(&span));
                if credits.is_none() {
                    let Some(short) = next(at..end, 1).filter(|_| in_flight.is_empty()) else { break };
                    span = short;
                }
                let take = span.take();
                at += take;
                let (shared, fetch) = (Arc::clone(&shared), fetch.clone());
                in_flight.push_back(async move {
                    let Some(credits) = credits else {
                        let cost = cost(&span);
                        let alone = async move {
                            let credits = shared.buffers.credits(cost).await?;
                            let fetching = fetch(span, credits);
                            Ok(fetching.await?.0)
                        };
                        return Ok((take, (in_a_task(alone).await?, None)));
                    };
                    let (fetched, credits) = fetch(span, credits).await?;
                    Ok((take, (fetched, Some(credits))))
                });
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

/// Does `work` whether or not anybody polls the future, until that is dropped.
async fn in_a_task<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let mut task = JoinSet::new();
    task.spawn(work);
    let died = || Error::new(ErrorKind::Internal, "a task that fetches a span died");
    task.join_next().await.ok_or_else(died)?.map_err(|e| died().with_source(e))?
}
