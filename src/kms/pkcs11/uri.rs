//! PKCS #11 URIs ([RFC 7512](https://www.rfc-editor.org/rfc/rfc7512)): which module, token and key, and where the PIN is.

use std::fs::File;
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};
use crate::kms::secret;
use crate::store::percent_decode;

/// What a URI says. Attributes that it leaves out match everything.
pub(super) struct Pkcs11Uri {
    pub(super) module: PathBuf,
    pub(super) token: Option<String>,
    pub(super) manufacturer: Option<String>,
    pub(super) model: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) slot_id: Option<u64>,
    /// CKA_LABEL of the key.
    pub(super) object: Option<String>,
    /// CKA_ID of the key.
    pub(super) id: Option<Vec<u8>>,
    pub(super) pin: Option<Pin>,
}

pub(super) enum Pin {
    Value(Zeroizing<String>),
    /// A file whose content it is.
    File(PathBuf),
}

impl Pkcs11Uri {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let rest = text.strip_prefix("pkcs11:").ok_or_else(|| {
            invalid("it begins with `pkcs11:`, as in `pkcs11:token=NAME?module-path=/path/to/module.so`".to_owned())
        })?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));

        let mut uri = Self {
            module: PathBuf::new(),
            token: None,
            manufacturer: None,
            model: None,
            serial: None,
            slot_id: None,
            object: None,
            id: None,
            pin: None,
        };
        let mut module = None;
        let (mut value, mut source) = (None, None);
        let attributes = path.split(';').chain(query.split('&')).filter(|attribute| !attribute.is_empty());
        for attribute in attributes {
            // Not the attribute itself in a message: it may be a PIN.
            let (name, encoded) =
                attribute.split_once('=').ok_or_else(|| invalid("an attribute is NAME=VALUE".to_owned()))?;
            let bytes = decode(name, encoded)?;
            match name {
                "token" => set(name, &mut uri.token, string(name, bytes)?)?,
                "manufacturer" => set(name, &mut uri.manufacturer, string(name, bytes)?)?,
                "model" => set(name, &mut uri.model, string(name, bytes)?)?,
                "serial" => set(name, &mut uri.serial, string(name, bytes)?)?,
                "object" => set(name, &mut uri.object, string(name, bytes)?)?,
                "id" => set(name, &mut uri.id, bytes.to_vec())?,
                "slot-id" => {
                    let slot = string(name, bytes)?.parse();
                    set(name, &mut uri.slot_id, slot.map_err(|_| invalid("`slot-id` is a number".to_owned()))?)?;
                }
                "type" if bytes.as_slice() == b"secret-key" => {}
                "type" => return Err(invalid("the key that wraps data keys has `type=secret-key`".to_owned())),
                "module-path" => set(name, &mut module, PathBuf::from(string(name, bytes)?))?,
                "pin-value" => {
                    let pin = std::str::from_utf8(&bytes).map_err(|_| invalid("`pin-value` is UTF-8".to_owned()))?;
                    set(name, &mut value, Zeroizing::new(pin.to_owned()))?;
                }
                "pin-source" => set(name, &mut source, pin_file(&string(name, bytes)?)?)?,
                _ => {
                    return Err(invalid(format!(
                        "{name:?} is not an attribute that is known here: token, manufacturer, model, serial, slot-id, \
                         object, id, type, module-path, pin-value, pin-source"
                    )));
                }
            }
        }
        uri.module = module.filter(|path| path.is_absolute()).ok_or_else(|| {
            invalid(
                "`module-path` is the absolute path of the vendor's PKCS #11 library, as in \
                     `?module-path=/usr/lib/softhsm/libsofthsm2.so`"
                    .to_owned(),
            )
        })?;
        uri.pin = match (value, source) {
            (Some(_), Some(_)) => {
                return Err(invalid("`pin-value` and `pin-source` exclude each other".to_owned()));
            }
            (Some(value), None) => Some(Pin::Value(value)),
            (None, source) => source.map(Pin::File),
        };
        Ok(uri)
    }
}

