//! What the server itself refuses, said as each protocol says it.

use http::{HeaderValue, StatusCode, header};

use super::dialect::{Protocol, RequestId, Response, full};

/// An error before any dialect was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Too many requests are being answered already.
    Busy,
    /// The body's length is announced and more than the gateway takes.
    TooLong,
    /// This gateway does not speak that protocol: it has no key store of its own to manage.
    NotServed,
}

impl Refusal {
    /// For metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::TooLong => "too_long",
            Self::NotServed => "not_served",
        }
    }

    /// Status, code, what KMS calls it, and message.
    const fn said(self) -> (StatusCode, &'static str, &'static str, &'static str) {
        match self {
            Self::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "Throttling", "Please reduce your request rate.")
            }
            Self::TooLong => (
                StatusCode::BAD_REQUEST,
                "EntityTooLarge",
                "InvalidParameter",
                "Your proposed upload exceeds the maximum allowed size.",
            ),
            Self::NotServed => (
                StatusCode::FORBIDDEN,
                "NotImplemented",
                "Forbidden.KmsServiceNotEnabled",
                "This gateway does not serve the protocol of this request.",
            ),
        }
    }

    pub(super) fn response(self, protocol: Protocol, id: &RequestId) -> Response {
        let (status, code, kms_code, message) = self.said();
        let id = &id.0;
        let (media_type, body) = match protocol {
            Protocol::Kms => {
                let body = serde_json::json!({
                    "HttpStatus": status.as_u16(), "Code": kms_code, "Message": message, "RequestId": id
                });
                ("application/json", body.to_string())
            }
            Protocol::Oss | Protocol::S3 => {
                let body = format!(
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
                     <RequestId>{id}</RequestId><HostId>sealift</HostId></Error>"
                );
                ("application/xml", body)
            }
        };
        let mut response = Response::new(full(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        if self == Self::Busy {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        // The body that was announced is not read.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }
}
