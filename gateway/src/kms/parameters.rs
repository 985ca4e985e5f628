//! What a request says: its parameters, from query, form and headers.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header;
use http::request::Parts;
use zeroize::Zeroizing;

use super::answer::{Format, Refusal, Result};

/// The parameters of a request. Any of them may be a secret.
pub(super) struct Parameters {
    all: BTreeMap<String, Zeroizing<String>>,
    /// What headers say in place of parameters.
    action: Option<String>,
    version: Option<String>,
    nonce: Option<String>,
}

impl Parameters {
    /// Those of the query, and of the body where that is a form. Each may be there once.
    pub(super) fn read(head: &Parts, body: &[u8]) -> Result<Self> {
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let is_form = header(header::CONTENT_TYPE.as_str()).is_some_and(|media| media.starts_with(FORM));
        if !body.is_empty() && !is_form {
            return Err(Refusal::new(400, "UnsupportedContentType", format!("The body must be {FORM}.")));
        }
        let mut all = BTreeMap::new();
        let query = head.uri.query().unwrap_or_default().as_bytes();
        for (name, value) in form_urlencoded::parse(query).chain(form_urlencoded::parse(body)) {
            let value = Zeroizing::new(value.into_owned());
            if all.insert(name.to_string(), value).is_some() {
                return Err(Refusal::parameter(format!("the parameter {name} is there twice")));
            }
        }
        let header = |name| header(name).map(str::to_owned);
        let (action, version, nonce) =
            (header("x-acs-action"), header("x-acs-version"), header("x-acs-signature-nonce"));
        Ok(Self { all, action, version, nonce })
    }

    /// Name and value of every parameter, ascending by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn action(&self) -> Option<&str> {
        self.action.as_deref().or_else(|| self.get("Action"))
    }

    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref().or_else(|| self.get("Version"))
    }

    pub(super) fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref().or_else(|| self.get("SignatureNonce"))
    }

    /// How the answer is to be written.
    pub(super) fn format(&self) -> Result<Format> {
        match self.get("Format") {
            None if self.action.is_some() => Ok(Format::json()),
            None | Some("XML") => Ok(Format::xml()),
            Some("JSON") => Ok(Format::json()),
            Some(_) => Err(Refusal::new(400, "InvalidFormat", "The parameter Format is JSON or XML.")),
        }
    }

    /// A parameter that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all.get(name).map(|value| value.as_str()).filter(|value| !value.is_empty())
    }

    pub(super) fn required(&self, name: &'static str) -> Result<&str> {
        self.get(name).ok_or_else(|| Refusal::missing(name))
    }

    pub(super) fn required_base64(&self, name: &'static str) -> Result<Zeroizing<Vec<u8>>> {
        let text = self.required(name)?;
        // Not with the decoder's own error, which quotes what it could not decode.
        let refused = |_| Refusal::parameter(format!("{name} is not base64"));
        STANDARD.decode(text).map(Zeroizing::new).map_err(refused)
    }

    /// A number within bounds, or the default where there is none.
    pub(super) fn number(
        &self,
        name: &'static str,
        default: u64,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> Result<u64> {
        let Some(text) = self.get(name) else { return Ok(default) };
        text.parse().ok().filter(|number| bounds.contains(number)).ok_or_else(|| {
            Refusal::parameter(format!("{name} is a number from {} to {}", bounds.start(), bounds.end()))
        })
    }

    /// An encryption context: a JSON object of strings; none is an empty one.
    pub(super) fn context(&self, name: &'static str) -> Result<BTreeMap<String, String>> {
        let refused = |_| Refusal::parameter(format!("{name} is not a JSON object of strings"));
        self.get(name).map_or(Ok(BTreeMap::new()), |text| serde_json::from_str(text).map_err(refused))
    }

    /// The part of `all` that is asked for, with what says so.
    pub(super) fn page<T>(&self, all: Vec<T>) -> Result<(Vec<T>, Counts)> {
        let number = self.number("PageNumber", 1, 1..=u64::from(u32::MAX))?;
        let size = self.number("PageSize", 10, 1..=100)?;
        let total = all.len() as u64;
        let skip = usize::try_from((number - 1).saturating_mul(size)).unwrap_or(usize::MAX);
        let page = all.into_iter().skip(skip).take(usize::try_from(size).unwrap_or(usize::MAX)).collect();
        Ok((page, [("PageNumber", number), ("PageSize", size), ("TotalCount", total)]))
    }
}

/// Number and size of a page, and how many there are in all, by the names that answers have for them.
pub(super) type Counts = [(&'static str, u64); 3];

const FORM: &str = "application/x-www-form-urlencoded";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, body: &str) -> Result<Parameters> {
        let request = http::Request::builder().method("POST").uri(format!("/?{query}")).header("content-type", FORM);
        Parameters::read(&request.body(()).unwrap().into_parts().0, body.as_bytes())
    }

    #[test]
    fn parameters_come_from_query_and_form() {
        let parameters =
            read("Action=Encrypt&Version=2016-01-20&Format=JSON", "KeyId=alias%2Fa&Plaintext=AA%3D%3D").unwrap();
        assert_eq!((parameters.action(), parameters.get("KeyId")), (Some("Encrypt"), Some("alias/a")));
        assert_eq!(*parameters.required_base64("Plaintext").unwrap(), [0]);
        assert!(parameters.context("EncryptionContext").unwrap().is_empty());
        assert_eq!(parameters.required("CiphertextBlob").unwrap_err().code, "MissingParameter");
        assert!(read("KeyId=a", "KeyId=b").is_err());
    }

    #[test]
    fn what_is_not_what_it_must_be_is_refused_without_being_quoted() {
        let parameters = read("P=s3cr3t&N=8&E=%5B%5D&D=%7B%22a%22%3A1%7D", "").unwrap();
        for refused in [
            parameters.required_base64("P").unwrap_err(),
            parameters.number("N", 1, 1..=7).unwrap_err(),
            parameters.number("P", 1, 1..=7).unwrap_err(),
            parameters.context("E").unwrap_err(),
            parameters.context("D").unwrap_err(),
        ] {
            assert_eq!((refused.status, refused.code.as_ref()), (400, "InvalidParameter"));
            assert!(!refused.message.contains("s3cr3t"), "{}", refused.message);
        }
        assert_eq!(parameters.number("N", 1, 1..=8).unwrap(), 8);
        assert_eq!(parameters.number("M", 5, 1..=8).unwrap(), 5);
    }

    #[test]
    fn pages_are_cut_from_all() {
        let page = |query: &str| read(query, "").unwrap().page((0..25).collect()).map(|(page, _): (Vec<i32>, _)| page);
        assert_eq!(page("").unwrap(), (0..10).collect::<Vec<_>>());
        assert_eq!(page("PageNumber=3").unwrap(), (20..25).collect::<Vec<_>>());
        assert!(page("PageNumber=4294967295&PageSize=100").unwrap().is_empty());
        assert!(page("PageSize=101").is_err() && page("PageNumber=0").is_err());
    }
}
