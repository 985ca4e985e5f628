//! What a store does, found out with objects of no importance.

use bytes::Bytes;
use futures::TryStreamExt as _;
use sealift::store::{CompletedPart, MultipartStore, Payload, Properties, PutCondition, PutPart, Upload};
use sealift::{Attempt, ByteRange, ETag, Error, ErrorKind, ObjectKey, PartNumber, Retry};

use super::store::Store;
use super::{Report, told};
use crate::exit::Result;
use crate::output;

/// Length of an object that is not about parts.
const LEN: usize = 20_000;
/// How much longer the first of two parts is, for stores that want them equal.
const LONGER: u64 = 50_000;

type Asked<T> = Result<T, Error>;

/// Objects below one temporary name, and what has to be removed again.
pub(super) struct Probe<'a> {
    of: &'a Store,
    store: &'a dyn MultipartStore,
    folder: String,
    written: Vec<ObjectKey>,
    begun: Vec<Upload>,
}

/// Whether there is any object whose key begins so.
pub(super) async fn first_below(store: &dyn MultipartStore, prefix: &str) -> Asked<bool> {
    let mut again = true;
    loop {
        match store.list(prefix).try_next().await {
            Ok(found) => return Ok(found.is_some()),
            Err(error) if again && error.retry() != Retry::No => again = false,
            Err(error) => return Err(error),
        }
    }
}

impl<'a> Probe<'a> {
    pub(super) fn new(of: &'a Store, folder: String) -> Self {
        Self { of, store: of.as_dyn(), folder, written: Vec::new(), begun: Vec::new() }
    }

    pub(super) async fn run(&mut self, report: &mut Report) -> Result {
        if self.objects(report).await? {
            self.conditions(report).await?;
            self.checksums(report).await?;
        }
        self.multipart(report).await?;
        self.abort(report).await
    }

    /// Removes what is still there, and says whether that works.
    pub(super) async fn remove(&mut self, report: &mut Report) -> Result {
        let mut failed = None;
        let mut left = Vec::new();
        for upload in std::mem::take(&mut self.begun) {
            if let Err(error) = self.store.abort(&upload).await {
                left.push(upload.key.to_string());
                failed = Some(error);
            }
        }
        let mut removed = 0_u32;
        for key in std::mem::take(&mut self.written) {
            match self.store.delete(&key).await {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    left.push(key.to_string());
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) => {
                let text = format!("{}; to be removed by somebody who may: {}", told(&error), left.join(", "));
                report.fail("delete", error.kind(), text)
            }
            None if removed > 0 => report.ok("delete", "objects can be removed; those of this check are gone"),
            None => Ok(()),
        }
    }

    fn key(&self, name: &str) -> Asked<ObjectKey> {
        format!("{}/{name}", self.folder).parse()
    }

    async fn put(
        &mut self,
        key: &ObjectKey,
        body: &Bytes,
        properties: &Properties,
        condition: PutCondition,
    ) -> Asked<ETag> {
        self.written.retain(|written| written != key);
        self.written.push(key.clone());
        self.store.put_object(key, Payload::held(vec![body.clone()]), properties, condition).await
    }

    async fn read(&self, key: &ObjectKey, range: Option<ByteRange>) -> Asked<Vec<u8>> {
        let got = self.store.get(key, range, None).await?;
        Ok(got.body.try_collect::<Vec<_>>().await?.concat())
    }

    /// Put, head and get. Whether there is an object now.
    async fn objects(&mut self, report: &mut Report) -> Result<bool> {
        let key = self.key("object")?;
        let body = noise(LEN as u64);
        // As much as the store says it takes.
        let (limits, name) = (self.store.limits(), "doctor");
        let room = limits.max_metadata.saturating_sub(name.len() + self.store.metadata_prefix_len());
        let metadata = [(name.to_owned(), "x".repeat(room))].into();
        let properties = Properties { metadata, ..Properties::default() };
        if let Err(error) = self.put(&key, &body, &properties, PutCondition::None).await {
            report.fail_with("put", &error)?;
            return Ok(false);
        }
        report.ok("put", "objects can be stored")?;
        match self.store.head(&key).await {
            Err(error) => report.fail_with("head", &error)?,
            Ok(info) if info.len != LEN as u64 => {
                let text =
                    format!("an object of {LEN} bytes is shown with {}: nothing here can be relied on", info.len);
                report.fail("head", ErrorKind::Io, text)?;
            }
            Ok(info) if info.properties.metadata != properties.metadata => {
                let why = "user metadata does not come back as it went: an object's wrapped key would be lost, and with it the object. \
                           Find out what changes it, the store or a proxy, before you store anything";
                report.fail("metadata", ErrorKind::Io, why)?;
            }
            Ok(_) => report.ok("metadata", format!("{} bytes of it come back as they went", limits.max_metadata))?,
        }
        match self.read(&key, None).await {
            Err(error) => report.fail_with("get", &error)?,
            Ok(read) if read != body => report.fail("get", ErrorKind::Io, "other bytes come back than were stored")?,
            Ok(_) => report.ok("get", "objects can be read")?,
        }
        match self.read(&key, Some(ByteRange::Inclusive { first: 100, last: 199 })).await {
            Err(error) => report.fail_with("range", &error)?,
            Ok(read) if body.get(100..200) != Some(read.as_slice()) => {
                report.fail(
                    "range",
                    ErrorKind::Io,
                    "a range is answered with other bytes: objects cannot be opened from here",
                )?;
            }
            Ok(_) => report.ok("range", "ranges can be read")?,
        }
        Ok(true)
    }

