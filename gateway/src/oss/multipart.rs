//! Calls about multipart uploads.

use http::StatusCode;

use super::answer::{Refused, SSE, SSE_DATA, SSE_KEY, empty, etag, set, set_crc64, set_encryption, xml, xml_date};
use super::request::{encode, invalid, range};
use super::xml::{escape, parse_completion};
use super::{Context, Done};
use crate::server::Body;
use crate::service::{
    CompleteRequest, ETagStyle, InitiateRequest, ListedPart, PartInfo, PartRequest, PartSource, UploadsRequest,
};

/// The fewest bytes that a part other than the last has.
const MIN_PART: u64 = 100 << 10;

impl Context<'_> {
    pub(super) async fn initiate(&self) -> Done {
        self.refuse_what_is_not_kept()?;
        let request = InitiateRequest {
            attributes: self.attributes()?,
            sse: self.sse()?,
            checksum: None,
            if_not_exists: self.request.flag("x-oss-forbid-overwrite")?,
        };
        let upload = self.service().initiate(&self.object()?, request).await?;
        let mut response = xml(
            StatusCode::OK,
            &format!(
                "<InitiateMultipartUploadResult>{}<Bucket>{}</Bucket><Key>{}</Key><UploadId>{}</UploadId>\
                 </InitiateMultipartUploadResult>",
                self.encoding(),
                escape(&self.request.bucket),
                self.written(&self.request.key),
                upload.id
            ),
        );
        set_encryption(&mut response, upload.encrypted.as_ref());
        Ok(response)
    }

    pub(super) async fn upload_part(&self, body: Body) -> Done {
        let request = self.part()?;
        let part = self.service().upload_part(&self.object()?, self.upload_id(), request, self.body(body)?).await?;
        let mut response = empty(StatusCode::OK);
        set(&mut response, "etag", &etag(&part.etag));
        set_crc64(&mut response, Some(part.crc64));
        set_encryption(&mut response, part.encrypted.as_ref());
        Ok(response)
    }

    pub(super) async fn upload_part_copy(&self) -> Done {
        let request = self.part()?;
        let range = match self.request.header("x-oss-copy-source-range")? {
            None => None,
            Some(text) => Some(range(text).ok_or_else(|| invalid("The range to copy is bytes=FIRST-LAST."))?),
        };
        let source = PartSource {
            object: self.copy_source()?,
            range,
            key: self.customer_key("x-oss-copy-source-server-side-encryption-customer")?,
            conditions: self.conditions("x-oss-copy-source-")?,
        };
        let (part, _) = self.service().upload_part_copy(&self.object()?, self.upload_id(), request, source).await?;
        let mut response = xml(
            StatusCode::OK,
            &format!(
                "<CopyPartResult><LastModified>{}</LastModified><ETag>{}</ETag></CopyPartResult>",
                xml_date(part.modified),
                etag(&part.etag)
            ),
        );
        set(&mut response, "etag", &etag(&part.etag));
        set_crc64(&mut response, Some(part.crc64));
        set_encryption(&mut response, part.encrypted.as_ref());
        Ok(response)
    }

    pub(super) async fn complete(&self, body: Body) -> Done {
        let all = self.request.header("x-oss-complete-all")?.is_some_and(|all| all.eq_ignore_ascii_case("yes"));
        let body = self.xml(body).await?;
        let parts = match (all, body.is_empty()) {
            (true, true) => None,
            (true, false) => return Err(invalid("With x-oss-complete-all, no parts are listed.").into()),
            (false, _) => Some(parse_completion(&body)?),
        };
        let part = |(number, etag)| ListedPart { number, etag, checksum: None };
        let parts = parts.map(|parts| parts.into_iter().map(part).collect());
        let request = CompleteRequest {
            parts,
            min_part: MIN_PART,
            etag_style: ETagStyle::Oss,
            if_not_exists: self.request.flag("x-oss-forbid-overwrite")?,
            len: None,
            checksum: None,
            checksum_type: None,
            customer: self.read_key()?,
        };
        let written = self.service().complete(&self.object()?, self.upload_id(), request).await?;
        let mut response = xml(
            StatusCode::OK,
            &format!(
                "<CompleteMultipartUploadResult>{}<Location>http://{}/{}/{}</Location><Bucket>{}</Bucket><Key>{}</Key>\
                 <ETag>{}</ETag></CompleteMultipartUploadResult>",
                self.encoding(),
                escape(self.request.header("host")?.unwrap_or_default()),
                escape(&self.request.bucket),
                encode(&self.request.key, true),
                escape(&self.request.bucket),
                self.written(&self.request.key),
                escape(&etag(&written.etag))
            ),
        );
        set(&mut response, "etag", &etag(&written.etag));
        set_crc64(&mut response, written.crc64);
        set_encryption(&mut response, written.encrypted.as_ref());
        Ok(response)
    }

    pub(super) async fn abort(&self) -> Done {
        self.service().abort(&self.object()?, self.upload_id()).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    pub(super) async fn list_parts(&self) -> Done {
        let most = self.request.number("max-parts", 1000, 1000)?;
        let after = match self.request.param("part-number-marker").unwrap_or_default() {
            "" => 0,
            text => text.parse::<u32>().map_err(|_| invalid("part-number-marker is a number."))?,
        };
        let key = self.read_key()?;
        let listing = self.service().list_parts(&self.object()?, self.upload_id(), after, most, key.as_ref()).await?;
        let row = |part: &PartInfo| {
            format!(
                "<Part><PartNumber>{}</PartNumber><LastModified>{}</LastModified><ETag>{}</ETag>\
                 <HashCrc64ecma>{}</HashCrc64ecma><Size>{}</Size></Part>",
                part.number,
                xml_date(part.modified),
                escape(&etag(&part.etag)),
                part.crc64,
                part.len
            )
        };
        let rows: String = listing.parts.iter().map(row).collect();
        let next = listing.next.or(listing.parts.last().map(|part| part.number)).unwrap_or(after);
        Ok(xml(
            StatusCode::OK,
            &format!(
                "<ListPartsResult>{}<Bucket>{}</Bucket><Key>{}</Key><UploadId>{}</UploadId>\
                 <StorageClass>Standard</StorageClass><PartNumberMarker>{after}</PartNumberMarker>\
                 <NextPartNumberMarker>{next}</NextPartNumberMarker><MaxParts>{most}</MaxParts>\
                 <IsTruncated>{}</IsTruncated>{rows}</ListPartsResult>",
                self.encoding(),
                escape(&self.request.bucket),
                self.written(&self.request.key),
                escape(self.upload_id()),
                listing.next.is_some()
            ),
        ))
    }

    pub(super) async fn list_uploads(&self) -> Done {
        let of = |name| self.request.param(name).unwrap_or_default().to_owned();
        if !of("delimiter").is_empty() {
            return Err(Refused::new(
                501,
                "NotImplemented",
                "Uploads are not listed in groups: leave the delimiter out.",
            ));
        }
        let max = self.request.number("max-uploads", 1000, 1000)?;
        let request = UploadsRequest { prefix: of("prefix"), after: (of("key-marker"), of("upload-id-marker")), max };
        let listing = self.service().list_uploads(&self.bucket()?, &request).await?;
        let rows: String = listing
            .uploads
            .iter()
            .map(|upload| {
                format!(
                    "<Upload><Key>{}</Key><UploadId>{}</UploadId><StorageClass>Standard</StorageClass>\
                     <Initiated>{}</Initiated></Upload>",
                    self.written(&upload.key),
                    escape(&upload.id),
                    xml_date(upload.initiated)
                )
            })
            .collect();
        let next = match listing.uploads.last() {
            Some(last) if listing.truncated => format!(
                "<NextKeyMarker>{}</NextKeyMarker><NextUploadIdMarker>{}</NextUploadIdMarker>",
                self.written(&last.key),
                escape(&last.id)
            ),
            _ => "<NextKeyMarker></NextKeyMarker><NextUploadIdMarker></NextUploadIdMarker>".to_owned(),
        };
        Ok(xml(
            StatusCode::OK,
            &format!(
                "<ListMultipartUploadsResult>{}<Bucket>{}</Bucket><KeyMarker>{}</KeyMarker>\
                 <UploadIdMarker>{}</UploadIdMarker>{next}<Delimiter></Delimiter><Prefix>{}</Prefix>\
                 <MaxUploads>{max}</MaxUploads><IsTruncated>{}</IsTruncated>{rows}</ListMultipartUploadsResult>",
                self.encoding(),
                escape(&self.request.bucket),
                self.written(&request.after.0),
                escape(&request.after.1),
                self.written(&request.prefix),
                listing.truncated
            ),
        ))
    }

    fn upload_id(&self) -> &str {
        self.request.param("uploadId").unwrap_or_default()
    }

    /// Which part is sent. How it is encrypted was said when the upload was begun.
    fn part(&self) -> Result<PartRequest, Refused> {
        for name in [SSE, SSE_KEY, SSE_DATA] {
            if self.request.headers.contains_key(name) {
                return Err(invalid(format!("A part of an upload does not have a header {name}.")).into());
            }
        }
        let number = self.request.param("partNumber").and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| invalid("Part number must be an integer between 1 and 10000, inclusive."))?;
        Ok(PartRequest { number, customer: self.read_key()? })
    }
}
