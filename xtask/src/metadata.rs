//! What `cargo metadata` knows of the workspace.

use std::path::PathBuf;

use serde_json::Value;

use crate::Result;
use crate::steps::{cargo, output};

pub(crate) struct Metadata(Value);

impl Metadata {
    /// Of the workspace and all dependencies in the lock file, which must be up to date.
    pub(crate) fn read() -> Result<Self> {
        let json = output(&mut cargo("metadata --format-version 1 --all-features --locked"))?;
        let value = serde_json::from_slice(&json).map_err(|error| format!("cannot read cargo's metadata: {error}"))?;
        Ok(Self(value))
    }

    pub(crate) fn target_directory(&self) -> PathBuf {
        self.0["target_directory"].as_str().unwrap_or("target").into()
    }

    /// The packages of the workspace.
    pub(crate) fn members(&self) -> impl Iterator<Item = Package<'_>> {
        self.packages().filter(|package| package.0["source"].is_null())
    }

    /// The packages of the workspace and all dependencies.
    pub(crate) fn packages(&self) -> impl Iterator<Item = Package<'_>> {
        self.0["packages"].as_array().into_iter().flatten().map(Package)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Package<'a>(&'a Value);

impl<'a> Package<'a> {
    pub(crate) fn name(self) -> &'a str {
        self.0["name"].as_str().unwrap_or_default()
    }

    pub(crate) fn version(self) -> &'a str {
        self.0["version"].as_str().unwrap_or_default()
    }

    /// The oldest Rust it says it builds with.
    pub(crate) fn rust_version(self) -> Option<&'a str> {
        self.0["rust_version"].as_str()
    }

    pub(crate) fn has_benches(self) -> bool {
        let targets = self.0["targets"].as_array().into_iter().flatten();
        let mut kinds = targets.flat_map(|target| target["kind"].as_array().into_iter().flatten());
        kinds.any(|kind| kind == "bench")
    }
}
