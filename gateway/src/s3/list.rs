//! Listing objects, in both versions.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use s3s::dto::{
    CommonPrefix, ETag, EncodingType, ListObjectVersionsInput, ListObjectVersionsOutput, ListObjectsInput,
    ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, Object, ObjectStorageClass, ObjectVersion,
    ObjectVersionStorageClass,
};
use s3s::{S3Request, S3Response, S3Result};

use super::Operations;
use super::buckets::owner;
use super::error::{invalid_argument, s3_error};
use crate::service::{BucketName, ListRequest, Listing};

/// The most rows of a page.
const MAX_KEYS: i32 = 1000;
/// The one version that there is of an object.
pub(super) const VERSION: &str = "null";

/// What the inputs of listings have in common. The library gives them the same fields, and no type for them.
macro_rules! wanted {
    ($input:ident, $after:expr) => {
        Wanted {
            bucket: &$input.bucket,
            prefix: $input.prefix.clone(),
            delimiter: $input.delimiter.clone(),
            after: $after,
            max: $input.max_keys,
            encoding: $input.encoding_type.as_ref(),
        }
    };
}

pub(super) async fn list_objects(
    this: &Operations,
    request: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let input = request.input;
    let Page { listing, max, encode } = page(this, wanted!(input, input.marker.clone())).await?;
    let contents = listing.objects.iter().map(|row| encode.object(row, true)).collect();
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(encode.of(input.prefix.unwrap_or_default())),
        marker: Some(encode.of(input.marker.unwrap_or_default())),
        max_keys: Some(max),
        is_truncated: Some(listing.next.is_some()),
        // Without a delimiter, the last key says it.
        next_marker: listing.next.clone().filter(|_| input.delimiter.is_some()).map(|next| encode.of(next)),
        delimiter: encode.delimiter(input.delimiter),
        contents: Some(contents),
        common_prefixes: Some(encode.prefixes(listing)),
        encoding_type: input.encoding_type,
        ..ListObjectsOutput::default()
    }))
}

pub(super) async fn list_objects_v2(
    this: &Operations,
    request: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let input = request.input;
    let after = match &input.continuation_token {
        Some(token) => Some(after_token(token)?),
        None => input.start_after.clone(),
    };
    let Page { listing, max, encode } = page(this, wanted!(input, after)).await?;
    let fetch_owner = input.fetch_owner.unwrap_or(false);
    let contents: Vec<_> = listing.objects.iter().map(|row| encode.object(row, fetch_owner)).collect();
    let count = contents.len().saturating_add(listing.prefixes.len());
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(encode.of(input.prefix.unwrap_or_default())),
        max_keys: Some(max),
        key_count: Some(i32::try_from(count).unwrap_or(i32::MAX)),
        continuation_token: input.continuation_token,
        is_truncated: Some(listing.next.is_some()),
        next_continuation_token: listing.next.as_ref().map(|next| URL_SAFE_NO_PAD.encode(next)),
        contents: Some(contents),
        common_prefixes: Some(encode.prefixes(listing)),
        delimiter: encode.delimiter(input.delimiter),
        encoding_type: input.encoding_type,
        start_after: input.start_after.map(|after| encode.of(after)),
        ..ListObjectsV2Output::default()
    }))
}

/// Objects have one version each. Clients that empty a bucket ask for all versions, whether or not there can be more.
pub(super) async fn list_object_versions(
    this: &Operations,
    request: S3Request<ListObjectVersionsInput>,
) -> S3Result<S3Response<ListObjectVersionsOutput>> {
    let input = request.input;
    let Page { listing, max, encode } = page(this, wanted!(input, input.key_marker.clone())).await?;
    let versions = listing.objects.iter().map(|row| encode.version(row)).collect();
    Ok(S3Response::new(ListObjectVersionsOutput {
        name: Some(input.bucket),
        prefix: Some(encode.of(input.prefix.unwrap_or_default())),
        key_marker: Some(encode.of(input.key_marker.unwrap_or_default())),
        version_id_marker: input.version_id_marker,
        max_keys: Some(max),
        is_truncated: Some(listing.next.is_some()),
        next_version_id_marker: listing.next.as_ref().map(|_| VERSION.to_owned()),
        next_key_marker: listing.next.clone().map(|next| encode.of(next)),
        delimiter: encode.delimiter(input.delimiter),
        versions: Some(versions),
        common_prefixes: Some(encode.prefixes(listing)),
        encoding_type: input.encoding_type,
        ..ListObjectVersionsOutput::default()
    }))
}

