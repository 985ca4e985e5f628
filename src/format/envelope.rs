//! The envelope: what an object's metadata says about how to open it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::json::{self, StringMap};
use super::unsealed::UNSEALED;
use crate::error::{Error, ErrorKind, Result};
use crate::types::{EncryptionContext, ObjectId, WrappedKey};

/// What begins the names of user metadata that belong to Sealift.
const RESERVED: &str = "sealift-";

const FORMAT: &str = "sealift-format";
const CIPHER: &str = "sealift-cipher";
const OBJECT_ID: &str = "sealift-object-id";
const DATA_KEYS: &str = "sealift-data-keys";
const CONTEXT: &str = "sealift-context";
const BOUND: &str = "sealift-bound";

const VERSION_1: &str = "1";
const COBBLESTONE_256: &str = "COBBLESTONE-256";
const BOUND_TO_NAME: &str = "name";

pub(crate) const MAX_RECIPIENTS: usize = 16;

/// Which object this is and who can open it: the part of a sealed object that lies in its metadata.
///
/// Nothing in it is secret, and nothing in it is believed: object id and encryption context are what the key service
/// and the trailer authenticate, so altering either leaves an object that does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    object_id: ObjectId,
    data_keys: Vec<WrappedKey>,
    context: EncryptionContext,
    bound: bool,
}

impl Envelope {
    /// An envelope of the object's id, its data key as each recipient's CMK wrapped it, the caller's own encryption
    /// context, and whether the wrapping is bound to the object's bucket and key.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] without a recipient, [`ErrorKind::LimitExceeded`] with more than 16.
    pub fn new(
        object_id: ObjectId,
        data_keys: Vec<WrappedKey>,
        context: EncryptionContext,
        bound: bool,
    ) -> Result<Self> {
        if data_keys.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "an object that no key can open is not sealed but lost"));
        }
        if data_keys.len() > MAX_RECIPIENTS {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("an object has at most {MAX_RECIPIENTS} recipients, not {}", data_keys.len()),
            ));
        }
        Ok(Self { object_id, data_keys, context, bound })
    }

    /// Identity of the object, unchanged for as long as it exists.
    #[must_use]
    pub fn object_id(&self) -> &ObjectId {
        &self.object_id
    }

    /// The data key under each recipient's CMK: 1 to 16 of them.
    ///
    /// Whoever can write the metadata can list a key of their own here. Try only those that the reader is configured to
    /// trust.
    #[must_use]
    pub fn data_keys(&self) -> &[WrappedKey] {
        &self.data_keys
    }

    /// The caller's own pairs of the encryption context.
    #[must_use]
    pub fn context(&self) -> &EncryptionContext {
        &self.context
    }

    /// Whether the data keys are wrapped for one bucket and key.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.bound
    }

    /// The encryption context for every call to a key service: the caller's pairs, the object's id and, for an object
    /// that is bound, the bucket and key. Those come from the request: whoever moved the object can rewrite metadata,
    /// but not what is asked for.
    #[must_use]
    pub fn kms_context(
        object_id: &ObjectId,
        caller: &EncryptionContext,
        bound_to: Option<(&str, &str)>,
    ) -> EncryptionContext {
        let context = caller.clone().with("sealift:object-id", object_id.to_string());
        match bound_to {
            Some((bucket, key)) => context.with("sealift:bucket", bucket).with("sealift:key", key),
            None => context,
        }
    }

    /// The user metadata that carries this envelope: names without the store's prefix, values in printable ASCII.
    #[must_use]
    pub fn to_metadata(&self) -> BTreeMap<String, String> {
        let mut metadata = BTreeMap::from([
            (FORMAT.to_owned(), VERSION_1.to_owned()),
            (CIPHER.to_owned(), COBBLESTONE_256.to_owned()),
            (OBJECT_ID.to_owned(), self.object_id.to_string()),
            (DATA_KEYS.to_owned(), write_data_keys(&self.data_keys)),
        ]);
        if !self.context.is_empty() {
            let mut value = String::new();
            json::write_object(&mut value, self.context.pairs());
            metadata.insert(CONTEXT.to_owned(), value);
        }
        if self.bound {
            metadata.insert(BOUND.to_owned(), BOUND_TO_NAME.to_owned());
        }
        metadata
    }

    /// The envelope in an object's user metadata: names without the store's prefix, in any case. The caller's own
    /// metadata is ignored.
    ///
    /// # Errors
    /// [`ErrorKind::NotSealed`] if there is no `sealift-` name at all, or only the one that says so,
    /// [`ErrorKind::UnsupportedFormat`] if the version or cipher is not one this program knows, [`ErrorKind::Malformed`] if a name is missing, unknown or there twice,
    /// or a value breaks its rules.
    pub fn from_metadata(metadata: &BTreeMap<String, String>) -> Result<Self> {
        let mut ours = Names::of(metadata)?;

        // Before anything else: another version may have other names.
        let version = ours.require(FORMAT)?;
        if version != VERSION_1 {
            return Err(unsupported(format!("format {version:?}"), VERSION_1));
        }
        let cipher = ours.require(CIPHER)?;
        if cipher != COBBLESTONE_256 {
            return Err(unsupported(format!("cipher {cipher:?}"), COBBLESTONE_256));
        }

        let object_id = ours.require(OBJECT_ID)?.parse()?;
        let data_keys = read_data_keys(ours.require(DATA_KEYS)?)?;
        let context = ours.take(CONTEXT).map(read_context).transpose()?.unwrap_or_default();
        let bound = match ours.take(BOUND) {
            None => false,
            Some(BOUND_TO_NAME) => true,
            Some(other) => return Err(malformed(format!("{BOUND} is {BOUND_TO_NAME:?} or absent, not {other:?}"))),
        };
        ours.none_left()?;

        Self::new(object_id, data_keys, context, bound)
            .map_err(|error| Error::new(ErrorKind::Malformed, error.to_string()))
    }
}

