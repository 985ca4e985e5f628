//! The machine against its model, and the cases that deserve a name.

mod courses;
mod failures;
mod plans;
mod stopping;

use super::model::{Model, Setup};
use super::*;
use crate::error::Retry;
use crate::types::{Attempt, ETag, PartNumber};

const MIB: u64 = 1 << 20;

fn part(n: u32) -> PartNumber {
    n.try_into().unwrap()
}

fn put(upload_part: u32, attempt: u32) -> Op {
    Op::Put { upload_part: part(upload_part), attempt: Attempt(attempt) }
}

fn model(change: impl FnOnce(&mut Setup)) -> Model {
    let mut setup = Setup::small();
    change(&mut setup);
    Model::new(setup).expect("the machine takes this setup")
}

fn completed() -> Outcome {
    Outcome::Completed(ETag("object".into()))
}