/// What every listing asks for.
struct Wanted<'a> {
    bucket: &'a str,
    prefix: Option<String>,
    delimiter: Option<String>,
    after: Option<String>,
    max: Option<i32>,
    encoding: Option<&'a EncodingType>,
}

/// A page of objects, and how it is written.
struct Page {
    listing: Listing,
    /// How many rows it has at most.
    max: i32,
    encode: Encoding,
}

async fn page(this: &Operations, wanted: Wanted<'_>) -> S3Result<Page> {
    let max = most(wanted.max)?;
    let encode = Encoding(is_url(wanted.encoding));
    let bucket = BucketName::new(wanted.bucket).map_err(s3_error)?;
    let request = ListRequest {
        prefix: wanted.prefix.unwrap_or_default(),
        delimiter: wanted.delimiter.unwrap_or_default(),
        after: wanted.after.unwrap_or_default(),
        max: usize::try_from(max).unwrap_or(0),
    };
    let listing = match request.max {
        0 => this.service.bucket(&bucket).await.map(|_| Listing::default()),
        _ => this.service.list_objects(&bucket, &request).await,
    };
    Ok(Page { listing: listing.map_err(s3_error)?, max, encode })
}

/// How many rows a page has at most.
pub(super) fn most(asked: Option<i32>) -> S3Result<i32> {
    match asked.unwrap_or(MAX_KEYS) {
        negative if negative < 0 => Err(invalid_argument("The maximum is not negative.")),
        asked => Ok(asked.min(MAX_KEYS)),
    }
}

fn after_token(token: &str) -> S3Result<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| invalid_argument("The continuation token provided is incorrect"))
}

pub(super) fn is_url(encoding: Option<&EncodingType>) -> bool {
    encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL)
}

/// Whether names are percent-encoded, because not every character can be in XML.
pub(super) struct Encoding(pub(super) bool);

impl Encoding {
    pub(super) fn of(&self, name: String) -> String {
        const KEPT: &percent_encoding::AsciiSet =
            &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
        if self.0 { percent_encoding::utf8_percent_encode(&name, KEPT).to_string() } else { name }
    }

    /// An empty one is none.
    fn delimiter(&self, delimiter: Option<String>) -> Option<String> {
        delimiter.filter(|delimiter| !delimiter.is_empty()).map(|delimiter| self.of(delimiter))
    }

    fn object(&self, row: &crate::service::Listed, with_owner: bool) -> Object {
        Object {
            key: Some(self.of(row.key.clone())),
            size: Some(i64::try_from(row.len).unwrap_or(i64::MAX)),
            e_tag: Some(ETag::Strong(row.etag.clone())),
            last_modified: Some(row.modified.into()),
            storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
            owner: with_owner.then(owner),
            ..Object::default()
        }
    }

    fn version(&self, row: &crate::service::Listed) -> ObjectVersion {
        ObjectVersion {
            key: Some(self.of(row.key.clone())),
            version_id: Some(VERSION.to_owned()),
            is_latest: Some(true),
            size: Some(i64::try_from(row.len).unwrap_or(i64::MAX)),
            e_tag: Some(ETag::Strong(row.etag.clone())),
            last_modified: Some(row.modified.into()),
            storage_class: Some(ObjectVersionStorageClass::from_static(ObjectVersionStorageClass::STANDARD)),
            owner: Some(owner()),
            ..ObjectVersion::default()
        }
    }

    fn prefixes(&self, listing: Listing) -> Vec<CommonPrefix> {
        listing.prefixes.into_iter().map(|prefix| CommonPrefix { prefix: Some(self.of(prefix)) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_where_that_is_asked_for() {
        assert_eq!(Encoding(true).of("a b/ü\u{1}+".to_owned()), "a%20b/%C3%BC%01%2B");
        assert_eq!(Encoding(false).of("a b".to_owned()), "a b");
    }

    #[test]
    fn pages_have_at_most_a_thousand_rows_and_tokens_are_ours() {
        assert_eq!((most(None).unwrap(), most(Some(5)).unwrap(), most(Some(5000)).unwrap()), (1000, 5, 1000));
        assert!(most(Some(-1)).is_err());
        assert_eq!(after_token(&URL_SAFE_NO_PAD.encode("dir/ü")).unwrap(), "dir/ü");
        assert!(after_token("%%").is_err());
    }
}
