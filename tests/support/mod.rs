//! What several test files share.

use std::path::{Path, PathBuf};

/// A Python that has what `tests/requirements.txt` asks for.
///
/// # Panics
/// If it is not there yet.
pub(crate) fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the directory is inside target/");
    let python = target.join("test-venv/bin/python");
    assert!(python.exists(), "run `cargo xtask setup` first: it installs tests/requirements.txt into target/test-venv");
    python
}
