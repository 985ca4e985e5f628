//! A network between a key service's client and its server, which fails when the conformance suite says so.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use sealift::kms::conformance::{Fault, Network};

use crate::proxy::{self, Proxy};

/// Passes everything on, but what is to fail.
pub(crate) struct BadNetwork {
    proxy: Proxy,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    counted: Mutex<usize>,
}

/// What a server answers, status line and all, for what it can say itself.
#[derive(Clone, Copy)]
pub(crate) struct Answers {
    pub(crate) throttled: &'static str,
    pub(crate) unavailable: &'static str,
}

impl BadNetwork {
    /// Before the server on a port here, in whose words it is busy or out of order.
    pub(crate) fn before(upstream: u16, answers: Answers) -> Self {
        let faults = Arc::new(Mutex::new(VecDeque::new()));
        let next = Arc::clone(&faults);
        let proxy = Proxy::before(upstream, move |_| match next.lock().unwrap().pop_front() {
            None => proxy::Fault::None,
            Some(Fault::Throttled) => proxy::Fault::Answer(answers.throttled.to_owned()),
            Some(Fault::Unavailable) => proxy::Fault::Answer(answers.unavailable.to_owned()),
            Some(Fault::Closed) => proxy::Fault::CutAnswer(0),
            Some(Fault::Hangs) => proxy::Fault::Hang,
        });
        Self { proxy, faults, counted: Mutex::new(0) }
    }

    pub(crate) fn url(&self) -> String {
        self.proxy.url()
    }
}

impl Network for BadNetwork {
    fn disturb(&self, faults: &[Fault]) {
        self.faults.lock().unwrap().extend(faults);
    }

    fn take_requests(&self) -> usize {
        let (seen, mut counted) = (self.proxy.seen().len(), self.counted.lock().unwrap());
        seen - std::mem::replace(&mut *counted, seen)
    }
}
