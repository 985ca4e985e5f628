//! The threads that do the CPU work, so that the async runtime only does I/O.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Sender, unbounded};
use tokio::sync::oneshot;

use crate::crypto::{SEALED_STRIPE, STRIPE, TAG};
use crate::error::{Error, ErrorKind, Result};

/// A worker's own memory: room for one stripe, read and sealed or opened in turn, again and again.
pub(crate) struct Scratch {
    /// [`STRIPE`] bytes.
    pub(crate) plain: Vec<u8>,
    /// A sealed stripe, and the empty chunk that may end a message after it.
    pub(crate) sealed: Vec<u8>,
}

impl Scratch {
    /// How many bytes it takes.
    pub(crate) const LEN: usize = STRIPE + SEALED_STRIPE + TAG;

    fn new() -> Self {
        Self { plain: vec![0; STRIPE], sealed: vec![0; SEALED_STRIPE + TAG] }
    }

    /// Just enough to read `plain` bytes into, for a job that is done where it is asked for.
    pub(crate) fn small(plain: usize) -> Self {
        Self { plain: vec![0; plain], sealed: Vec::new() }
    }
}

type Job = Box<dyn FnOnce(&mut Scratch) + Send>;

/// A fixed set of threads that take jobs in order. They end when this is dropped and the jobs already given are done.
///
/// With no threads, each job runs where it is handed over, so that a simulation always takes the same course.
pub(crate) struct Workers {
    jobs: Sender<Job>,
    threads: usize,
    inline: Mutex<Option<Scratch>>,
}

impl Workers {
    pub(crate) fn start(threads: usize) -> Result<Self> {
        // Unbounded, because memory credits already bound how many jobs there can be, and `DIRECT_STRIPES` those that take no memory.
        let (jobs, queue) = unbounded::<Job>();
        for n in 0..threads {
            let queue = queue.clone();
            std::thread::Builder::new()
                .name(format!("sealift-{n}"))
                .spawn(move || {
                    let mut scratch = Scratch::new();
                    for job in queue {
                        // A job that panics loses its own answer, which its caller notices; the thread lives on.
                        let _ = catch_unwind(AssertUnwindSafe(|| job(&mut scratch)));
                    }
                })
                .map_err(|e| Error::io("starting a worker thread", e))?;
        }
        Ok(Self { jobs, threads, inline: Mutex::default() })
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Runs what waits for the disk, away from the async runtime's own threads and from the sealing ones.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.threads == 0 {
            return work();
        }
        let died = |e| Error::new(ErrorKind::Internal, "a blocking task died").with_source(e);
        tokio::task::spawn_blocking(work).await.map_err(died)?
    }

    /// Hands `job` to the next free thread at once; the future is its answer. Dropping the future does not stop the job.
    pub(crate) fn run<T, F>(&self, job: F) -> impl Future<Output = Result<T>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut Scratch) -> Result<T> + Send + 'static,
    {
        let (answer, wait) = oneshot::channel();
        let sent = self.hand_over(Box::new(move |scratch| {
            if !answer.is_closed() {
                let _ = answer.send(job(scratch));
            }
        }));
        async move {
            sent?;
            wait.await.map_err(|_| lost())?
        }
    }

    fn hand_over(&self, job: Job) -> Result<()> {
        if self.threads == 0 {
            job(self.inline.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Scratch::new));
            return Ok(());
        }
        self.jobs.send(job).map_err(|_| lost())
    }
}

/// Answers of several jobs that are wanted together and in order: whoever waits is woken once, by the last.
pub(crate) struct Gather<T> {
    shared: Arc<Mutex<Gathered<T>>>,
    /// Its own share of what is awaited, so that nothing is complete before [`Gather::all`] is asked for.
    own: Option<Share<T>>,
    done: oneshot::Receiver<()>,
}

struct Gathered<T> {
    answers: Vec<Option<Result<T>>>,
    left: usize,
    done: Option<oneshot::Sender<()>>,
}