/// Checks that all of an object's user metadata, the caller's own included, fits its store: the bytes of all names,
/// each with the store's prefix of `prefix_len` bytes before it, and all values, are at most `limit`. S3 and OSS users
/// can count on 2,048 bytes.
///
/// # Errors
/// [`ErrorKind::LimitExceeded`] if they do not.
pub fn check_metadata(all: &BTreeMap<String, String>, prefix_len: usize, limit: usize) -> Result<()> {
    let total = all
        .iter()
        .flat_map(|(name, value)| [prefix_len, name.len(), value.len()])
        .fold(0_usize, |total, len| total.saturating_add(len));
    if total > limit {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            format!(
                "the object's metadata has {total} bytes and may have {limit}: \
                 give fewer recipients, a shorter encryption context or less metadata"
            ),
        ));
    }
    Ok(())
}

/// Checks that a caller's own user metadata leaves the names that begin with `sealift-`, in any case, alone.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] if it does not.
pub fn check_own_metadata(own: &BTreeMap<String, String>) -> Result<()> {
    match own.keys().find(|name| is_reserved(name)) {
        Some(name) => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("metadata names that begin with {RESERVED:?}, as {name:?} does, are Sealift's own: choose another"),
        )),
        None => Ok(()),
    }
}

/// What of an object's user metadata is its owner's: all but the envelope.
pub(crate) fn own_metadata(all: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    all.iter().filter(|(name, _)| !is_reserved(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

pub(super) fn is_reserved(name: &str) -> bool {
    name.get(..RESERVED.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED))
}

/// The `sealift-` names of some metadata in lower case, each until it is taken.
struct Names<'a>(BTreeMap<String, &'a str>);

impl<'a> Names<'a> {
    fn of(metadata: &'a BTreeMap<String, String>) -> Result<Self> {
        let mut ours = BTreeMap::new();
        for (name, value) in metadata.iter().filter(|(name, _)| is_reserved(name)) {
            if ours.insert(name.to_ascii_lowercase(), value.as_str()).is_some() {
                return Err(malformed(format!("{name:?} occurs twice, in different case")));
            }
        }
        if ours.len() == 1 && ours.contains_key(UNSEALED) {
            return Err(Error::new(ErrorKind::NotSealed, "the object was stored unsealed, on purpose"));
        }
        if ours.is_empty() {
            return Err(Error::new(
                ErrorKind::NotSealed,
                "the object has no envelope: it was not sealed by Sealift, or its metadata was lost",
            ));
        }
        Ok(Self(ours))
    }

    fn take(&mut self, name: &str) -> Option<&'a str> {
        self.0.remove(name)
    }

    fn require(&mut self, name: &str) -> Result<&'a str> {
        self.take(name).ok_or_else(|| malformed(format!("{name} is missing")))
    }

    fn none_left(&self) -> Result<()> {
        match self.0.keys().next() {
            Some(name) => Err(malformed(format!("{name:?} is not a name of this format"))),
            None => Ok(()),
        }
    }
}

