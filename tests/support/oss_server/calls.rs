//! What each call does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use md5::{Digest as _, Md5};
use sealift::crypto::crc64;

use super::auth::{hex, iso_date};
use super::http::{Request, Response, decode, encode, escape, unescape};
use super::{BUCKET, Data, Failure, Object, OpenUpload, Part, Sse, State, fail, lock, operation};

const SSE: &str = "x-oss-server-side-encryption";
const SSE_KEY: &str = "x-oss-server-side-encryption-key-id";
const SSE_DATA: &str = "x-oss-server-side-data-encryption";
const MIN_PART: usize = 100 << 10;

type Done = Result<Response, Failure>;

impl State {
    pub(super) fn call(&self, request: &Request) -> Done {
        let (bucket, key) = request.bucket_and_key();
        if bucket != BUCKET {
            return Err(fail(404, "NoSuchBucket", "The specified bucket does not exist."));
        }
        let data = &mut *lock(&self.data);
        match operation(request) {
            "ListMultipartUploads" => self.list_uploads(request, data),
            "ListObjectsV2" => self.list_objects(request, data),
            "InitiateMultipartUpload" => self.initiate(request, data, key),
            "UploadPart" => self.upload_part(request, data, &key),
            "UploadPartCopy" => self.copy_part(request, data, &key),
            "CompleteMultipartUpload" => self.complete(request, data, &key),
            "AbortMultipartUpload" => {
                open_upload(request, data, &key)?;
                data.uploads.remove(&request.param("uploadId").unwrap_or_default());
                Ok(Response::new(204))
            }
            "ListParts" => self.list_parts(request, data, &key),
            "GetObjectACL" => {
                let acl = &object(data, &key)?.acl;
                Ok(Response::new(200).xml(format!(
                    "<AccessControlPolicy><Owner><ID>1234</ID><DisplayName>1234</DisplayName></Owner>\
                     <AccessControlList><Grant>{acl}</Grant></AccessControlList></AccessControlPolicy>"
                )))
            }
            "PutObjectACL" => {
                let acl = request.header("x-oss-object-acl").unwrap_or("default").to_owned();
                data.objects.get_mut(&key).ok_or_else(no_such_key)?.acl = acl;
                Ok(Response::new(200))
            }
            "GetObjectTagging" => {
                let tags: String = object(data, &key)?
                    .tags
                    .iter()
                    .map(|(k, v)| format!("<Tag><Key>{}</Key><Value>{}</Value></Tag>", escape(k), escape(v)))
                    .collect();
                Ok(Response::new(200).xml(format!("<Tagging><TagSet>{tags}</TagSet></Tagging>")))
            }
            "PutObject" => self.put(request, data, key),
            "CopyObject" => self.copy(request, data, key),
            "GetObject" | "HeadObject" => get(request, object(data, &key)?),
            "DeleteObject" => {
                data.objects.remove(&key);
                Ok(Response::new(204))
            }
            _ => Err(fail(501, "NotImplemented", "this test server does not know that call")),
        }
    }

    fn put(&self, request: &Request, data: &mut Data, key: String) -> Done {
        may_write(request, data, &key)?;
        let sse = self.encryption(request)?;
        let object = Object {
            etag: hex(&Md5::digest(&request.body)).to_uppercase(),
            body: Arc::new(request.body.clone()),
            kind: "Normal",
            modified: self.now(),
            headers: own_headers(request)?,
            sse,
            class: class(request),
            acl: acl(request),
            tags: tags(request),
        };
        let response = checksum(Response::new(200), &object.etag, &object.body);
        let response = encrypted(response, &object.sse);
        data.objects.insert(key, object);
        Ok(response)
    }

