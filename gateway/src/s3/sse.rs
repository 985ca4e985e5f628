//! Server-side encryption, as S3 names it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use s3s::dto::ServerSideEncryption;
use s3s::{S3Error, S3ErrorCode, S3Result};
use zeroize::Zeroizing;

use super::error::{invalid_argument, not_implemented, s3_error};
use crate::access::is_same;
use crate::service::{CustomerKey, Encrypted, Encryption, Sse};

/// The headers with which a request asks for encryption.
pub(super) struct Asked {
    pub(super) algorithm: Option<ServerSideEncryption>,
    pub(super) key_id: Option<String>,
    pub(super) context: Option<String>,
    pub(super) customer: Option<Customer>,
}

/// The headers of a customer's key, which writes and reads alike have.
pub(super) struct Customer {
    algorithm: Option<String>,
    key: Option<Zeroizing<String>>,
    md5: Option<String>,
}

impl Customer {
    /// None if none of them is there.
    pub(super) fn of(algorithm: Option<String>, key: Option<String>, md5: Option<String>) -> Option<Self> {
        let any = algorithm.is_some() || key.is_some() || md5.is_some();
        any.then(|| Self { algorithm, key: key.map(Zeroizing::new), md5 })
    }

    /// The key, and its MD5 in base64 to answer with.
    pub(super) fn key(self) -> S3Result<(CustomerKey, String)> {
        let (Some(algorithm), Some(key), Some(md5)) = (self.algorithm, self.key, self.md5) else {
            return Err(invalid_argument(
                "Requests with a customer's key have its algorithm, the key, and the key's MD5.",
            ));
        };
        if algorithm != ServerSideEncryption::AES256 {
            return Err(S3Error::new(S3ErrorCode::InvalidEncryptionAlgorithmError));
        }
        let none = || invalid_argument("The customer's key is not base64 of 32 bytes.");
        let mut bytes = Zeroizing::new(STANDARD.decode(key.as_bytes()).map_err(|_| none())?);
        let found = STANDARD.encode(Md5::digest(&*bytes));
        if !is_same(found.as_bytes(), md5.as_bytes()) {
            return Err(invalid_argument("The MD5 of the customer's key is another than what was sent."));
        }
        Ok((CustomerKey::take(&mut bytes).map_err(|_| none())?, md5))
    }
}

/// The key that a request to read brings.
pub(super) fn reading_key(customer: Option<Customer>) -> S3Result<(Option<CustomerKey>, Option<String>)> {
    Ok(customer.map(Customer::key).transpose()?.unzip())
}

impl Asked {
    /// What the service is to do, and the MD5 of a customer's key.
    pub(super) fn sse(self) -> S3Result<(Option<Sse>, Option<String>)> {
        if self.context.is_some() {
            return Err(not_implemented("An encryption context of the client's own is not supported."));
        }
        if let Some(customer) = self.customer {
            if self.algorithm.is_some() || self.key_id.is_some() {
                return Err(invalid_argument(
                    "An object is encrypted under a customer's key or one of the service, not both.",
                ));
            }
            let (key, md5) = customer.key()?;
            return Ok((Some(Sse::Customer(key)), Some(md5)));
        }
        let sse = match (self.algorithm, self.key_id) {
            (None, None) => None,
            (None, Some(_)) => {
                return Err(invalid_argument("A key id goes with x-amz-server-side-encryption: aws:kms."));
            }
            (Some(algorithm), key_id) => Some(Sse::Managed(encryption(&algorithm, key_id)?)),
        };
        Ok((sse, None))
    }
}

/// What a bucket's rule or a request names.
pub(super) fn encryption(algorithm: &ServerSideEncryption, key_id: Option<String>) -> S3Result<Encryption> {
    match (algorithm.as_str(), key_id) {
        (ServerSideEncryption::AES256, None) => Ok(Encryption::Aes256),
        (ServerSideEncryption::AES256, Some(_)) => Err(invalid_argument("A key id goes with aws:kms.")),
        (ServerSideEncryption::AWS_KMS, key_id) => Ok(Encryption::Kms { key_id }),
        _ => {
            let message =
                "The encryption request that you specified is not valid. The valid values are AES256 and aws:kms.";
            Err(s3_error(crate::service::Failure::new(
                crate::service::FailureKind::InvalidEncryptionAlgorithm,
                message,
            )))
        }
    }
}

/// How answers say it: the algorithm, the CMK, and the algorithm of a customer's key.
pub(super) fn told(encrypted: Option<&Encrypted>) -> (Option<ServerSideEncryption>, Option<String>, Option<String>) {
    let named = |name| Some(ServerSideEncryption::from_static(name));
    match encrypted {
        None => (None, None, None),
        Some(Encrypted::Aes256) => (named(ServerSideEncryption::AES256), None, None),
        Some(Encrypted::Kms { key_id }) => (named(ServerSideEncryption::AWS_KMS), Some(key_id.clone()), None),
        Some(Encrypted::Customer) => (None, None, Some(ServerSideEncryption::AES256.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(algorithm: Option<&'static str>, key_id: Option<&str>, customer: Option<Customer>) -> Asked {
        let algorithm = algorithm.map(ServerSideEncryption::from_static);
        Asked { algorithm, key_id: key_id.map(str::to_owned), context: None, customer }
    }

    fn customer(key: &[u8], md5_of: &[u8]) -> Option<Customer> {
        let (key, md5) = (STANDARD.encode(key), STANDARD.encode(Md5::digest(md5_of)));
        Customer::of(Some("AES256".to_owned()), Some(key), Some(md5))
    }

    #[test]
    fn requests_ask_for_one_kind_of_encryption() {
        assert!(asked(None, None, None).sse().unwrap().0.is_none());
        assert!(matches!(
            asked(Some("aws:kms"), Some("k"), None).sse().unwrap().0,
            Some(Sse::Managed(Encryption::Kms { key_id: Some(_) }))
        ));
        assert!(matches!(asked(Some("AES256"), None, None).sse().unwrap().0, Some(Sse::Managed(Encryption::Aes256))));
        let (sse, md5) = asked(None, None, customer(&[7; 32], &[7; 32])).sse().unwrap();
        assert!(matches!(sse, Some(Sse::Customer(_))) && md5.is_some());
        let code = |asked: Asked| asked.sse().map(|_| ()).unwrap_err().code().as_str().to_owned();
        for bad in [
            asked(None, Some("k"), None),
            asked(Some("AES256"), Some("k"), None),
            asked(Some("AES256"), None, customer(&[7; 32], &[7; 32])),
            asked(None, None, customer(&[7; 32], &[8; 32])),
            asked(None, None, customer(&[7; 31], &[7; 31])),
            asked(None, None, Customer::of(Some("AES256".to_owned()), None, None)),
        ] {
            assert_eq!(code(bad), "InvalidArgument");
        }
        assert_eq!(code(asked(Some("aws:kms:dsse"), None, None)), "InvalidEncryptionAlgorithmError");
    }
}