fn write_data_keys(data_keys: &[WrappedKey]) -> String {
    let mut out = String::from("[");
    let mut separator = "";
    for WrappedKey { kms, key, blob } in data_keys {
        out.push_str(separator);
        json::write_object(&mut out, [("kms", kms.name()), ("key", key), ("blob", &STANDARD.encode(blob))]);
        separator = ",";
    }
    out.push(']');
    out
}

fn read_data_keys(json: &str) -> Result<Vec<WrappedKey>> {
    let recipients: Vec<StringMap> = serde_json::from_str(json)
        .map_err(|error| malformed(format!("{DATA_KEYS} is not an array of recipients")).with_source(error))?;
    recipients.into_iter().map(read_data_key).collect()
}

fn read_data_key(StringMap(mut members): StringMap) -> Result<WrappedKey> {
    let mut member = |name| members.remove(name).ok_or_else(|| malformed(format!("a recipient has no {name:?}")));
    let (kms, key, blob) = (member("kms")?, member("key")?, member("blob")?);
    if let Some(name) = members.keys().next() {
        return Err(malformed(format!("a recipient has no member {name:?}")));
    }
    let blob = STANDARD
        .decode(blob)
        .map_err(|error| malformed("a wrapped data key is not padded base64").with_source(error))?;
    Ok(WrappedKey { kms: kms.parse()?, key, blob })
}

fn read_context(json: &str) -> Result<EncryptionContext> {
    let StringMap(pairs) = serde_json::from_str(json)
        .map_err(|error| malformed(format!("{CONTEXT} is not an object of strings")).with_source(error))?;
    if pairs.is_empty() {
        return Err(malformed(format!("{CONTEXT} is empty where it should be absent")));
    }
    EncryptionContext::new(pairs).map_err(|error| malformed(error.to_string()))
}

fn malformed(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Malformed, format!("the object's envelope is not valid: {why}"))
}