    fn initiate(&self, request: &Request, data: &mut Data, key: String) -> Done {
        may_write(request, data, &key)?;
        let sse = self.encryption(request)?;
        let id = format!("{:032X}", self.requests.load(SeqCst) + 0xABC_0000);
        let response = encrypted(Response::new(200), &sse);
        // OSS gives the key as it is, unless asked to encode it.
        let written = if request.param("encoding-type").as_deref() == Some("url") {
            format!("<EncodingType>url</EncodingType><Bucket>{BUCKET}</Bucket><Key>{}</Key>", encode(&key, ""))
        } else {
            format!("<Bucket>{BUCKET}</Bucket><Key>{}</Key>", escape(&key))
        };
        let upload = OpenUpload {
            key,
            headers: own_headers(request)?,
            sse,
            class: class(request),
            tags: tags(request),
            parts: BTreeMap::new(),
        };
        data.uploads.insert(id.clone(), upload);
        Ok(response.xml(format!(
            "<InitiateMultipartUploadResult>{written}<UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        )))
    }

    fn upload_part(&self, request: &Request, data: &mut Data, key: &str) -> Done {
        let number = part_number(request)?;
        no_encryption(request)?;
        let upload = open_upload(request, data, key)?;
        let etag = hex(&Md5::digest(&request.body)).to_uppercase();
        let response = encrypted(checksum(Response::new(200), &etag, &request.body), &upload.sse);
        upload.parts.insert(number, Part { body: request.body.clone(), etag });
        Ok(response)
    }

    fn copy_part(&self, request: &Request, data: &mut Data, key: &str) -> Done {
        let number = part_number(request)?;
        no_encryption(request)?;
        open_upload(request, data, key)?;
        let source = source(request, data)?;
        let range = request.header("x-oss-copy-source-range");
        let (first, last) = range
            .and_then(|range| range.strip_prefix("bytes=")?.split_once('-'))
            .and_then(|(first, last)| Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?)))
            .ok_or_else(|| fail(400, "InvalidArgument", "this test server wants a copy range"))?;
        let body = source.body.get(first..=last).ok_or_else(|| fail(416, "InvalidRange", "copy range"))?.to_vec();
        let upload = open_upload(request, data, key)?;
        let etag = hex(&Md5::digest(&body)).to_uppercase();
        let response = encrypted(checksum(Response::new(200), &etag, &body), &upload.sse);
        upload.parts.insert(number, Part { body, etag: etag.clone() });
        Ok(response.xml(format!(
            "<CopyPartResult><LastModified>{}</LastModified><ETag>\"{etag}\"</ETag></CopyPartResult>",
            iso_date(self.now())
        )))
    }

    fn complete(&self, request: &Request, data: &mut Data, key: &str) -> Done {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let listed: Vec<(u32, String)> = text
            .split("<Part>")
            .skip(1)
            .map(|part| Some((between(part, "PartNumber")?.parse().ok()?, between(part, "ETag")?)))
            .collect::<Option<_>>()
            .filter(|list: &Vec<_>| !list.is_empty())
            .ok_or_else(|| fail(400, "MalformedXML", "The XML you provided was not well-formed."))?;
        open_upload(request, data, key)?;
        if !listed.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(fail(400, "InvalidPartOrder", "The list of parts was not in ascending order."));
        }
        may_write(request, data, key)?;
        let upload = open_upload(request, data, key)?;
        let invalid = "One or more of the specified parts could not be found or the specified entity tag might not have matched the part's entity tag.";
        let find = |(number, etag): &(u32, String)| {
            let etag = unescape(etag).trim_matches('"').to_uppercase();
            upload.parts.get(number).filter(|part| part.etag == etag).ok_or_else(|| fail(400, "InvalidPart", invalid))
        };
        let parts = listed.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        if parts.iter().rev().skip(1).any(|part| part.body.len() < MIN_PART) {
            return Err(fail(400, "EntityTooSmall", "Your proposed upload smaller than the minimum allowed size."));
        }
        let body: Vec<u8> = parts.iter().flat_map(|part| &part.body).copied().collect();
        let tags: String = parts.iter().map(|part| part.etag.as_str()).collect();
        let etag = format!("{}-{}", hex(&Md5::digest(tags.as_bytes())).to_uppercase(), listed.len());
        let object = Object {
            body: Arc::new(body),
            etag: etag.clone(),
            kind: "Multipart",
            modified: self.now(),
            headers: upload.headers.clone(),
            sse: upload.sse.clone(),
            class: upload.class.clone(),
            acl: acl(request),
            tags: upload.tags.clone(),
        };
        let response = encrypted(checksum(Response::new(200), &etag, &object.body), &object.sse);
        data.objects.insert(key.to_owned(), object);
        data.uploads.remove(&request.param("uploadId").unwrap_or_default());
        let written =
            if request.param("encoding-type").as_deref() == Some("url") { encode(key, "") } else { escape(key) };
        Ok(response.xml(format!(
            "<CompleteMultipartUploadResult><Location>http://127.0.0.1/{}</Location><Bucket>{BUCKET}</Bucket>\
             <Key>{written}</Key><ETag>\"{etag}\"</ETag></CompleteMultipartUploadResult>",
            encode(key, "/")
        )))
    }

