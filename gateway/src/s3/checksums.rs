//! Checksums, as S3 names them. The library has a field for each algorithm.

use s3s::dto;
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::error::{invalid_argument, s3_error};
use crate::service::{Checksum, ChecksumAlgorithm, ChecksumKind, ChecksumType};

/// The checksums that an input has.
macro_rules! checksums {
    ($input:ident) => {
        [
            (ChecksumAlgorithm::Crc32, $input.checksum_crc32),
            (ChecksumAlgorithm::Crc32c, $input.checksum_crc32c),
            (ChecksumAlgorithm::Crc64Nvme, $input.checksum_crc64nvme),
            (ChecksumAlgorithm::Sha1, $input.checksum_sha1),
            (ChecksumAlgorithm::Sha256, $input.checksum_sha256),
        ]
    };
}

/// Answers with a checksum, if there is one.
macro_rules! set_checksum {
    ($output:ident, $checksum:expr) => {
        let checksum = named($checksum);
        $output.checksum_crc32 = checksum.checksum_crc32;
        $output.checksum_crc32c = checksum.checksum_crc32c;
        $output.checksum_crc64nvme = checksum.checksum_crc64nvme;
        $output.checksum_sha1 = checksum.checksum_sha1;
        $output.checksum_sha256 = checksum.checksum_sha256;
    };
}

pub(super) use {checksums, set_checksum};

/// The one checksum that a request may have.
pub(super) fn one(
    given: impl IntoIterator<Item = (ChecksumAlgorithm, Option<String>)>,
) -> S3Result<Option<(ChecksumAlgorithm, String)>> {
    let mut given = given.into_iter().filter_map(|(algorithm, value)| Some((algorithm, value?)));
    match (given.next(), given.next()) {
        (one, None) => Ok(one),
        (_, Some(_)) => {
            Err(invalid("Expecting a single x-amz-checksum- header. Multiple checksum types are not allowed."))
        }
    }
}

/// The checksum that an upload is to have.
pub(super) fn kind(
    algorithm: Option<&dto::ChecksumAlgorithm>,
    of: Option<&dto::ChecksumType>,
) -> S3Result<Option<ChecksumKind>> {
    match (algorithm, of) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(invalid("The x-amz-checksum-type header goes with x-amz-checksum-algorithm.")),
        (Some(name), of) => {
            ChecksumKind::new(algorithm_of(name)?, of.map(type_of).transpose()?).map(Some).map_err(s3_error)
        }
    }
}

/// The algorithm that S3 calls so.
pub(super) fn algorithm_of(name: &dto::ChecksumAlgorithm) -> S3Result<ChecksumAlgorithm> {
    let found = ChecksumAlgorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name.as_str());
    found.ok_or_else(|| {
        invalid("Checksum algorithm provided is unsupported. Please try again with any of the valid types.")
    })
}

/// What S3 calls an algorithm.
pub(super) fn algorithm_name(algorithm: ChecksumAlgorithm) -> dto::ChecksumAlgorithm {
    dto::ChecksumAlgorithm::from_static(algorithm.name())
}

/// The type that S3 calls so.
pub(super) fn type_of(name: &dto::ChecksumType) -> S3Result<ChecksumType> {
    match name.as_str() {
        dto::ChecksumType::FULL_OBJECT => Ok(ChecksumType::FullObject),
        dto::ChecksumType::COMPOSITE => Ok(ChecksumType::Composite),
        _ => Err(invalid_argument("The checksum type is FULL_OBJECT or COMPOSITE.")),
    }
}

/// What S3 calls a type.
pub(super) fn type_name(of: ChecksumType) -> dto::ChecksumType {
    dto::ChecksumType::from_static(match of {
        ChecksumType::FullObject => dto::ChecksumType::FULL_OBJECT,
        ChecksumType::Composite => dto::ChecksumType::COMPOSITE,
    })
}

/// A checksum in the field that is its algorithm's.
pub(super) fn named(checksum: Option<&Checksum>) -> dto::Checksum {
    let value = |algorithm| {
        checksum.filter(|checksum| checksum.algorithm() == algorithm).map(|checksum| checksum.value().to_owned())
    };
    dto::Checksum {
        checksum_crc32: value(ChecksumAlgorithm::Crc32),
        checksum_crc32c: value(ChecksumAlgorithm::Crc32c),
        checksum_crc64nvme: value(ChecksumAlgorithm::Crc64Nvme),
        checksum_sha1: value(ChecksumAlgorithm::Sha1),
        checksum_sha256: value(ChecksumAlgorithm::Sha256),
        checksum_type: checksum.map(|checksum| type_name(checksum.of())),
    }
}

/// The header, or trailer, of a checksum.
pub(super) fn header(algorithm: ChecksumAlgorithm) -> String {
    format!("x-amz-checksum-{}", algorithm.name().to_ascii_lowercase())
}

pub(super) fn invalid(why: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidRequest, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_one_checksum_at_most() {
        let given = |values: [Option<&str>; 2]| {
            let algorithms = [ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Sha1];
            one(algorithms.into_iter().zip(values.map(|value| value.map(str::to_owned))))
        };
        assert_eq!(given([None, None]).unwrap(), None);
        assert_eq!(given([None, Some("x")]).unwrap(), Some((ChecksumAlgorithm::Sha1, "x".to_owned())));
        assert_eq!(given([Some("x"), Some("x")]).unwrap_err().code().as_str(), "InvalidRequest");
    }

    #[test]
    fn uploads_have_the_checksums_that_s3_has() {
        let kind = |algorithm: Option<&'static str>, of: Option<&'static str>| {
            let (algorithm, of) =
                (algorithm.map(dto::ChecksumAlgorithm::from_static), of.map(dto::ChecksumType::from_static));
            kind(algorithm.as_ref(), of.as_ref())
                .map(|kind| kind.map(|kind| (kind.algorithm().name(), type_name(kind.of()))))
        };
        let full = dto::ChecksumType::from_static("FULL_OBJECT");
        assert_eq!(kind(None, None).unwrap(), None);
        assert_eq!(kind(Some("CRC64NVME"), None).unwrap(), Some(("CRC64NVME", full.clone())));
        assert_eq!(kind(Some("CRC32"), Some("FULL_OBJECT")).unwrap(), Some(("CRC32", full)));
        for (algorithm, of) in [(Some("SHA256"), Some("FULL_OBJECT")), (Some("MD5"), None), (None, Some("COMPOSITE"))] {
            assert_eq!(kind(algorithm, of).unwrap_err().code().as_str(), "InvalidRequest");
        }
        assert_eq!(header(ChecksumAlgorithm::Crc64Nvme), "x-amz-checksum-crc64nvme");
    }
}