/// The place of one answer. Dropped without one, it stays empty, and is noticed.
struct Share<T> {
    shared: Arc<Mutex<Gathered<T>>>,
    index: usize,
}

impl<T: Send + 'static> Gather<T> {
    pub(crate) fn new() -> Self {
        let (sender, done) = oneshot::channel();
        let shared = Arc::new(Mutex::new(Gathered { answers: Vec::new(), left: 0, done: Some(sender) }));
        let own = Some(Share::claim(&shared));
        Self { shared, own, done }
    }

    /// Hands `job` to `workers`; its answer comes after those of the jobs before it.
    pub(crate) fn run(
        &mut self,
        workers: &Workers,
        job: impl FnOnce(&mut Scratch) -> Result<T> + Send + 'static,
    ) -> Result<()> {
        let share = Share::claim(&self.shared);
        workers.hand_over(Box::new(move |scratch| {
            if share.is_wanted() {
                let answer = job(scratch);
                share.give(answer);
            }
        }))
    }

    /// Takes an answer that is there already. It comes after those of the jobs before it.
    pub(crate) fn add(&mut self, answer: Result<T>) {
        Share::claim(&self.shared).give(answer);
    }

    /// All answers, or the first failure in the jobs' order.
    pub(crate) async fn all(mut self) -> Result<Vec<T>> {
        drop(self.own.take());
        let _ = (&mut self.done).await;
        let answers = std::mem::take(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner).answers);
        // The first place is its own.
        answers.into_iter().skip(1).map(|answer| answer.unwrap_or_else(|| Err(lost()))).collect()
    }
}

impl<T> Share<T> {
    fn claim(shared: &Arc<Mutex<Gathered<T>>>) -> Self {
        let mut gathered = shared.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.left += 1;
        gathered.answers.push(None);
        Self { index: gathered.answers.len() - 1, shared: Arc::clone(shared) }
    }

    /// Whether anybody still waits.
    fn is_wanted(&self) -> bool {
        let gathered = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.done.as_ref().is_some_and(|done| !done.is_closed())
    }

    fn give(self, answer: Result<T>) {
        let mut gathered = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = gathered.answers.get_mut(self.index) {
            *place = Some(answer);
        }
    }
}

impl<T> Drop for Share<T> {
    fn drop(&mut self) {
        let mut gathered = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.left -= 1;
        if gathered.left == 0
            && let Some(done) = gathered.done.take()
        {
            let _ = done.send(());
        }
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Internal, "a worker thread died")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panicking_job_fails_alone() {
        let workers = Workers::start(1).unwrap();
        let bad = workers.run(|_| -> Result<()> { panic!("on purpose") });
        let good = workers.run(|scratch| Ok(scratch.plain.len()));
        assert_eq!(bad.await.unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(good.await.unwrap(), STRIPE);
    }

    #[tokio::test]
    async fn answers_are_gathered_in_order_and_a_lost_one_is_noticed() {
        let workers = Workers::start(2).unwrap();
        let mut gather = Gather::new();
        for n in 0..50 {
            gather.run(&workers, move |_| Ok(n)).unwrap();
        }
        assert_eq!(gather.all().await.unwrap(), (0..50).collect::<Vec<_>>());
        assert!(Gather::<()>::new().all().await.unwrap().is_empty());

        let mut gather = Gather::new();
        gather.run(&workers, move |_| Ok(0)).unwrap();
        gather.add(Ok(1));
        gather.run(&workers, move |_| Ok(2)).unwrap();
        assert_eq!(gather.all().await.unwrap(), [0, 1, 2]);

        let mut gather = Gather::new();
        gather.run(&workers, |_| Ok(())).unwrap();
        gather.run(&workers, |_| panic!("on purpose")).unwrap();
        assert_eq!(gather.all().await.unwrap_err().kind(), ErrorKind::Internal);
    }
}