    fn copy(&self, request: &Request, data: &mut Data, key: String) -> Done {
        let source_key = source_key(request)?;
        let source = source(request, data)?.clone();
        may_write(request, data, &key)?;
        let sse = self.encryption(request)?;
        let class = request.header("x-oss-storage-class").unwrap_or("Standard").to_owned();
        let anew = sse != source.sse || class != source.class;
        if anew && source.body.len() as u64 > self.copy_limit.load(SeqCst) {
            return Err(fail(400, "EntityTooLarge", "The object is too large to be copied with another encryption."));
        }
        let directive = |name, default: &'static str| match request.header(name).map(str::to_uppercase).as_deref() {
            None => Ok(default == "REPLACE"),
            Some("REPLACE") => Ok(true),
            Some("COPY") => Ok(false),
            _ => Err(fail(400, "InvalidArgument", name)),
        };
        // Onto itself, the request's metadata always replaces the object's.
        let replaced = directive("x-oss-metadata-directive", "COPY")? || source_key == key;
        let headers = if replaced { own_headers(request)? } else { source.headers.clone() };
        let new_tags = if directive("x-oss-tagging-directive", "COPY")? { tags(request) } else { source.tags.clone() };
        let object = Object { headers, sse, class, acl: acl(request), tags: new_tags, modified: self.now(), ..source };
        let response = encrypted(Response::new(200), &object.sse);
        let response = checksum(response, &object.etag, &object.body);
        let body = format!(
            "<CopyObjectResult><LastModified>{}</LastModified><ETag>\"{}\"</ETag></CopyObjectResult>",
            iso_date(object.modified),
            object.etag
        );
        data.objects.insert(key, object);
        Ok(response.xml(body))
    }

    fn list_parts(&self, request: &Request, data: &mut Data, key: &str) -> Done {
        let page = self.page_size(request, "max-parts");
        let marker: u32 = request.param("part-number-marker").map_or(0, |n| n.parse().unwrap_or(0));
        let id = request.param("uploadId").unwrap_or_default();
        let upload = open_upload(request, data, key)?;
        let rest: Vec<_> = upload.parts.range(marker + 1..).collect();
        let (shown, truncated) = (&rest[..rest.len().min(page)], rest.len() > page);
        let next = shown.last().map_or(0, |(number, _)| **number);
        let parts: String = shown
            .iter()
            .map(|(number, part)| {
                format!(
                    "<Part><PartNumber>{number}</PartNumber><LastModified>{}</LastModified><ETag>\"{}\"</ETag>\
                     <HashCrc64ecma>{}</HashCrc64ecma><Size>{}</Size></Part>",
                    iso_date(self.now()),
                    part.etag,
                    crc64(&part.body),
                    part.body.len()
                )
            })
            .collect();
        Ok(Response::new(200).xml(format!(
            "<ListPartsResult><Bucket>{BUCKET}</Bucket><Key>{}</Key><UploadId>{id}</UploadId><StorageClass>Standard</StorageClass>\
             <PartNumberMarker>{marker}</PartNumberMarker><NextPartNumberMarker>{next}</NextPartNumberMarker>\
             <MaxParts>{page}</MaxParts><IsTruncated>{truncated}</IsTruncated>{parts}</ListPartsResult>",
            escape(key)
        )))
    }

    fn list_uploads(&self, request: &Request, data: &mut Data) -> Done {
        let page = self.page_size(request, "max-uploads");
        let prefix = request.param("prefix").unwrap_or_default();
        let after =
            (request.param("key-marker").unwrap_or_default(), request.param("upload-id-marker").unwrap_or_default());
        let mut all: Vec<_> = data.uploads.iter().map(|(id, upload)| (upload.key.clone(), id.clone())).collect();
        all.sort();
        all.retain(|row| row.0.starts_with(&prefix) && *row > after);
        let truncated = all.len() > page;
        all.truncate(page);
        let written = writer(request);
        let next = all.last().cloned().filter(|_| truncated).unwrap_or_default();
        let rows: String = all
            .iter()
            .map(|(key, id)| {
                format!(
                    "<Upload><Key>{}</Key><UploadId>{id}</UploadId><StorageClass>Standard</StorageClass><Initiated>{}</Initiated></Upload>",
                    written(key),
                    iso_date(self.now())
                )
            })
            .collect();
        Ok(Response::new(200).xml(format!(
            "<ListMultipartUploadsResult>{}<Bucket>{BUCKET}</Bucket><KeyMarker>{}</KeyMarker><UploadIdMarker>{}</UploadIdMarker>\
             <NextKeyMarker>{}</NextKeyMarker><NextUploadIdMarker>{}</NextUploadIdMarker><Delimiter></Delimiter><Prefix>{}</Prefix>\
             <MaxUploads>{page}</MaxUploads><IsTruncated>{truncated}</IsTruncated>{rows}</ListMultipartUploadsResult>",
            encoding(request),
            written(&after.0),
            after.1,
            written(&next.0),
            next.1,
            written(&prefix)
        )))
    }

    fn list_objects(&self, request: &Request, data: &mut Data) -> Done {
        let page = self.page_size(request, "max-keys");
        let prefix = request.param("prefix").unwrap_or_default();
        // A token that is not the key, so that a client has to send back what it got.
        let after = request.param("continuation-token").filter(|token| !token.is_empty()).map(|token| {
            let hex = token.trim_start_matches("next+").as_bytes().chunks(2);
            hex.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect::<Vec<u8>>()
        });
        let after = after.or_else(|| request.param("start-after").map(String::into_bytes));
        let rest: Vec<_> = data
            .objects
            .iter()
            .filter(|(key, _)| {
                key.starts_with(&prefix) && after.as_ref().is_none_or(|after| key.as_bytes() > &after[..])
            })
            .collect();
        let (shown, truncated) = (&rest[..rest.len().min(page)], rest.len() > page);
        let written = writer(request);
        let rows: String = shown
            .iter()
            .map(|(key, object)| {
                format!(
                    "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>\"{}\"</ETag><Type>{}</Type><Size>{}</Size>\
                     <StorageClass>{}</StorageClass></Contents>",
                    written(key),
                    iso_date(object.modified),
                    object.etag,
                    object.kind,
                    object.body.len(),
                    object.class
                )
            })
            .collect();
        let next = match shown.last() {
            Some((key, _)) if truncated => {
                let token = format!("next+{}", hex(key.as_bytes()));
                format!("<NextContinuationToken>{}</NextContinuationToken>", written(&token))
            }
            _ => String::new(),
        };
        Ok(Response::new(200).xml(format!(
            "<ListBucketResult><Name>{BUCKET}</Name><Prefix>{}</Prefix><StartAfter></StartAfter><MaxKeys>{page}</MaxKeys><Delimiter></Delimiter>\
             {}<IsTruncated>{truncated}</IsTruncated>{next}{rows}<KeyCount>{}</KeyCount></ListBucketResult>",
            written(&prefix),
            encoding(request),
            shown.len()
        )))
    }

    fn page_size(&self, request: &Request, name: &str) -> usize {
        let asked = request.param(name).and_then(|n| n.parse::<u64>().ok()).unwrap_or(100);
        asked.min(self.page.load(SeqCst)) as usize
    }

    /// The encryption that a request asks for.
    fn encryption(&self, request: &Request) -> Result<Sse, Failure> {
        let (key, data) = (request.header(SSE_KEY), request.header(SSE_DATA));
        let Some(algorithm) = request.header(SSE) else {
            if key.is_some() || data.is_some() {
                return Err(fail(400, "InvalidArgument", "a key id needs the algorithm KMS"));
            }
            return Ok(Vec::new());
        };
        if !["AES256", "KMS", "SM4"].contains(&algorithm) {
            let message = "The Encryption request you specified is not valid. Supported value: AES256/SM4/KMS.";
            return Err(fail(400, "InvalidEncryptionAlgorithmError", message));
        }
        let mut sse = vec![(SSE.to_owned(), algorithm.to_owned())];
        if algorithm != "KMS" {
            if key.is_some() || data.is_some() {
                return Err(fail(400, "InvalidArgument", "a key id needs the algorithm KMS"));
            }
            return Ok(sse);
        }
        if !self.kms_enabled.load(SeqCst) {
            return Err(fail(403, "KmsServiceNotEnabled", "The KMS service is not enabled."));
        }
        match key {
            Some("unknown") => {
                return Err(fail(400, "InvalidParameter", "The specified parameter KMS keyId is not valid."));
            }
            Some("disabled") => {
                return Err(Failure { ec: "0005-00000214", ..fail(409, "KmsKeyDisabled", "The CMK is disabled.") });
            }
            Some("deleted") => {
                return Err(Failure {
                    ec: "0005-00000215",
                    ..fail(409, "KmsKeyPendingDeletion", "The CMK is pending deletion.")
                });
            }
            key => sse.push((SSE_KEY.to_owned(), key.unwrap_or("default-cmk").to_owned())),
        }
        match data {
            None => {}
            Some("SM4") => sse.push((SSE_DATA.to_owned(), "SM4".to_owned())),
            Some(_) => return Err(fail(400, "InvalidDataEncryptionAlgorithmError", "Supported value:SM4")),
        }
        Ok(sse)
    }
}