    /// What holds for `--if-not-exists` and for readers whose object is replaced.
    async fn conditions(&mut self, report: &mut Report) -> Result {
        let key = self.key("object")?;
        let again = self.put(&key, &noise(1), &Properties::default(), PutCondition::IfNotExists).await;
        match again.map_err(|error| (error.kind(), told(&error))) {
            Err((ErrorKind::AlreadyExists, _)) => report.ok("if-not-exists", "what is there is not replaced")?,
            Ok(_) => report.warn(
                "if-not-exists",
                "the store replaces what is there all the same: with --if-not-exists, two who write at once may both succeed",
            )?,
            Err((_, why)) => report.warn("if-not-exists", format!("the store does not take the condition: {why}"))?,
        }
        let other = ETag("0".repeat(32));
        match self.store.get(&key, None, Some(&other)).await.map_err(|error| error.kind()) {
            Err(ErrorKind::Changed) => report.ok("if-match", "a reader notices that its object was replaced"),
            _ => report.warn("if-match", "the store does not compare ETags; readers notice by authentication only"),
        }
    }

    #[cfg_attr(
        not(any(feature = "oss", feature = "s3")),
        allow(unused_variables, reason = "a directory compares none")
    )]
    async fn checksums(&mut self, report: &mut Report) -> Result {
        match self.of {
            Store::Dir(_) => Ok(()),
            #[cfg(feature = "s3")]
            Store::S3(store) => {
                let key = self.key("checksum")?;
                self.written.push(key.clone());
                match store.compares_checksums(&key).await {
                    Ok(true) => {
                        report.ok("checksums", "the store refuses what does not have the checksum it came with")
                    }
                    Ok(false) => report
                        .warn("checksums", "the store ignores CRC-32C; sealed bytes are authenticated all the same"),
                    Err(error) => report.warn("checksums", told(&error)),
                }
            }
            #[cfg(feature = "oss")]
            Store::Oss(store) => {
                let key = self.key("checksum")?;
                self.written.push(key.clone());
                let (payload, none) = (Payload::held(vec![noise(100)]), Properties::default());
                match store.put_whole_object(&key, payload, &none, PutCondition::None).await {
                    Ok(answer) if answer.crc64().is_some() => report
                        .ok("checksums", "OSS tells the CRC-64 of what it stored, and it is that of what was sent"),
                    Ok(_) => report.warn("checksums", "the answer has no CRC-64 to compare: this may not be OSS"),
                    Err(error) => report.fail_with("checksums", &error),
                }
            }
        }
    }

    async fn begin(&mut self, name: &str) -> Asked<Upload> {
        let key = self.key(name)?;
        let id = self.store.initiate(&key, &Properties::default()).await?;
        let upload = Upload { key, id };
        self.begun.push(upload.clone());
        Ok(upload)
    }

    /// Stores parts of these lengths.
    async fn parts(&self, upload: &Upload, lens: &[u64]) -> Asked<Vec<CompletedPart>> {
        let mut parts = Vec::new();
        let (mut number, mut offset) = (Some(PartNumber::MIN), 0);
        for len in lens {
            let Some(this) = number else { break };
            let payload = Payload::held(vec![noise(*len)]);
            let part = PutPart { number: this, attempt: Attempt(1), offset: Some(offset), payload };
            parts.push(CompletedPart { number: this, etag: self.store.put_part(upload, part).await? });
            offset += len;
            number = this.next();
        }
        Ok(parts)
    }

    async fn complete(&mut self, upload: &Upload, parts: &[CompletedPart]) -> Asked<()> {
        self.store.complete(upload, parts, PutCondition::None).await?;
        self.begun.retain(|begun| begun != upload);
        self.written.push(upload.key.clone());
        Ok(())
    }

    /// An upload whose parts have different lengths, and one whose parts are short.
    async fn multipart(&mut self, report: &mut Report) -> Result {
        let upload = match self.begin("upload").await {
            Ok(upload) => upload,
            Err(error) => return report.fail_with("initiate", &error),
        };
        report.ok("initiate", "uploads can be begun")?;
        let min = self.store.limits().min_part.max(100_000);
        let lens = [min + LONGER, min, 1_000];
        let parts = match self.parts(&upload, &lens).await {
            Ok(parts) => parts,
            Err(error) => return report.fail_with("upload-part", &error),
        };
        report.ok("upload-part", "parts can be stored")?;
        match self.store.list_parts(&upload).await {
            Err(error) => report.fail_with("list-parts", &error)?,
            Ok(listed) if listed.iter().map(|part| part.len).ne(lens) => {
                let why = "the store does not list the parts that it stored: uploads cannot be resumed there";
                report.fail("list-parts", ErrorKind::Io, why)?;
            }
            Ok(_) => report.ok("list-parts", "stored parts are listed, so uploads can be resumed")?,
        }
        match self.store.list_uploads(&self.folder).await {
            Err(error) => report.warn("list-uploads", format!("`uploads reap URL` needs it: {}", told(&error)))?,
            Ok(listed) if !listed.contains(&upload) => {
                report.warn(
                    "list-uploads",
                    "the store does not list an upload in progress: `uploads reap URL` finds none",
                )?;
            }
            Ok(_) => report.ok("list-uploads", "uploads in progress are listed, so what was forgotten can be found")?,
        }
        let completed = self.complete(&upload, &parts).await;
        if let Err(error) = completed {
            return self.equal_parts(error, min, report).await;
        }
        let border = ByteRange::Inclusive { first: lens[0] - 1, last: lens[0] };
        let expected = [noise(lens[0]).last().copied(), noise(lens[1]).first().copied()];
        match self.read(&upload.key, Some(border)).await {
            Err(error) => return report.fail_with("complete", &error),
            Ok(read) if read.iter().map(|byte| Some(*byte)).ne(expected) => {
                return report.fail("complete", ErrorKind::Io, "the object is not made of its parts in their order");
            }
            Ok(_) => report.ok("complete", "uploads can be completed, and their parts may have different lengths")?,
        }
        self.short_parts(report).await
    }

    /// Completing failed: perhaps only because parts had different lengths.
    async fn equal_parts(&mut self, error: Error, min: u64, report: &mut Report) -> Result {
        let tried = async {
            let upload = self.begin("equal").await?;
            let parts = self.parts(&upload, &[min, min, 1_000]).await?;
            self.complete(&upload, &parts).await
        };
        match tried.await {
            Ok(()) => report.warn("complete", "all parts but the last must have one length here: give --uniform-parts"),
            Err(_) => report.fail_with("complete", &error),
        }
    }

    async fn short_parts(&mut self, report: &mut Report) -> Result {
        let min = self.store.limits().min_part;
        if min <= 1_000 {
            return report.ok("part-size", "parts may be as short as you like");
        }
        let tried = async {
            let upload = self.begin("short").await?;
            let parts = self.parts(&upload, &[1_000, 1_000]).await?;
            self.complete(&upload, &parts).await
        };
        match tried.await {
            Ok(()) => report.ok("part-size", format!("shorter parts than {} are taken, too", output::bytes(min))),
            Err(error) if error.kind() == ErrorKind::LimitExceeded => {
                report.ok("part-size", format!("parts have at least {}, as documented", output::bytes(min)))
            }
            Err(error) => {
                report.warn("part-size", format!("short parts are refused in a way of its own: {}", told(&error)))
            }
        }
    }

    async fn abort(&mut self, report: &mut Report) -> Result {
        let upload = match self.begin("aborted").await {
            Ok(upload) => upload,
            // Said already.
            Err(_) => return Ok(()),
        };
        // Where no part can be stored, that is said already.
        let _ = self.parts(&upload, &[1_000]).await;
        if let Err(error) = self.store.abort(&upload).await {
            return report.fail_with("abort", &error);
        }
        self.begun.retain(|begun| *begun != upload);
        match self.store.list_parts(&upload).await {
            Ok(parts) if !parts.is_empty() => {
                let why = "parts are still there after an abort, and cost money: look for a rule of the bucket that removes them";
                report.fail("abort", ErrorKind::Io, why)
            }
            _ => report.ok("abort", "uploads can be given up, and leave nothing"),
        }
    }
}

/// Bytes that compress badly, the same for the same length: xorshift64.
fn noise(len: u64) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ len;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
    bytes.into()
}
