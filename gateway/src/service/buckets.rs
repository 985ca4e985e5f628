//! Buckets: a small record each, so that every gateway in front of the store knows the same ones.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::{StreamExt as _, TryStreamExt as _};
use sealift::ErrorKind;
use sealift::store::PutCondition;
use serde::{Deserialize, Serialize};

use super::encryption::{Encryption, Sse};
use super::error::{Failure, FailureKind, Result};
use super::multipart::UploadsRequest;
use super::names::{self, BucketName};
use super::{Inner, PARALLEL, Service};

/// What is known of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: BucketName,
    /// When it was made.
    pub created: SystemTime,
    /// How objects are encrypted whose requests do not say it.
    pub encryption: Option<Encryption>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    /// Milliseconds since 1970.
    created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encryption: Option<Encryption>,
}

impl Service {
    /// Makes a bucket.
    ///
    /// # Errors
    /// [`FailureKind::BucketAlreadyExists`] if it is there, and what the store says.
    pub async fn create_bucket(&self, name: &BucketName) -> Result<()> {
        let bucket = Bucket { name: name.clone(), created: SystemTime::now(), encryption: None };
        self.0.write_bucket(&bucket, PutCondition::IfNotExists).await.map_err(|failure| match failure.kind() {
            FailureKind::AlreadyExists => {
                Failure::new(FailureKind::BucketAlreadyExists, "The requested bucket name is not available.")
            }
            _ => failure,
        })
    }

    /// What is known of a bucket.
    ///
    /// # Errors
    /// [`FailureKind::NoSuchBucket`], and what the store says.
    pub async fn bucket(&self, name: &BucketName) -> Result<Bucket> {
        self.0.bucket(name).await
    }

    /// All buckets, ascending by name.
    ///
    /// # Errors
    /// What the store says.
    pub async fn list_buckets(&self) -> Result<Vec<Bucket>> {
        let prefix = names::bucket_records();
        let rows: Vec<_> = self.0.store.list(&prefix).try_collect().await?;
        let names = rows.into_iter().filter_map(|row| names::bucket_of_record(&row.key));
        let buckets = names.map(|name| async move { self.0.bucket(&name).await });
        let found: Vec<_> = futures::stream::iter(buckets).buffered(PARALLEL).collect().await;
        // One that was removed meanwhile is none.
        found.into_iter().filter(|found| !is_gone(found)).collect()
    }

    /// Gives up the uploads of a bucket without objects, and removes it.
    ///
    /// # Errors
    /// Those of [`delete_bucket`](Self::delete_bucket), before anything is given up.
    pub async fn delete_bucket_with_uploads(&self, name: &BucketName) -> Result<()> {
        let inner = &self.0;
        inner.bucket(name).await?;
        inner.check_none(&name.prefix()).await?;
        let request = UploadsRequest { prefix: String::new(), after: Default::default(), max: usize::MAX };
        for upload in self.list_uploads(name, &request).await?.uploads {
            match self.abort(&name.object(&upload.key)?, &upload.id).await {
                Err(failure) if failure.kind() != FailureKind::NoSuchUpload => return Err(failure),
                _ => {}
            }
        }
        self.delete_bucket(name).await
    }

    /// Removes an empty bucket.
    ///
    /// # Errors
    /// [`FailureKind::NoSuchBucket`], [`FailureKind::BucketNotEmpty`], and what the store says.
    pub async fn delete_bucket(&self, name: &BucketName) -> Result<()> {
        self.0.bucket(name).await?;
        for prefix in [name.prefix(), names::uploads(name)] {
            self.0.check_none(&prefix).await?;
        }
        match self.0.store.delete(&names::bucket_record(name)?).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(no_such_bucket()),
            deleted => Ok(deleted?),
        }
    }

    /// Sets or removes the encryption of objects whose requests do not say it.
    ///
    /// # Errors
    /// [`FailureKind::NoSuchBucket`], those that a CMK's id can have, and what the store says.
    pub async fn set_encryption(&self, name: &BucketName, encryption: Option<Encryption>) -> Result<()> {
        if let Some(encryption) = &encryption {
            self.0.keys.recipient(&Sse::Managed(encryption.clone()))?;
        }
        let bucket = self.0.bucket(name).await?;
        self.0.write_bucket(&Bucket { encryption, ..bucket }, PutCondition::None).await
    }
}

impl Inner {
    async fn check_none(&self, prefix: &str) -> Result<()> {
        match self.store.list(prefix).next().await.transpose()? {
            None => Ok(()),
            Some(_) => {
                let message = "The bucket has objects or uploads. Please delete them first.";
                Err(Failure::new(FailureKind::BucketNotEmpty, message))
            }
        }
    }

    pub(super) async fn bucket(&self, name: &BucketName) -> Result<Bucket> {
        let json = self.read_small(&names::bucket_record(name)?).await?.ok_or_else(no_such_bucket)?;
        let record: Record =
            serde_json::from_slice(&json).ok().filter(|record: &Record| record.version == 1).ok_or_else(|| {
                Failure::new(FailureKind::Damaged, format!("The record of the bucket {name} is damaged."))
            })?;
        let created = UNIX_EPOCH + Duration::from_millis(record.created.min(1 << 50));
        Ok(Bucket { name: name.clone(), created, encryption: record.encryption })
    }

    async fn write_bucket(&self, bucket: &Bucket, condition: PutCondition) -> Result<()> {
        let record =
            Record { version: 1, created: super::millis(bucket.created), encryption: bucket.encryption.clone() };
        let json = serde_json::to_vec(&record).map_err(super::no_json)?;
        self.write_small(&names::bucket_record(&bucket.name)?, json, condition).await
    }
}

fn is_gone(found: &Result<Bucket>) -> bool {
    found.as_ref().is_err_and(|failure| failure.kind() == FailureKind::NoSuchBucket)
}

fn no_such_bucket() -> Failure {
    Failure::new(FailureKind::NoSuchBucket, "The specified bucket does not exist.")
}