impl Pin {
    /// The PIN; of a file, its content without the line's end.
    pub(super) fn read(self) -> Result<Zeroizing<String>> {
        let path = match self {
            Self::Value(pin) => return Ok(pin),
            Self::File(path) => path,
        };
        let failed = |error| Error::io(format!("reading the PIN from {}", path.display()), error);
        let mut file = File::open(&path).map_err(failed)?;
        let content = secret::read_secret(&mut file, MAX_PIN_FILE).map_err(failed)?;
        let pin = content.as_deref().and_then(|content| std::str::from_utf8(content).ok()).ok_or_else(|| {
            let message = format!("{} should hold a PIN, and holds something else", path.display());
            Error::new(ErrorKind::InvalidInput, message)
        })?;
        Ok(Zeroizing::new(pin.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

/// A path, or a `file:` URI of this machine.
fn pin_file(source: &str) -> Result<PathBuf> {
    let path = source.strip_prefix("file:").unwrap_or(source);
    let path = path.strip_prefix("//localhost").or_else(|| path.strip_prefix("//")).unwrap_or(path);
    if !path.starts_with('/') {
        let what = "`pin-source` is the absolute path of a file, or `file:` and such a path; no command is run";
        return Err(invalid(what.to_owned()));
    }
    Ok(path.into())
}

/// RFC 3986's percent-decoding, into memory that is wiped: it may be a PIN.
fn decode(name: &str, encoded: &str) -> Result<Zeroizing<Vec<u8>>> {
    let decoded = percent_decode(encoded).map(Zeroizing::new);
    decoded.ok_or_else(|| invalid(format!("in `{name}`, a `%` is followed by two hexadecimal digits")))
}

fn string(name: &str, bytes: Zeroizing<Vec<u8>>) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| invalid(format!("`{name}` is UTF-8")))
}

fn set<T>(name: &str, place: &mut Option<T>, value: T) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(invalid(format!("`{name}` is there twice"))),
    }
}

fn invalid(what: String) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("this is no PKCS #11 URI for a key service: {what}"))
}

/// Far more than the longest PIN of any token.
const MAX_PIN_FILE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_say_which_token_and_key() {
        let uri = Pkcs11Uri::parse(
            "pkcs11:token=My%20token;serial=0a;slot-id=7;object=cmk;id=%01%fF;type=secret-key?module-path=/m.so&pin-value=1%2526",
        )
        .unwrap();
        assert_eq!(uri.module.to_str(), Some("/m.so"));
        assert_eq!((uri.token.as_deref(), uri.serial.as_deref()), (Some("My token"), Some("0a")));
        assert_eq!((uri.slot_id, uri.object.as_deref()), (Some(7), Some("cmk")));
        assert_eq!(uri.id.as_deref(), Some([1, 0xff].as_slice()));
        assert_eq!(uri.pin.unwrap().read().unwrap().as_str(), "1%26");
    }

    #[test]
    fn what_is_not_understood_is_refused_without_showing_a_pin() {
        for bad in [
            "",
            "token=a?module-path=/m.so",
            "pkcs11:",
            "pkcs11:token=a",
            "pkcs11:?module-path=m.so",
            "pkcs11:?module-name=softhsm2",
            "pkcs11:token=a;token=b?module-path=/m.so",
            "pkcs11:slot-id=x?module-path=/m.so",
            "pkcs11:type=private?module-path=/m.so",
            "pkcs11:id=%0?module-path=/m.so",
            "pkcs11:token=%ff?module-path=/m.so",
            "pkcs11:x-vendor=1?module-path=/m.so",
            "pkcs11:?module-path=/m.so&pin-value=secret&pin-source=/f",
            "pkcs11:?module-path=/m.so&pin-value=secret%f",
            "pkcs11:?module-path=/m.so&secret",
            "pkcs11:?module-path=/m.so&pin-source=|secret",
            "pkcs11:?module-path=/m.so&pin-source=http://secret/",
        ] {
            let error = Pkcs11Uri::parse(bad).err().expect(bad);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
            assert!(!error.to_string().contains("secret\"") && !error.to_string().contains("secret%"), "{error}");
        }
    }

    #[test]
    fn a_pin_can_be_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        std::fs::write(&path, "1234\n").unwrap();
        for prefix in ["", "file:", "file://", "file://localhost"] {
            let uri = format!("pkcs11:?module-path=/m.so&pin-source={prefix}{}", path.display());
            assert_eq!(Pkcs11Uri::parse(&uri).unwrap().pin.unwrap().read().unwrap().as_str(), "1234");
        }
        assert_eq!(Pin::File("/nowhere".into()).read().unwrap_err().kind(), ErrorKind::NotFound);
    }
}
