//! What can be asked for of an upload, and of one that is resumed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::control::{Cancel, OnCancel, ProgressCallback};
use crate::store::PutCondition;
use crate::types::EncryptionContext;
use crate::upload::RetryPolicy;

/// Whether what is uploaded is sealed: what protects it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protection {
    /// Encrypted and authenticated, for the recipients.
    #[default]
    Sealed,
    /// Stored as it is: an ordinary upload, with all its retries and resuming. **Whoever can read the store can read it, and whoever can
    /// write there can alter it unnoticed.**
    ///
    /// There are no recipients then, and nothing that only a sealed object has: no encryption context, no binding, no spool (which holds
    /// ciphertext only). The object's metadata says so, `sealift-unsealed`, and [`Engine::open`](super::Engine::open)
    /// refuses it;
    /// [`Engine::open_unsealed`](super::Engine::open_unsealed) reads it.
    Unsealed,
}

/// How an upload is done. The default is right for most.
#[derive(Clone)]
pub struct UploadOptions {
    /// Whether it is sealed.
    pub protection: Protection,
    /// Plaintext bytes of a part; grown so that the object fits the store's part limit. Default: 16 MiB.
    pub part_size: Option<u64>,
    /// Keeps all parts but the last at one length, for stores that want that.
    pub uniform_parts: bool,
    /// Records the CRC-64/XZ of every part's plaintext in the manifest and the ledger; of an unsealed object in the ledger only. It costs
    /// up to a quarter of the sealing speed.
    pub checksums: bool,
    /// Pairs that the key service authenticates, stored with the object in the clear.
    pub context: EncryptionContext,
    /// Binds the object to the bucket and key it is uploaded to: it cannot be served, nor renamed, to another.
    pub bind: bool,
    /// The caller's own metadata, stored in the clear. No name may begin with `sealift-`.
    pub metadata: BTreeMap<String, String>,
    /// Media type that the store shows for the object. Stored in the clear; says more of the plaintext than the sealed bytes do.
    pub content_type: Option<String>,
    /// The store's name for how it keeps the object, where it has several.
    pub storage_class: Option<String>,
    /// Tags for the store's own rules and bills, where it has them. Stored in the clear.
    pub tags: BTreeMap<String, String>,
    /// Whether an object that is there may be replaced.
    pub condition: PutCondition,
    /// Directory of the upload ledgers. Without one, or with a source that can be read only once or is no file, nothing can be resumed.
    pub ledger: Option<PathBuf>,
    /// Directory for parts of a source that can be read only once, where those are larger than a quarter of the memory budget.
    ///
    /// Such a part waits for the store on disk, sealed, in a file without a name that is gone when the part is stored or the process
    /// ends. The directory must have room for [`max_in_flight`](Self::max_in_flight) parts of the size that they grow to: about a
    /// sixteenth of what went before, and at most 5 GiB each.
    ///
    /// With it a source of unknown length may have 48.19 TiB (see [`PartPlan`](crate::upload::PartPlan)); without it, its parts grow to a quarter of the memory
    /// budget, 604 GiB in all with the default one and 2 threads (less with more), and one that announces more is refused.
    pub spool: Option<PathBuf>,
    /// What becomes of the parts of an upload that fails. Kept only where the upload can be resumed.
    pub on_failure: OnCancel,
    /// How failed requests are repeated.
    pub retry: RetryPolicy,
    /// How many parts are sent at once, as far as the memory budget allows.
    ///
    /// By default it is found out on the way: 8 at first, then more for as long as that makes it faster, at most 64. A store on this
    /// machine, and a [`spool`](Self::spool), get 8. A store that asks for fewer requests gets half as many, whatever is given here,
    /// and then step by step more again.
    pub max_in_flight: Option<u32>,
    /// Told how far it is.
    pub progress: Option<ProgressCallback>,
    /// Stops it.
    pub cancel: Cancel,
}

impl Default for UploadOptions {
    fn default() -> Self {
        Self {
            protection: Protection::Sealed,
            part_size: None,
            uniform_parts: false,
            checksums: false,
            context: EncryptionContext::default(),
            bind: false,
            metadata: BTreeMap::new(),
            content_type: None,
            storage_class: None,
            tags: BTreeMap::new(),
            condition: PutCondition::None,
            ledger: None,
            spool: None,
            on_failure: OnCancel::KeepForResume,
            retry: RetryPolicy::default(),
            max_in_flight: None,
            progress: None,
            cancel: Cancel::new(),
        }
    }
}

impl std::fmt::Debug for UploadOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UploadOptions").finish_non_exhaustive()
    }
}

/// How an upload is resumed. What the object is like was settled when it began.
#[derive(Clone)]
pub struct ResumeOptions {
    /// What the upload must have begun with. Its ledger says so too, but whoever altered that must not have plaintext sent.
    pub protection: Protection,
    /// As in [`UploadOptions`].
    pub on_failure: OnCancel,
    /// As in [`UploadOptions`].
    pub retry: RetryPolicy,
    /// As in [`UploadOptions`].
    pub max_in_flight: Option<u32>,
    /// Reads the parts that were stored again, and compares them with their checksums, which the upload must have
    /// [recorded](UploadOptions::checksums): for sources whose length and times do not tell whether they changed.
    pub verify_source: bool,
    /// As in [`UploadOptions`]. Parts that were stored before count as done.
    pub progress: Option<ProgressCallback>,
    /// As in [`UploadOptions`].
    pub cancel: Cancel,
}

impl Default for ResumeOptions {
    fn default() -> Self {
        let UploadOptions { on_failure, retry, max_in_flight, progress, cancel, .. } = UploadOptions::default();
        let protection = Protection::Sealed;
        Self { protection, on_failure, retry, max_in_flight, verify_source: false, progress, cancel }
    }
}

impl std::fmt::Debug for ResumeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResumeOptions").finish_non_exhaustive()
    }
}
