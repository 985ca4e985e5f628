//! What S3's answers mean: one table from codes and states of HTTP to kinds of error, with advice on trying again.
//!
//! Codes are those of <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>; compatible stores have some of their own.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

use crate::error::{Error, ErrorKind, Retry};

/// The longest pause that a store may ask for: a header must not stop an upload for a day.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// How far this machine's clock may be off before requests are refused, with something to spare: S3 allows 15 minutes.
const SKEW: Duration = Duration::from_secs(4 * 60);

/// A request, for what is said when it fails.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// As in "cannot …".
    pub(super) doing: String,
    /// Where it goes, for people.
    pub(super) place: Arc<str>,
    /// What a failed precondition means.
    pub(super) precondition: ErrorKind,
    /// Whether it is about parts that are stored, so that their bytes are not sent again with it.
    pub(super) of_stored_parts: bool,
}

impl Request {
    pub(super) fn new(doing: impl Into<String>) -> Self {
        Self {
            doing: doing.into(),
            place: Arc::from("the store"),
            precondition: ErrorKind::Changed,
            of_stored_parts: false,
        }
    }

    /// The same to a store that is there.
    pub(super) fn to(mut self, place: &Arc<str>) -> Self {
        self.place = Arc::clone(place);
        self
    }

    /// The same, under the condition that there is no object.
    pub(super) fn if_absent(mut self, is_condition: bool) -> Self {
        if is_condition {
            self.precondition = ErrorKind::AlreadyExists;
        }
        self
    }

    /// The same about parts that are stored.
    pub(super) fn of_stored_parts(mut self) -> Self {
        self.of_stored_parts = true;
        self
    }

    fn error(&self, kind: ErrorKind, why: impl fmt::Display) -> Error {
        Error::new(kind, format!("cannot {}: {why}", self.doing))
    }

    /// It did not end within the time it had.
    pub(super) fn timed_out(&self, allowed: Duration) -> Error {
        self.error(ErrorKind::Timeout, format_args!("no answer within {} s", allowed.as_secs())).with_retry(Retry::Yes)
    }

    /// The answer lacks what every answer of its kind has, so that nothing is known.
    pub(super) fn lacks(&self, what: &str) -> Error {
        self.error(ErrorKind::Io, format_args!("the store's answer has no {what}")).with_retry(Retry::Yes)
    }

    /// The answer contradicts the request.
    pub(super) fn contradicted(&self, how: impl fmt::Display) -> Error {
        self.error(ErrorKind::Io, how)
    }

    /// What the failure of a request means.
    pub(super) fn failed<E>(&self, error: SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        if let Some(response) = error.raw_response() {
            return self.answered(&Answer::of(&error, response));
        }
        let cause = Cause(root_cause(&error));
        if let Some(credentials) = find::<CredentialsError>(&error) {
            let (kind, retry, why) = match credentials {
                CredentialsError::ProviderTimedOut(_) | CredentialsError::ProviderError(_) => {
                    (ErrorKind::Unreachable, Retry::Yes, "the service that gives credentials on this machine fails")
                }
                _ => (ErrorKind::PermissionDenied, Retry::No, "there are no credentials"),
            };
            let why = format_args!(
                "{why}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, or log in with `aws sso login`"
            );
            return self.error(kind, why).with_retry(retry).with_source(cause);
        }
        if is_nobody_there(&error) {
            let why = format_args!("cannot connect to {}; check the endpoint and the network", self.place);
            return self.error(ErrorKind::Unreachable, why).with_retry(Retry::Yes).with_source(cause);
        }
        let (kind, why, retry) = match &error {
            SdkError::ConstructionFailure(_) => (ErrorKind::InvalidInput, "the request cannot be made", Retry::No),
            SdkError::TimeoutError(_) => (ErrorKind::Timeout, "the store does not answer in time", Retry::Yes),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                (ErrorKind::Timeout, "the store cannot be reached in time", Retry::Yes)
            }
            SdkError::DispatchFailure(failure) if failure.is_user() => {
                (ErrorKind::InvalidInput, "the request cannot be sent", Retry::No)
            }
            _ => (ErrorKind::Io, "the connection to the store failed", Retry::Yes),
        };
        self.error(kind, why).with_retry(retry).with_source(cause)
    }

    fn answered(&self, answer: &Answer) -> Error {
        let (kind, why, retry) = answer.meaning(self.precondition);
        // What is wrong with stored parts stays wrong.
        let is_final = self.of_stored_parts && answer.code.as_deref() == Some("BadDigest");
        let retry = if is_final { Retry::No } else { retry };
        self.error(kind, why).with_retry(retry).with_source(Cause(answer.to_string()))
    }
}

