//! Multipart uploads.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::types::{ChecksumType, CompletedMultipartUpload, CompletedPart as SdkPart};

use super::body::{outgoing, sent};
use super::checksum::{Stored, Sum};
use super::encoding::{etag, quoted};
use super::objects::{check_absent, content_length};
use super::properties::{Headers, modified};
use super::{MAX_PART, MIN_PART, S3Checksum, S3Store, listed_key};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::store::{CompletedPart, ListedUpload, Properties, PutCondition, PutPart, StoredPart, Upload};
use crate::types::{ETag, ObjectKey, PartNumber, UploadId};

/// How often an abort is repeated while parts go on arriving, before it is left to whoever retries.
const ABORTS: u32 = 4;

pub(super) async fn initiate(store: &S3Store, key: &ObjectKey, properties: &Properties) -> Result<UploadId> {
    let headers = Headers::new(properties)?;
    let request = store.request(format!("begin the upload of {}", store.name(key)));
    let algorithm = store.checksum.map(S3Checksum::algorithm);
    let create = || {
        let create = store.client.create_multipart_upload().bucket(&store.bucket).key(key.as_str());
        create
            .content_type(&headers.content_type)
            .set_metadata(Some(headers.metadata.clone()))
            .set_storage_class(headers.storage_class.clone())
            .set_tagging(headers.tagging.clone())
            // Of the whole object, so that Complete can compare it, and need not list the parts' again.
            .set_checksum_type(algorithm.as_ref().map(|_| ChecksumType::FullObject))
            .set_checksum_algorithm(algorithm.clone())
            .send()
    };
    let created = store.send(&request, store.patience.request, create).await?;
    let id = created.upload_id().filter(|id| !id.is_empty()).ok_or_else(|| request.lacks("upload id"))?;
    Ok(UploadId(id.to_owned()))
}

