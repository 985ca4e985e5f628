//! Tests that need what the public API does not give: a salt of their choice, and single backends' primitives.

mod commitment;
mod primitives;
mod vectors;