/// Whether a request was refused because this machine's clock is off. The SDK has learned by how much from the answer, and signs the
/// next request of the same client with the right time.
pub(super) fn is_clock_skew<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    match (error.code(), error.raw_response()) {
        (Some(code), _) => matches!(code, "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture"),
        // The answer to a HEAD has no body that could say why.
        (None, Some(response)) => {
            let date = response.headers().get("date").and_then(http_date);
            response.status().as_u16() == 403 && date.is_some_and(|date| differ(date, SystemTime::now()) > SKEW)
        }
        (None, None) => false,
    }
}

fn differ(a: SystemTime, b: SystemTime) -> Duration {
    a.duration_since(b).unwrap_or_else(|error| error.duration())
}

pub(super) fn http_date(text: &str) -> Option<SystemTime> {
    SystemTime::try_from(DateTime::from_str(text.trim(), DateTimeFormat::HttpDate).ok()?).ok()
}

/// What is told of a refusal.
struct Answer {
    status: u16,
    code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
    retry_after: Option<Duration>,
    region: Option<String>,
    /// Which part of the answer could not be read, if it was no proper refusal.
    broken: Option<String>,
}

impl Answer {
    fn of<E>(error: &SdkError<E>, response: &HttpResponse) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let header = |name: &str| response.headers().get(name).map(str::to_owned);
        let own = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        Self {
            status: response.status().as_u16(),
            code: own(error.code()),
            message: own(error.message()),
            request_id: header("x-amz-request-id"),
            retry_after: header("retry-after").and_then(|text| pause(&text, SystemTime::now())),
            region: header("x-amz-bucket-region"),
            broken: error.code().is_none().then(|| root_cause(error)),
        }
    }

    fn meaning(&self, precondition: ErrorKind) -> (ErrorKind, String, Retry) {
        use ErrorKind as K;
        let again = self.retry_after.map_or(Retry::Yes, Retry::After);
        let say = |kind, why: &str, retry| (kind, why.to_owned(), retry);
        if let Some(code) = self.code.as_deref() {
            let known = match code {
                "NoSuchKey" | "NotFound" => say(K::NotFound, "there is no such object", Retry::No),
                "NoSuchUpload" => say(K::NotFound, "there is no such upload: it was completed or aborted", Retry::No),
                "NoSuchBucket" => say(K::NotFound, "there is no such bucket", Retry::No),
                "PreconditionFailed" => return self.precondition(precondition),
                "ConditionalRequestConflict" | "OperationAborted" => {
                    say(K::Changed, "another request for the same object is under way", Retry::Yes)
                }
                "InvalidPart" => say(K::Changed, "a part is missing or was stored again", Retry::No),
                "InvalidPartOrder" => say(K::InvalidInput, "the parts are not listed in ascending order", Retry::No),
                "EntityTooSmall" => {
                    say(K::LimitExceeded, "a part that is not the last is shorter than 5 MiB", Retry::No)
                }
                "EntityTooLarge" => say(K::LimitExceeded, "it is longer than the store takes", Retry::No),
                "MetadataTooLarge" | "RequestHeaderSectionTooLarge" => {
                    say(K::LimitExceeded, "there is more metadata than the store takes", Retry::No)
                }
                "KeyTooLongError" => say(K::InvalidInput, "the key is longer than the store takes", Retry::No),
                "InvalidRange" => say(K::RangeNotSatisfiable, "the range holds no byte of the object", Retry::No),
                "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture" => {
                    say(K::PermissionDenied, "this machine's clock is off by many minutes: set it", Retry::Yes)
                }
                "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "InvalidToken" => say(
                    K::PermissionDenied,
                    "the session token has expired or is not valid: log in again (`aws sso login`), or set fresh credentials",
                    Retry::No,
                ),
                "InvalidAccessKeyId" => say(
                    K::PermissionDenied,
                    "the store does not know the access key: check credentials and endpoint",
                    Retry::No,
                ),
                "SignatureDoesNotMatch" => say(
                    K::PermissionDenied,
                    "the signature does not match: check the secret access key, and that nothing between here and the store changes \
                     requests",
                    Retry::No,
                ),
                "InvalidObjectState" => say(K::PermissionDenied, "the object is archived: restore it first", Retry::No),
                "SlowDown"
                | "ServiceUnavailable"
                | "Throttling"
                | "ThrottlingException"
                | "TooManyRequests"
                | "RequestLimitExceeded"
                | "BandwidthLimitExceeded"
                | "RequestThrottled" => say(K::Throttled, "the store asks for fewer requests", again),
                "RequestTimeout" | "RequestTimeoutException" => {
                    say(K::Timeout, "the store did not get the request in time", again)
                }
                "InternalError" | "InternalServerError" | "InternalFailure" => {
                    say(K::Io, "the store has an internal error", again)
                }
                "BadDigest"
                | "InvalidDigest"
                | "XAmzContentSHA256Mismatch"
                | "XAmzContentChecksumMismatch"
                | "IncompleteBody" => say(K::Io, "what arrived at the store is not what was sent", Retry::Yes),
                "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" | "InsufficientCapacity" => {
                    say(K::NoSpace, "the store has no room left", Retry::No)
                }
                "NotImplemented" => say(K::Io, "the store cannot do that", Retry::No),
                _ => return self.by_status(precondition, again),
            };
            return known;
        }
        self.by_status(precondition, again)
    }

    fn by_status(&self, precondition: ErrorKind, again: Retry) -> (ErrorKind, String, Retry) {
        use ErrorKind as K;
        let (kind, why, retry) = match self.status {
            // A success that is none: a refusal in its body, or a body that ends in the middle.
            200..=299 => (K::Io, "the store began to say yes and then failed", again),
            301 | 302 | 307 | 308 => return self.other_region(),
            400 if self.region.is_some() && self.code.as_deref() == Some("AuthorizationHeaderMalformed") => {
                return self.other_region();
            }
            401 | 403 => (
                K::PermissionDenied,
                "access was refused: check the credentials, and that they allow this (s3:GetObject, s3:PutObject, s3:DeleteObject, \
                 s3:ListBucket, s3:AbortMultipartUpload, s3:ListMultipartUploadParts, s3:ListBucketMultipartUploads)",
                Retry::No,
            ),
            404 => (K::NotFound, "there is no such object, or no such bucket", Retry::No),
            408 => (K::Timeout, "the store did not get the request in time", again),
            409 => (K::Changed, "another request for the same object is under way", Retry::Yes),
            412 => return self.precondition(precondition),
            416 => (K::RangeNotSatisfiable, "the range holds no byte of the object", Retry::No),
            429 | 503 => (K::Throttled, "the store asks for fewer requests", again),
            507 => (K::NoSpace, "the store has no room left", Retry::No),
            501 | 505 => (K::Io, "the store cannot do that", Retry::No),
            500..=599 => (K::Io, "the store failed", again),
            _ => (K::Io, "the store refused it", Retry::No),
        };
        (kind, why.to_owned(), retry)
    }

    fn precondition(&self, precondition: ErrorKind) -> (ErrorKind, String, Retry) {
        let why = match precondition {
            ErrorKind::AlreadyExists => "there is an object already",
            _ => "the object is not what it was",
        };
        (precondition, why.to_owned(), Retry::No)
    }

    fn other_region(&self) -> (ErrorKind, String, Retry) {
        let why = match &self.region {
            Some(region) => format!("the bucket is in the region {region}: say so (`--region {region}`)"),
            None => "the bucket is in another region or at another endpoint: say which (`--region`, `--endpoint`)"
                .to_owned(),
        };
        (ErrorKind::InvalidInput, why, Retry::No)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.code, &self.broken) {
            (Some(code), _) => write!(f, "{code}")?,
            (None, Some(broken)) => write!(f, "{broken}")?,
            (None, None) => f.write_str("no reason given")?,
        }
        if let Some(message) = &self.message {
            write!(f, ": {}", message.trim_end_matches('.'))?;
        }
        write!(f, " (HTTP {}", self.status)?;
        if let Some(id) = &self.request_id {
            write!(f, ", request {id}")?;
        }
        f.write_str(")")
    }
}