fn get(request: &Request, object: &Object) -> Done {
    if request.header("if-match").is_some_and(|etag| etag.trim_matches('"') != object.etag) {
        return Err(fail(412, "PreconditionFailed", "At least one of the preconditions you specified did not hold."));
    }
    let len = object.body.len() as u64;
    let standard = request.header("x-oss-range-behavior") == Some("standard");
    let range = request.header("range").filter(|_| request.method == "GET").map(|range| resolve(range, len));
    let mut response = match range {
        Some(Some((first, last))) => {
            let mut response = Response::new(206);
            response.body = object.body[first as usize..=last as usize].to_vec();
            response.header("Content-Range", format!("bytes {first}-{last}/{len}"))
        }
        Some(None) if standard => return Err(fail(416, "InvalidRange", "The requested range cannot be satisfied.")),
        _ => Response { body: object.body.to_vec(), ..Response::new(200) },
    };
    for (name, value) in &object.headers {
        response = response.header(name, value);
    }
    if object.kind == "Normal" {
        use base64::Engine as _;
        let md5 = base64::engine::general_purpose::STANDARD.encode(Md5::digest(&object.body[..]));
        response = response.header("Content-MD5", md5);
    }
    if !object.tags.is_empty() {
        response = response.header("x-oss-tagging-count", object.tags.len().to_string());
    }
    let response = checksum(response, &object.etag, &object.body)
        .header("Accept-Ranges", "bytes")
        .header("Last-Modified", super::auth::http_date(object.modified))
        .header("x-oss-object-type", object.kind)
        .header("x-oss-storage-class", &object.class);
    Ok(encrypted(response, &object.sse))
}

