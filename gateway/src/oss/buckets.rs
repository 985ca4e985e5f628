//! Calls about buckets, and listings of what is in them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;

use super::answer::{Refused, empty, etag, set, xml, xml_date};
use super::request::invalid;
use super::xml::{escape, parse_delete, parse_encryption};
use super::{Context, Done};
use crate::access::Right;
use crate::server::Body;
use crate::service::{Encryption, FailureKind, ListRequest, Listed, Listing};

const PRIVATE: &str = "<AccessControlList><Grant>private</Grant></AccessControlList>";

impl Context<'_> {
    pub(super) async fn list_buckets(&self) -> Done {
        if self.caller.id().is_none() {
            return Err(Refused::denied());
        }
        let of = |name| self.request.param(name).unwrap_or_default();
        let (prefix, marker) = (of("prefix"), of("marker"));
        let most = self.request.number("max-keys", 100, 1000)?;
        let mut buckets = self.service().list_buckets().await?;
        buckets.retain(|bucket| {
            let name = bucket.name.as_str();
            self.caller.may(name, Right::Read) && name.starts_with(prefix) && name > marker
        });
        let truncated = buckets.len() > most;
        buckets.truncate(most);
        let (region, host) = self.place()?;
        let rows: String = buckets
            .iter()
            .map(|bucket| {
                format!(
                    "<Bucket><CreationDate>{}</CreationDate><ExtranetEndpoint>{host}</ExtranetEndpoint>\
                     <IntranetEndpoint>{host}</IntranetEndpoint><Location>oss-{region}</Location><Region>{region}</Region>\
                     <Name>{}</Name><StorageClass>Standard</StorageClass></Bucket>",
                    xml_date(bucket.created),
                    bucket.name
                )
            })
            .collect();
        let next = match buckets.last() {
            Some(last) if truncated => format!("<NextMarker>{}</NextMarker>", last.name),
            _ => String::new(),
        };
        Ok(xml(
            StatusCode::OK,
            &format!(
                "<ListAllMyBucketsResult>{}<Prefix>{}</Prefix><Marker>{}</Marker><MaxKeys>{most}</MaxKeys>\
                 <IsTruncated>{truncated}</IsTruncated>{next}<Buckets>{rows}</Buckets></ListAllMyBucketsResult>",
                self.owner(),
                escape(prefix),
                escape(marker),
            ),
        ))
    }

    pub(super) async fn put_bucket(&self) -> Done {
        match self.request.header("x-oss-acl")? {
            None | Some("private") => {}
            Some(_) => return Err(Refused::new(501, "NotImplemented", "Buckets are private here.")),
        }
        let bucket = self.bucket()?;
        match self.service().create_bucket(&bucket).await {
            // Making one's own bucket again changes nothing.
            Err(failure) if failure.kind() == FailureKind::BucketAlreadyExists => {}
            created => created?,
        }
        let mut response = empty(StatusCode::OK);
        set(&mut response, "location", &format!("/{bucket}"));
        Ok(response)
    }

    pub(super) async fn delete_bucket(&self) -> Done {
        self.service().delete_bucket(&self.bucket()?).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    pub(super) async fn head_bucket(&self) -> Done {
        self.service().bucket(&self.bucket()?).await?;
        let mut response = empty(StatusCode::OK);
        set(&mut response, "x-oss-bucket-region", self.service().region());
        Ok(response)
    }

    pub(super) async fn bucket_info(&self) -> Done {
        let bucket = self.service().bucket(&self.bucket()?).await?;
        let (region, host) = self.place()?;
        let encryption = match &bucket.encryption {
            None => "<SSEAlgorithm>None</SSEAlgorithm>".to_owned(),
            Some(encryption) => rule(encryption),
        };
        Ok(xml(
            StatusCode::OK,
            &format!(
                "<BucketInfo><Bucket><CreationDate>{}</CreationDate><ExtranetEndpoint>{host}</ExtranetEndpoint>\
                 <IntranetEndpoint>{host}</IntranetEndpoint><Location>oss-{region}</Location><Name>{}</Name>\
                 <StorageClass>Standard</StorageClass><DataRedundancyType>LRS</DataRedundancyType>{}{PRIVATE}\
                 <ServerSideEncryptionRule>{encryption}</ServerSideEncryptionRule><Comment></Comment></Bucket></BucketInfo>",
                xml_date(bucket.created),
                bucket.name,
                self.owner(),
            ),
        ))
    }

    pub(super) async fn bucket_location(&self) -> Done {
        self.service().bucket(&self.bucket()?).await?;
        let region = escape(self.service().region());
        Ok(xml(StatusCode::OK, &format!("<LocationConstraint>oss-{region}</LocationConstraint>")))
    }

    pub(super) async fn bucket_acl(&self) -> Done {
        self.service().bucket(&self.bucket()?).await?;
        let owner = self.owner();
        Ok(xml(StatusCode::OK, &format!("<AccessControlPolicy>{owner}{PRIVATE}</AccessControlPolicy>")))
    }

    pub(super) async fn bucket_versioning(&self) -> Done {
        self.service().bucket(&self.bucket()?).await?;
        Ok(xml(StatusCode::OK, "<VersioningConfiguration></VersioningConfiguration>"))
    }

    pub(super) async fn bucket_encryption(&self) -> Done {
        let bucket = self.service().bucket(&self.bucket()?).await?;
        let Some(encryption) = bucket.encryption else {
            let message = "The server side encryption configuration does not exist.";
            return Err(Refused::new(404, "NoSuchServerSideEncryptionRule", message));
        };
        Ok(xml(
            StatusCode::OK,
            &format!(
                "<ServerSideEncryptionRule><ApplyServerSideEncryptionByDefault>{}\
                 </ApplyServerSideEncryptionByDefault></ServerSideEncryptionRule>",
                rule(&encryption)
            ),
        ))
    }

    pub(super) async fn put_bucket_encryption(&self, body: Body) -> Done {
        let encryption = parse_encryption(&self.xml(body).await?)?;
        self.service().set_encryption(&self.bucket()?, Some(encryption)).await?;
        Ok(empty(StatusCode::OK))
    }

    pub(super) async fn delete_bucket_encryption(&self) -> Done {
        self.service().set_encryption(&self.bucket()?, None).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    pub(super) async fn list_objects(&self) -> Done {
        let marker = self.request.param("marker").unwrap_or_default();
        let (listing, page) = self.page(marker).await?;
        let next = match &listing.next {
            Some(next) => format!("<NextMarker>{}</NextMarker>", self.written(next)),
            None => String::new(),
        };
        let owner = self.owner();
        Ok(self.listed(&listing, &page, &format!("<Marker>{}</Marker>{next}", self.written(marker)), &owner))
    }

    pub(super) async fn list_objects_v2(&self) -> Done {
        let of = |name| self.request.param(name).filter(|value| !value.is_empty());
        let token = of("continuation-token").map(from_token).transpose()?;
        let start = of("start-after").unwrap_or_default();
        let (listing, page) = self.page(token.as_deref().unwrap_or(start)).await?;
        let mut head = format!("<KeyCount>{}</KeyCount>", listing.objects.len() + listing.prefixes.len());
        if !start.is_empty() {
            head += &format!("<StartAfter>{}</StartAfter>", self.written(start));
        }
        if let Some(token) = of("continuation-token") {
            head += &format!("<ContinuationToken>{}</ContinuationToken>", escape(token));
        }
        if let Some(next) = &listing.next {
            head += &format!("<NextContinuationToken>{}</NextContinuationToken>", to_token(next));
        }
        let owner = if of("fetch-owner") == Some("true") { self.owner() } else { String::new() };
        Ok(self.listed(&listing, &page, &head, &owner))
    }

    pub(super) async fn delete_objects(&self, body: Body) -> Done {
        let (keys, quiet) = parse_delete(&self.xml(body).await?)?;
        let deleted = self.service().delete_objects(&self.bucket()?, &keys).await?;
        let mut rows = String::new();
        for (key, deleted) in keys.iter().zip(deleted) {
            match deleted {
                Ok(()) if quiet => {}
                Ok(()) => rows += &format!("<Deleted><Key>{}</Key></Deleted>", self.written(key)),
                // OSS's answer has no place for failures: the call as a whole fails, and can be repeated.
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(xml(StatusCode::OK, &format!("<DeleteResult>{}{rows}</DeleteResult>", self.encoding())))
    }

    /// Region and endpoint, which is the one that the request was sent to, as XML writes them.
    fn place(&self) -> Result<(String, String), Refused> {
        Ok((escape(self.service().region()), escape(self.request.header("host")?.unwrap_or_default())))
    }

    async fn page(&self, after: &str) -> Result<(Listing, ListRequest), Refused> {
        let of = |name| self.request.param(name).unwrap_or_default().to_owned();
        let max = self.request.number("max-keys", 100, 1000)?;
        let request = ListRequest { prefix: of("prefix"), delimiter: of("delimiter"), after: after.to_owned(), max };
        Ok((self.service().list_objects(&self.bucket()?, &request).await?, request))
    }

    fn listed(&self, listing: &Listing, page: &ListRequest, head: &str, owner: &str) -> crate::server::Response {
        let object = |object: &Listed| {
            format!(
                "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Type>{}</Type><Size>{}</Size>\
                 <StorageClass>Standard</StorageClass>{owner}</Contents>",
                self.written(&object.key),
                xml_date(object.modified),
                escape(&etag(&object.etag)),
                kind(&object.etag),
                object.len,
            )
        };
        let objects: String = listing.objects.iter().map(object).collect();
        let group =
            |prefix: &String| format!("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", self.written(prefix));
        let groups: String = listing.prefixes.iter().map(group).collect();
        xml(
            StatusCode::OK,
            &format!(
                "<ListBucketResult>{}<Name>{}</Name><Prefix>{}</Prefix>{head}<MaxKeys>{}</MaxKeys><Delimiter>{}</Delimiter>\
                 <IsTruncated>{}</IsTruncated>{objects}{groups}</ListBucketResult>",
                self.encoding(),
                escape(&self.request.bucket),
                self.written(&page.prefix),
                page.max,
                self.written(&page.delimiter),
                listing.next.is_some(),
            ),
        )
    }

    pub(super) fn owner(&self) -> String {
        let id = escape(self.caller.id().unwrap_or("anonymous"));
        format!("<Owner><ID>{id}</ID><DisplayName>{id}</DisplayName></Owner>")
    }

    pub(super) async fn object_acl(&self) -> Done {
        self.service().head_object(&self.object()?, self.read_key()?.as_ref()).await?;
        let grant = "<AccessControlList><Grant>default</Grant></AccessControlList>";
        Ok(xml(StatusCode::OK, &format!("<AccessControlPolicy>{}{grant}</AccessControlPolicy>", self.owner())))
    }

    pub(super) async fn object_tagging(&self) -> Done {
        self.service().head_object(&self.object()?, self.read_key()?.as_ref()).await?;
        Ok(xml(StatusCode::OK, "<Tagging><TagSet></TagSet></Tagging>"))
    }
}

/// OSS's name for how an object was made.
pub(super) fn kind(etag: &str) -> &'static str {
    if etag.contains('-') { "Multipart" } else { "Normal" }
}

fn rule(encryption: &Encryption) -> String {
    match encryption {
        Encryption::Aes256 => "<SSEAlgorithm>AES256</SSEAlgorithm>".to_owned(),
        Encryption::Kms { key_id } => {
            let id = key_id
                .as_deref()
                .map_or_else(String::new, |id| format!("<KMSMasterKeyID>{}</KMSMasterKeyID>", escape(id)));
            format!("<SSEAlgorithm>KMS</SSEAlgorithm>{id}")
        }
    }
}

/// Where a listing goes on, as text that needs no encoding anywhere.
fn to_token(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

fn from_token(token: &str) -> Result<String, Refused> {
    let key = URL_SAFE_NO_PAD.decode(token).ok().and_then(|key| String::from_utf8(key).ok());
    Ok(key.ok_or_else(|| invalid("The continuation token is not one of this gateway's."))?)
}