pub(super) async fn put_part(store: &S3Store, upload: &Upload, part: PutPart) -> Result<ETag> {
    check_id(upload)?;
    let PutPart { number, attempt: _, offset: _, payload } = part;
    let len = payload.len();
    if len > MAX_PART {
        let message = format!("{len} bytes; a part has at most {MAX_PART}");
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    let request = store.request(format!("store a part of {}", store.name(&upload.key)));
    let (sum, payload) = Sum::of(store.checksum, payload);
    let (body, failure) = outgoing(payload);
    let put = store
        .client
        .upload_part()
        .bucket(&store.bucket)
        .key(upload.key.as_str())
        .upload_id(&upload.id.0)
        .part_number(sdk_number(number))
        .content_length(content_length(len)?)
        .set_checksum_crc64_nvme(sum.header(S3Checksum::Crc64Nvme))
        .set_checksum_crc32_c(sum.header(S3Checksum::Crc32c))
        .set_checksum_algorithm(sum.by_sdk())
        .body(body);
    let allowed = store.patience.sending(len);
    let sending = async {
        match sum.by_sdk() {
            Some(_) => put.send().await,
            None => put.customize().disable_payload_signing().send().await,
        }
    };
    let answer = sent(&request, allowed, &failure, sending).await?;
    let stored = Stored { crc64_nvme: answer.checksum_crc64_nvme(), crc32c: answer.checksum_crc32_c() };
    let crc = sum.compare(&request, stored)?;
    let etag = etag(answer.e_tag().ok_or_else(|| request.lacks("ETag"))?);
    if let Some(crc) = crc {
        store.checksums.remember(&upload.id, &StoredPart { number, etag: etag.clone(), len }, crc);
    }
    Ok(etag)
}

pub(super) async fn complete(
    store: &S3Store,
    upload: &Upload,
    parts: &[CompletedPart],
    condition: PutCondition,
) -> Result<ETag> {
    complete_over(store, upload, parts, condition, None).await
}

/// The same, where `replaces` is the object that alone may be replaced. Stores that know no such condition do not mind it.
pub(super) async fn complete_over(
    store: &S3Store,
    upload: &Upload,
    parts: &[CompletedPart],
    condition: PutCondition,
    replaces: Option<&ETag>,
) -> Result<ETag> {
    CompletedPart::check_list(parts)?;
    check_id(upload)?;
    let is_new = condition == PutCondition::IfNotExists;
    let name = store.name(&upload.key);
    let request = store.request(format!("complete {name}")).if_absent(is_new).of_stored_parts();
    if is_new && let Err(error) = check_absent(store, &upload.key).await {
        return Err(explain(store, upload, parts, error).await);
    }
    let listed = parts
        .iter()
        .map(|part| SdkPart::builder().part_number(sdk_number(part.number)).e_tag(quoted(&part.etag)).build())
        .collect();
    let listed = CompletedMultipartUpload::builder().set_parts(Some(listed)).build();
    // Not that of parts which were copied: nobody sent them.
    let whole = store.checksum.and_then(|which| {
        let sum = store.checksums.of_all(&upload.id, parts, |a, b, len_b| which.combine(a, b, len_b))?;
        Some(Sum::Known(which, sum))
    });
    let whole = whole.unwrap_or(Sum::Unwanted);
    let complete = || {
        let complete = store.client.complete_multipart_upload().bucket(&store.bucket).key(upload.key.as_str());
        complete
            .upload_id(&upload.id.0)
            .multipart_upload(listed.clone())
            .set_checksum_type(whole.is_known().then_some(ChecksumType::FullObject))
            .set_checksum_crc64_nvme(whole.header(S3Checksum::Crc64Nvme))
            .set_checksum_crc32_c(whole.header(S3Checksum::Crc32c))
            .set_if_none_match(is_new.then(|| "*".to_owned()))
            .set_if_match(replaces.map(quoted))
            .send()
    };
    let answer = match store.send(&request, store.patience.publish, complete).await {
        Ok(answer) => answer,
        Err(error) => return Err(explain(store, upload, parts, error).await),
    };
    // A success whose body says nothing: whether there is an object is not known.
    let etag = etag(answer.e_tag().ok_or_else(|| request.lacks("ETag"))?);
    store.checksums.forget(&upload.id);
    // Some stores combine the parts' checksums in another way, and say so.
    if answer.checksum_type() != Some(&ChecksumType::Composite) {
        let stored = Stored { crc64_nvme: answer.checksum_crc64_nvme(), crc32c: answer.checksum_crc32_c() };
        whole.compare(&request, stored).map_err(|error| {
            let what = format!("{name} is published, but it is not what was sent: upload it again");
            error.with_retry(Retry::No).while_doing(what)
        })?;
    }
    Ok(etag)
}

/// A refusal of Complete, as far as what is stored explains it: by the upload that is gone, or by the part that is to blame.
///
/// An upload that is gone comes first. If it was completed and only the answer was lost, the object that "exists already" is its own,
/// and whoever asked has to look at it. A missing part comes before a short one: stores disagree on which of the two they mention.
async fn explain(store: &S3Store, upload: &Upload, parts: &[CompletedPart], error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::Changed | ErrorKind::LimitExceeded) {
        return error;
    }
    let stored = match list_attempts(store, upload).await {
        Ok(stored) => stored,
        Err(gone) if gone.kind() == ErrorKind::NotFound => return gone,
        Err(_) => return error,
    };
    if error.kind() == ErrorKind::AlreadyExists {
        return error;
    }
    let is_there = |part: &CompletedPart| stored.iter().any(|stored| stored.part.number == part.number);
    let find = |listed: &CompletedPart| {
        let mut parts = stored.iter().map(|stored| &stored.part);
        parts.find(|part| part.number == listed.number && part.etag == listed.etag)
    };
    let changed = |why| Error::new(ErrorKind::Changed, format!("cannot complete {}: {why}", store.name(&upload.key)));
    for part in parts {
        if find(part).is_none() {
            let why = if is_there(part) { "a part was stored again" } else { "a part is not there" };
            return changed(why).with_part(part.number).with_source(error);
        }
    }
    let all_but_last = parts.split_last().map_or(parts, |(_, rest)| rest);
    let short = all_but_last.iter().find(|part| find(part).is_some_and(|found| found.len < MIN_PART));
    match short {
        Some(part) if error.kind() == ErrorKind::LimitExceeded => error.with_part(part.number),
        _ => error,
    }
}