/// First and last byte of a range that holds any.
fn resolve(range: &str, len: u64) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = match (first, last) {
        ("", n) => (len.saturating_sub(n.parse().ok().filter(|n| *n > 0)?), len.checked_sub(1)?),
        (first, "") => (first.parse().ok()?, len.checked_sub(1)?),
        (first, last) => (first.parse().ok()?, last.parse::<u64>().ok()?.min(len.checked_sub(1)?)),
    };
    (first <= last).then_some((first, last))
}

fn checksum(response: Response, etag: &str, body: &[u8]) -> Response {
    response.header("ETag", format!("\"{etag}\"")).header("x-oss-hash-crc64ecma", crc64(body).to_string())
}

fn encrypted(response: Response, sse: &Sse) -> Response {
    sse.iter().fold(response, |response, (name, value)| response.header(name, value))
}

fn no_encryption(request: &Request) -> Result<(), Failure> {
    if request.headers.keys().any(|name| name.starts_with("x-oss-server-side-")) {
        return Err(fail(400, "InvalidArgument", "x-oss-server-side-encryption is not for parts"));
    }
    Ok(())
}

fn may_write(request: &Request, data: &Data, key: &str) -> Result<(), Failure> {
    if request.header("x-oss-forbid-overwrite") == Some("true") && data.objects.contains_key(key) {
        return Err(fail(
            409,
            "FileAlreadyExists",
            "The object you specified already exists and can not be overwritten.",
        ));
    }
    Ok(())
}