fn unsupported(what: String, known: &str) -> Error {
    Error::new(
        ErrorKind::UnsupportedFormat,
        format!("the object is sealed with {what}, and this program knows {known:?}: use a newer one"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::KmsService;

    const ID: &str = "AAECAwQFBgcICQoLDA0ODw";

    fn wrapped(kms: KmsService, key: &str, blob: &[u8]) -> WrappedKey {
        WrappedKey { kms, key: key.into(), blob: blob.into() }
    }

    fn envelope() -> Envelope {
        let keys = vec![
            wrapped(KmsService::Local, "3f6d", b"\xfb\xff\0\0"),
            wrapped(KmsService::Aws, "arn:aws:kms:eu-central-1:1:key/\"2\"", b"blob"),
        ];
        let context = EncryptionContext::new([("tier".into(), "hot".into()), ("app".into(), "Zürich".into())]).unwrap();
        Envelope::new(ID.parse().unwrap(), keys, context, true).unwrap()
    }

    fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.into(), value.into())).collect()
    }

    const DATA_KEYS_JSON: &str = r#"[{"kms":"local","key":"k","blob":"YQ=="}]"#;

    fn minimal() -> BTreeMap<String, String> {
        metadata(&[
            ("sealift-format", "1"),
            ("sealift-cipher", "COBBLESTONE-256"),
            ("sealift-object-id", ID),
            ("sealift-data-keys", DATA_KEYS_JSON),
        ])
    }

    fn with(name: &str, value: &str) -> Result<Envelope, ErrorKind> {
        let mut metadata = minimal();
        metadata.insert(name.into(), value.into());
        Envelope::from_metadata(&metadata).map_err(|error| error.kind())
    }

    #[test]
    fn envelopes_are_the_specification_s_text() {
        let expected = metadata(&[
            ("sealift-bound", "name"),
            ("sealift-cipher", "COBBLESTONE-256"),
            ("sealift-context", r#"{"app":"Z\u00fcrich","tier":"hot"}"#),
            (
                "sealift-data-keys",
                concat!(
                    r#"[{"kms":"local","key":"3f6d","blob":"+/8AAA=="},"#,
                    r#"{"kms":"aws","key":"arn:aws:kms:eu-central-1:1:key/\u00222\u0022","blob":"YmxvYg=="}]"#
                ),
            ),
            ("sealift-format", "1"),
            ("sealift-object-id", ID),
        ]);
        assert_eq!(envelope().to_metadata(), expected);
        assert_eq!(Envelope::from_metadata(&expected).unwrap(), envelope());
    }

    #[test]
    fn s09_a_stripped_envelope_is_not_sealed() {
        for metadata in [metadata(&[]), metadata(&[("author", "me"), ("sealift", "1"), ("x-sealift-format", "1")])] {
            assert_eq!(Envelope::from_metadata(&metadata).unwrap_err().kind(), ErrorKind::NotSealed);
        }
    }

    #[test]
    fn s09_another_format_or_cipher_is_unsupported_whatever_else_there_is() {
        for value in ["2", "", "01", "1 ", "10"] {
            assert_eq!(with("sealift-format", value), Err(ErrorKind::UnsupportedFormat), "{value:?}");
        }
        for value in ["COBBLESTONE-128", "cobblestone-256", ""] {
            assert_eq!(with("sealift-cipher", value), Err(ErrorKind::UnsupportedFormat), "{value:?}");
        }
        let next = metadata(&[("sealift-format", "2"), ("sealift-of-the-future", "x")]);
        assert_eq!(Envelope::from_metadata(&next).unwrap_err().kind(), ErrorKind::UnsupportedFormat);
    }

    #[test]
    fn names_are_all_there_once_in_any_case_and_no_others() {
        let shouted = minimal().into_iter().map(|(name, value)| (name.to_ascii_uppercase(), value)).collect();
        assert_eq!(Envelope::from_metadata(&shouted).unwrap(), Envelope::from_metadata(&minimal()).unwrap());

        for name in minimal().keys() {
            let mut metadata = minimal();
            metadata.remove(name);
            assert_eq!(Envelope::from_metadata(&metadata).unwrap_err().kind(), ErrorKind::Malformed, "{name}");
        }
        assert_eq!(with("Sealift-Format", "1"), Err(ErrorKind::Malformed), "a name twice");
        assert_eq!(with("sealift-extra", "1"), Err(ErrorKind::Malformed), "an unknown name");
        assert_eq!(with("sealift-", "1"), Err(ErrorKind::Malformed), "an unknown name");
        assert!(with("author", "me").is_ok(), "the caller's own");
    }

    #[test]
    fn values_keep_their_rules() {
        for bad in [
            "",
            "[]",
            "{}",
            "null",
            r#"["local","k","YQ=="]"#,
            r#"[["local","k","YQ=="]]"#,
            r#"[{"kms":"local","key":"k"}]"#,
            r#"[{"kms":"local","key":"k","blob":"YQ==","alg":"x"}]"#,
            r#"[{"kms":"local","key":"k","key":"k","blob":"YQ=="}]"#,
            r#"[{"kms":"gcp","key":"k","blob":"YQ=="}]"#,
            r#"[{"kms":"Local","key":"k","blob":"YQ=="}]"#,
            r#"[{"kms":"local","key":1,"blob":"YQ=="}]"#,
            r#"[{"kms":"local","key":"\ud800","blob":"YQ=="}]"#,
            r#"[{"kms":"local","key":"k","blob":"YQ"}]"#,
            r#"[{"kms":"local","key":"k","blob":"YR=="}]"#,
            r#"[{"kms":"local","key":"k","blob":"Y_=="}]"#,
            r#"[{"kms":"local","key":"k","blob":"YQ=="}],"#,
        ] {
            assert_eq!(with("sealift-data-keys", bad), Err(ErrorKind::Malformed), "{bad}");
        }
        for bad in ["", "{}", "[]", r#"{"a":1}"#, r#"{"a":"1","a":"1"}"#, r#"{"":"1"}"#, r#"{"sealift:key":"x"}"#] {
            assert_eq!(with("sealift-context", bad), Err(ErrorKind::Malformed), "{bad}");
        }
        for bad in ["", "Name", "key", "name "] {
            assert_eq!(with("sealift-bound", bad), Err(ErrorKind::Malformed), "{bad}");
        }
        for bad in ["", "AAECAwQFBgcICQoLDA0ODx", "AAECAwQFBgcICQoLDA0O", "AAECAwQFBgcICQoLDA0ODw=="] {
            assert_eq!(with("sealift-object-id", bad), Err(ErrorKind::Malformed), "{bad}");
        }
    }

    #[test]
    fn readers_parse_other_spellings_of_the_same() {
        let other = "[ {\"blob\" : \"\\u0059Q==\",\n\"\\u006bms\":\"local\",\"key\":\"k\"} ]";
        assert_eq!(with("sealift-data-keys", other), Envelope::from_metadata(&minimal()).map_err(|error| error.kind()));
    }

    #[test]
    fn recipients_are_1_to_16() {
        let id: ObjectId = ID.parse().unwrap();
        let new = |n| {
            let keys = (0..n).map(|i| wrapped(KmsService::Vault, &i.to_string(), b"x")).collect();
            Envelope::new(id, keys, EncryptionContext::default(), false).map_err(|error| error.kind())
        };
        assert_eq!(new(0), Err(ErrorKind::InvalidInput));
        assert_eq!(new(17), Err(ErrorKind::LimitExceeded));
        let sixteen = new(16).unwrap();
        assert_eq!(Envelope::from_metadata(&sixteen.to_metadata()).unwrap(), sixteen);

        let seventeen = format!("[{}]", [&DATA_KEYS_JSON[1..DATA_KEYS_JSON.len() - 1]; 17].join(","));
        assert_eq!(with("sealift-data-keys", &seventeen), Err(ErrorKind::Malformed));
    }

    #[test]
    fn the_kms_context_has_the_identity_and_what_was_asked_for() {
        let caller = EncryptionContext::new([("app".into(), "x".into())]).unwrap();
        let id = ID.parse().unwrap();
        let pairs = |context: EncryptionContext| {
            context.pairs().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(pairs(Envelope::kms_context(&id, &caller, None)), format!("app=x sealift:object-id={ID}"));
        assert_eq!(
            pairs(Envelope::kms_context(&id, &caller, Some(("b", "k/1")))),
            format!("app=x sealift:bucket=b sealift:key=k/1 sealift:object-id={ID}")
        );
    }

    #[test]
    fn metadata_is_counted_with_its_prefix() {
        let all = metadata(&[("ab", "cde"), ("f", "")]);
        assert!(check_metadata(&all, 11, 28).is_ok());
        assert_eq!(check_metadata(&all, 11, 27).unwrap_err().kind(), ErrorKind::LimitExceeded);
        assert_eq!(check_metadata(&all, usize::MAX, 2_048).unwrap_err().kind(), ErrorKind::LimitExceeded);
    }

    #[test]
    fn callers_cannot_take_our_names() {
        assert!(check_own_metadata(&metadata(&[("author", "me"), ("sealift", "x"), ("é", "")])).is_ok());
        for name in ["sealift-format", "SEALIFT-x", "Sealift-"] {
            let error = check_own_metadata(&metadata(&[(name, "1")])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
        }
    }

    fn wrapped_keys() -> impl Strategy<Value = WrappedKey> {
        (prop::sample::select(&KmsService::ALL), any::<String>(), any::<Vec<u8>>())
            .prop_map(|(kms, key, blob)| WrappedKey { kms, key, blob })
    }

    proptest! {
        #[test]
        fn envelopes_round_trip(
            id: [u8; 16],
            keys in prop::collection::vec(wrapped_keys(), 1..=16),
            pairs in prop::collection::btree_map("\\PC{1,8}", any::<String>(), 0..5),
            bound: bool,
        ) {
            let context = EncryptionContext::new(pairs).unwrap();
            let envelope = Envelope::new(ObjectId::from_bytes(id), keys, context, bound).unwrap();
            let metadata = envelope.to_metadata();
            prop_assert!(metadata.values().all(|value| value.bytes().all(|byte| matches!(byte, b' '..=b'~'))));
            prop_assert_eq!(Envelope::from_metadata(&metadata).unwrap(), envelope);
        }

        #[test]
        fn arbitrary_values_are_parsed_or_refused(name in "sealift-(format|cipher|object-id|data-keys|context|bound)", value: String) {
            if let Ok(envelope) = with(&name, &value) {
                prop_assert_eq!(Envelope::from_metadata(&envelope.to_metadata()).unwrap(), envelope);
            }
        }
    }
}