/// The store's or the network's own words.
#[derive(Debug)]
pub(super) struct Cause(pub(super) String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Cause {}

/// The deepest cause, which is the one that says something.
pub(super) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().unwrap_or(error).to_string()
}

/// Whether no connection was made: refused, or there is no such host, for which the HTTP client has only words.
fn is_nobody_there(error: &(dyn StdError + 'static)) -> bool {
    use io::ErrorKind as K;
    let is_refusal =
        |kind| matches!(kind, K::ConnectionRefused | K::HostUnreachable | K::NetworkUnreachable | K::NetworkDown);
    find::<io::Error>(error).is_some_and(|error| is_refusal(error.kind()))
        || chain(error).any(|error| error.to_string() == "dns error")
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// An error and its causes.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.
fn pause(text: &str, now: SystemTime) -> Option<Duration> {
    let pause = match text.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => http_date(text)?.duration_since(now).unwrap_or_default(),
    };
    Some(pause.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, code: &str) -> Answer {
        let code = (!code.is_empty()).then(|| code.to_owned());
        Answer { status, code, message: None, request_id: None, retry_after: None, region: None, broken: None }
    }

    #[test]
    fn answers_have_the_kind_and_the_advice_that_the_documentation_gives_them() {
        use ErrorKind as K;
        for (status, code, kind, retry) in [
            (404, "NoSuchKey", K::NotFound, false),
            (404, "NoSuchUpload", K::NotFound, false),
            (404, "", K::NotFound, false),
            (412, "PreconditionFailed", K::Changed, false),
            (412, "", K::Changed, false),
            (409, "ConditionalRequestConflict", K::Changed, true),
            (400, "InvalidPart", K::Changed, false),
            (400, "EntityTooSmall", K::LimitExceeded, false),
            (416, "InvalidRange", K::RangeNotSatisfiable, false),
            (403, "AccessDenied", K::PermissionDenied, false),
            (403, "", K::PermissionDenied, false),
            (400, "ExpiredToken", K::PermissionDenied, false),
            (403, "RequestTimeTooSkewed", K::PermissionDenied, true),
            (400, "RequestTimeout", K::Timeout, true),
            (503, "SlowDown", K::Throttled, true),
            (503, "", K::Throttled, true),
            (429, "", K::Throttled, true),
            (500, "InternalError", K::Io, true),
            (502, "", K::Io, true),
            // Refusals in the body of a success.
            (200, "InternalError", K::Io, true),
            (200, "SlowDown", K::Throttled, true),
            (200, "NoSuchUpload", K::NotFound, false),
            (200, "SomethingNew", K::Io, true),
            (400, "SomethingNew", K::Io, false),
            (501, "NotImplemented", K::Io, false),
            (507, "", K::NoSpace, false),
        ] {
            let (found, why, advice) = answer(status, code).meaning(K::Changed);
            assert_eq!((found, advice != Retry::No), (kind, retry), "{status} {code}: {why}");
        }
    }

    #[test]
    fn a_failed_condition_is_what_the_request_says() {
        for (status, code) in [(412, "PreconditionFailed"), (412, "")] {
            assert_eq!(answer(status, code).meaning(ErrorKind::AlreadyExists).0, ErrorKind::AlreadyExists);
        }
    }

    #[test]
    fn the_pause_that_the_store_asks_for_is_kept_within_reason() {
        let slow = Answer { retry_after: Some(Duration::from_secs(7)), ..answer(503, "SlowDown") };
        assert_eq!(slow.meaning(ErrorKind::Changed).2, Retry::After(Duration::from_secs(7)));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(pause("7", now), Some(Duration::from_secs(7)));
        assert_eq!(pause("Sun, 06 Nov 1994 08:49:40 GMT", now), Some(Duration::from_secs(3)));
        assert_eq!(pause("Sun, 06 Nov 1994 08:49:30 GMT", now), Some(Duration::ZERO));
        assert_eq!(pause("86400", now), Some(LONGEST_PAUSE));
        assert_eq!(pause("soon", now), None);
        assert_eq!(pause("-1", now), None);
    }

    #[test]
    fn a_bucket_elsewhere_says_where() {
        let elsewhere = Answer { region: Some("eu-west-1".to_owned()), ..answer(301, "PermanentRedirect") };
        let (kind, why, _) = elsewhere.meaning(ErrorKind::Changed);
        assert_eq!(kind, ErrorKind::InvalidInput);
        assert!(why.contains("--region eu-west-1"), "{why}");
    }
}