/// User metadata and content headers.
fn own_headers(request: &Request) -> Result<BTreeMap<String, String>, Failure> {
    const CONTENT: [&str; 6] =
        ["content-type", "cache-control", "content-disposition", "content-encoding", "content-language", "expires"];
    let own = |name: &str| name.starts_with("x-oss-meta-") || CONTENT.contains(&name);
    let mut headers: BTreeMap<_, _> =
        request.headers.iter().filter(|(name, _)| own(name)).map(|(n, v)| (n.clone(), v.clone())).collect();
    let meta = headers.iter().filter(|(name, _)| name.starts_with("x-oss-meta-"));
    if meta.map(|(name, value)| name.len() + value.len()).sum::<usize>() > 8 << 10 {
        return Err(fail(400, "InvalidArgument", "user metadata is larger than 8 KB"));
    }
    headers.entry("content-type".into()).or_insert_with(|| "application/octet-stream".into());
    Ok(headers)
}

fn class(request: &Request) -> String {
    request.header("x-oss-storage-class").unwrap_or("Standard").to_owned()
}

fn acl(request: &Request) -> String {
    request.header("x-oss-object-acl").unwrap_or("default").to_owned()
}

fn tags(request: &Request) -> Vec<(String, String)> {
    let tags = request.header("x-oss-tagging").unwrap_or("").split('&').filter(|tag| !tag.is_empty());
    tags.map(|tag| tag.split_once('=').unwrap_or((tag, ""))).map(|(k, v)| (decode(k), decode(v))).collect()
}

fn part_number(request: &Request) -> Result<u32, Failure> {
    let number = request.param("partNumber").and_then(|n| n.parse().ok()).filter(|n| (1..=10_000).contains(n));
    number.ok_or_else(|| fail(400, "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive."))
}

fn open_upload<'a>(request: &Request, data: &'a mut Data, key: &str) -> Result<&'a mut OpenUpload, Failure> {
    let id = request.param("uploadId").unwrap_or_default();
    data.uploads
        .get_mut(&id)
        .filter(|upload| upload.key == key)
        .ok_or_else(|| fail(404, "NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."))
}

fn object<'a>(data: &'a Data, key: &str) -> Result<&'a Object, Failure> {
    data.objects.get(key).ok_or_else(no_such_key)
}

fn no_such_key() -> Failure {
    fail(404, "NoSuchKey", "The specified key does not exist.")
}

fn source_key(request: &Request) -> Result<String, Failure> {
    let source = decode(request.header("x-oss-copy-source").unwrap_or_default());
    let key = source.trim_start_matches('/').strip_prefix(BUCKET).and_then(|rest| rest.strip_prefix('/'));
    key.map(str::to_owned).ok_or_else(|| fail(400, "InvalidArgument", "x-oss-copy-source"))
}

/// The source of a copy, if it is what the request wants it to be.
fn source<'a>(request: &Request, data: &'a Data) -> Result<&'a Object, Failure> {
    let source = object(data, &source_key(request)?)?;
    let wanted = request.header("x-oss-copy-source-if-match");
    if wanted.is_some_and(|etag| etag.trim_matches('"') != source.etag) {
        return Err(fail(412, "PreconditionFailed", "At least one of the preconditions you specified did not hold."));
    }
    Ok(source)
}

/// How keys are written in a listing.
fn writer(request: &Request) -> impl Fn(&str) -> String {
    let url = request.param("encoding-type").as_deref() == Some("url");
    move |text| if url { encode(text, "") } else { escape(text) }
}

fn encoding(request: &Request) -> &'static str {
    match request.param("encoding-type").as_deref() {
        Some("url") => "<EncodingType>url</EncodingType>",
        _ => "",
    }
}

fn between(text: &str, tag: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{tag}>"))?;
    Some(rest.split_once(&format!("</{tag}>"))?.0.trim().to_owned())
}
