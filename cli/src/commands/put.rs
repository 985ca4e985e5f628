//! `put`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sealift::engine::{OnCancel, Protection, UploadOptions, Uploaded};
use sealift::store::{MultipartStore, PutCondition};
use sealift::{EncryptionContext, Error, ErrorKind, ObjectKey};
use serde::Serialize;

use crate::args::{Checksum, Keys, Output, Put};
use crate::exit::{Failure, Result};
use crate::home::Home;
use crate::interrupt::Interrupts;
use crate::output::{self, Encryption, Recipient};
use crate::url::Location;
use crate::{keys, source};

pub(crate) async fn put(args: Put, verbose: u8) -> Result {
    let engine = args.engine.engine()?;
    refuse_onto_itself(&args.source, &args.url)?;
    let source = source::open(&args.source, args.read_mode, args.engine.backend.unwrap_or_default()).await?;
    let object = args.url.new_object(&args.store.clone().with(args.sse.clone())).await?;
    if args.if_not_exists && object.store.head(&object.key).await.is_ok() {
        // Better known now than after the last byte, when the store looks again.
        return Err(Failure::new(ErrorKind::AlreadyExists, format!("{} exists already", args.url)));
    }
    let home = Home::find()?;
    let recipients = keys::recipients(&args, &home)?;
    // Until here a signal ends the program as it ends any other: there is nothing yet to end cleanly.
    let interrupts = Interrupts::listen()?;
    let bar = args.output.bar(verbose);
    let on_failure = on_failure(args.abort_on_interrupt);
    let options = UploadOptions { progress: bar.callback(), ..options(&args, &home)? };
    let cancel = options.cancel.clone();
    let asks_for_encryption = args.sse.algorithm.is_some() || args.url.is_in_oss();
    let written = asks_for_encryption.then(|| (Arc::clone(&object.store), object.key.clone()));
    let upload = engine.upload(object.store, object.key, source, &recipients, options);
    let done = interrupts.cancelling(&cancel, on_failure, upload).await;
    let took = bar.finish();
    let uploaded = done.map_err(|e| {
        // The one limit that this flag lifts; the others have nothing to do with it.
        let lacks_spool = e.kind() == ErrorKind::LimitExceeded && e.to_string().contains("a spool directory");
        let failure = kept(e, &args.kms_key, &args.key_file, args.sealing.no_seal);
        if lacks_spool {
            failure.hint("--spool-dir DIR, on a disk with room for 8 parts, or --memory-budget")
        } else {
            failure
        }
    })?;
    let encryption = match written {
        Some((store, key)) => encryption(store.as_ref(), &key).await,
        None => None,
    };
    report(&uploaded, args.url.to_string(), took, encryption, &args.output)
}

/// How it is uploaded.
pub(crate) fn options(args: &Put, home: &Home) -> Result<UploadOptions> {
    Ok(UploadOptions {
        protection: if args.sealing.no_seal { Protection::Unsealed } else { Protection::Sealed },
        part_size: args.part_size,
        uniform_parts: args.uniform_parts,
        checksums: args.checksum == Checksum::Crc64,
        context: EncryptionContext::new(args.encryption_context.iter().cloned())?,
        bind: args.bind,
        metadata: args.metadata.iter().cloned().collect(),
        content_type: args.content_type.clone(),
        storage_class: args.storage_class.clone(),
        tags: args.tag.iter().cloned().collect(),
        condition: if args.if_not_exists { PutCondition::IfNotExists } else { PutCondition::None },
        ledger: Some(home.uploads()),
        spool: args.spool_dir.clone(),
        max_in_flight: args.concurrency,
        on_failure: on_failure(args.abort_on_interrupt),
        ..UploadOptions::default()
    })
}

/// What reports call the cipher of an object.
pub(crate) fn cipher(protection: Protection) -> &'static str {
    match protection {
        Protection::Sealed => output::COBBLESTONE_256,
        Protection::Unsealed => output::NOT_SEALED,
    }
}

pub(crate) fn on_failure(abort: bool) -> OnCancel {
    if abort { OnCancel::Abort } else { OnCancel::KeepForResume }
}

/// `error`, with the command that goes on with what was kept, or that removes it where nothing can.
pub(crate) fn kept(error: Error, kms_keys: &[String], key_files: &[PathBuf], no_seal: bool) -> Failure {
    let Some(id) = error.resumable().map(str::to_owned) else {
        return Failure::from(error).hint_if(ErrorKind::Cancelled, "nothing of it was kept");
    };
    match error.kind() {
        // Going on cannot help.
        ErrorKind::SourceChanged | ErrorKind::AlreadyExists => Failure::from(error)
            .hint(format!("what was uploaded is still there; to remove it: sealift uploads abort {id}")),
        _ => Failure::from(error).hint(format!(
            "what was uploaded is kept; to go on: sealift uploads resume {id}{}{}",
            if no_seal { " --no-seal" } else { "" },
            Keys::reading_arguments(kms_keys, key_files)
        )),
    }
}

/// What the store says of how it encrypts what was just uploaded.
async fn encryption(store: &dyn MultipartStore, key: &ObjectKey) -> Option<Encryption> {
    match store.head(key).await {
        Ok(info) => info.encryption.map(Encryption::from),
        Err(error) => {
            // The object is there, whole: this is no reason to fail.
            tracing::warn!(%error, "the store did not say how it encrypts the object");
            None
        }
    }
}

/// Tells what was uploaded.
pub(crate) fn report(
    uploaded: &Uploaded,
    url: String,
    took: Duration,
    encryption: Option<Encryption>,
    output: &Output,
) -> Result {
    let result = Report {
        url,
        object_id: uploaded.object_id.to_string(),
        etag: &uploaded.etag.0,
        plain_len: uploaded.plain_len,
        sealed_len: uploaded.sealed_len,
        parts: uploaded.parts,
        cipher: cipher(uploaded.protection),
        data_keys: output::recipients(&uploaded.data_keys),
        encryption,
        seconds: took.as_secs_f64(),
        bytes_per_second: output::rate(uploaded.plain_len, took),
    };
    output.done(&result, || {
        let did = match uploaded.protection {
            Protection::Sealed => "Sealed",
            Protection::Unsealed => "Stored, NOT sealed,",
        };
        format!("{did} {} into {}", output::bytes_in(uploaded.plain_len, took), result.url)
    })
}

#[derive(Serialize)]
struct Report<'a> {
    url: String,
    object_id: String,
    etag: &'a str,
    plain_len: u64,
    sealed_len: u64,
    parts: u32,
    cipher: &'static str,
    data_keys: Vec<Recipient>,
    /// On the store's side.
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption: Option<Encryption>,
    seconds: f64,
    bytes_per_second: u64,
}

/// Sealing a file over itself would end well, but lose the plaintext; nobody means that.
pub(crate) fn refuse_onto_itself(source: &Path, url: &Location) -> Result {
    let Location::File(dest) = url else { return Ok(()) };
    let same = match (fs::metadata(source), fs::metadata(dest)) {
        (Ok(source), Ok(dest)) => source.is_file() && (source.dev(), source.ino()) == (dest.dev(), dest.ino()),
        _ => false,
    };
    if !same {
        return Ok(());
    }
    let message = format!(
        "{} and {} are the same file: sealing it would replace the plaintext",
        source.display(),
        dest.display()
    );
    Err(Failure::new(ErrorKind::InvalidInput, message).hint("store the object elsewhere, or under another name"))
}