/// Refuses ids that no store gives and some would take for a path.
fn check_id(upload: &Upload) -> Result<()> {
    if upload.id.0.is_empty() || upload.id.0.split('/').any(|segment| segment == "..") {
        let message = format!("there is no upload {:?}", upload.id.0);
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    Ok(())
}

pub(super) async fn abort(store: &S3Store, upload: &Upload) -> Result<()> {
    if check_id(upload).is_err() {
        return Ok(());
    }
    let request = store.request(format!("abort the upload of {}", store.name(&upload.key)));
    let mut pause = Duration::from_millis(100);
    for _ in 0..ABORTS {
        let abort = || {
            let abort = store.client.abort_multipart_upload().bucket(&store.bucket).key(upload.key.as_str());
            abort.upload_id(&upload.id.0).send()
        };
        match store.send(&request, store.patience.request, abort).await {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            // Also where it is gone already: a part that was arriving then may lie there.
            _ => {}
        }
        let left = list_parts(store, upload).await;
        store.checksums.forget(&upload.id);
        match left {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Ok(parts) if parts.is_empty() => return Ok(()),
            // Those who may abort need not be allowed to list: then nobody can look.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(()),
            Err(error) => return Err(error),
            Ok(_) => tokio::time::sleep(pause).await,
        }
        pause *= 2;
    }
    let message = format!("cannot {}: parts are still arriving", request.doing);
    Err(Error::new(ErrorKind::Changed, message).with_retry(Retry::Yes))
}

/// A part as it is listed, when it was stored, and its checksum if the store has it.
struct Listed {
    part: StoredPart,
    modified: Option<SystemTime>,
    crc: Option<u64>,
}

pub(super) async fn list_parts(store: &S3Store, upload: &Upload) -> Result<Vec<StoredPart>> {
    let mut parts: Vec<StoredPart> = Vec::new();
    for Listed { part, crc, .. } in list_attempts(store, upload).await? {
        if let Some(crc) = crc {
            store.checksums.remember_listed(&upload.id, &part, crc);
        }
        match parts.last_mut() {
            // The latest attempt, where a store keeps several.
            Some(last) if last.number == part.number => *last = part,
            _ => parts.push(part),
        }
    }
    Ok(parts)
}

/// What is stored, ascending by number and then by time: SeaweedFS keeps every attempt at a part, and Complete names one.
async fn list_attempts(store: &S3Store, upload: &Upload) -> Result<Vec<Listed>> {
    check_id(upload)?;
    let request = store.request(format!("list the parts of {}", store.name(&upload.key)));
    let mut parts = Vec::new();
    let mut marker: Option<String> = None;
    loop {
        let list = || {
            let list = store.client.list_parts().bucket(&store.bucket).key(upload.key.as_str());
            list.upload_id(&upload.id.0).set_part_number_marker(marker.clone()).send()
        };
        let page = store.send(&request, store.patience.request, list).await?;
        for listed in page.parts() {
            let number =
                listed.part_number().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| request.lacks("part number"))?;
            let len =
                listed.size().and_then(|len| u64::try_from(len).ok()).ok_or_else(|| request.lacks("part's length"))?;
            let tag = listed.e_tag().ok_or_else(|| request.lacks("part's ETag"))?;
            let part = StoredPart { number: PartNumber::try_from(number)?, etag: etag(tag), len };
            let sums = Stored { crc64_nvme: listed.checksum_crc64_nvme(), crc32c: listed.checksum_crc32_c() };
            let modified = listed.last_modified().and_then(modified);
            parts.push(Listed { part, modified, crc: sums.value(store.checksum) });
        }
        if page.is_truncated() != Some(true) {
            break;
        }
        let next = page.next_part_number_marker().ok_or_else(|| request.lacks("marker of the next page"))?;
        if marker.as_deref() == Some(next) {
            return Err(request.contradicted("the store's listing does not advance"));
        }
        marker = Some(next.to_owned());
    }
    parts.sort_by_key(|listed| (listed.part.number, listed.modified));
    Ok(parts)
}

pub(super) async fn list_all(store: &S3Store, upload: &Upload) -> Result<Vec<StoredPart>> {
    Ok(list_attempts(store, upload).await?.into_iter().map(|listed| listed.part).collect())
}

pub(super) async fn list_uploads(store: &S3Store, prefix: &str) -> Result<Vec<ListedUpload>> {
    let request = store.request(format!("list the uploads in s3://{}/{prefix}", store.bucket));
    let mut uploads = Vec::new();
    let mut marker: (Option<String>, Option<String>) = (None, None);
    loop {
        let list = || {
            let list = store.client.list_multipart_uploads().bucket(&store.bucket).prefix(prefix);
            list.set_key_marker(marker.0.clone()).set_upload_id_marker(marker.1.clone()).send()
        };
        let page = store.send(&request, store.patience.request, list).await?;
        for listed in page.uploads() {
            let key = listed_key(&request, listed.key())?;
            let id = listed.upload_id().ok_or_else(|| request.lacks("upload id"))?;
            // Some stores list more than was asked for.
            if key.as_str().starts_with(prefix) {
                let upload = Upload { key, id: UploadId(id.to_owned()) };
                uploads.push(ListedUpload { upload, begun: listed.initiated().and_then(modified) });
            }
        }
        if page.is_truncated() != Some(true) {
            break;
        }
        let own = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let next = (own(page.next_key_marker()), own(page.next_upload_id_marker()));
        if next.0.is_none() || next == marker {
            return Err(request.contradicted("the store's listing does not advance"));
        }
        marker = next;
    }
    uploads.sort_by(|ListedUpload { upload: a, .. }, ListedUpload { upload: b, .. }| {
        (&a.key, &a.id).cmp(&(&b.key, &b.id))
    });
    Ok(uploads)
}

pub(super) fn sdk_number(number: PartNumber) -> i32 {
    // At most 10,000.
    number.get().cast_signed()
}
