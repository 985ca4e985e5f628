//! Encrypt, Decrypt, ReEncrypt, and data keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sealift::{Error, ErrorKind};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Store;
use super::answer::{Refusal, Result};
use super::blob::{self, Under};
use super::keys::version_id;
use super::parameters::Parameters;

/// The most that Encrypt takes.
const MAX_PLAINTEXT: usize = 6 << 10;

pub(super) fn encrypt(store: &Store, parameters: &Parameters) -> Result<Value> {
    let plaintext = parameters.required_base64("Plaintext")?;
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(Refusal::parameter(format!("Plaintext is longer than {MAX_PLAINTEXT} bytes")));
    }
    seal(store, parameters, "KeyId", "EncryptionContext", &plaintext)
}

pub(super) fn generate_data_key(store: &Store, parameters: &Parameters) -> Result<Value> {
    let plaintext = data_key(parameters)?;
    let mut answer = seal(store, parameters, "KeyId", "EncryptionContext", &plaintext)?;
    answer["Plaintext"] = STANDARD.encode(&*plaintext).into();
    Ok(answer)
}

pub(super) fn generate_data_key_without_plaintext(store: &Store, parameters: &Parameters) -> Result<Value> {
    seal(store, parameters, "KeyId", "EncryptionContext", &data_key(parameters)?)
}

pub(super) fn decrypt(store: &Store, parameters: &Parameters) -> Result<Value> {
    let (plaintext, under) = open(store, parameters, "EncryptionContext")?;
    Ok(json!({
        "KeyId": under.key_id,
        "KeyVersionId": version_id(&under.key_id, under.version),
        "Plaintext": STANDARD.encode(&*plaintext),
    }))
}

pub(super) fn re_encrypt(store: &Store, parameters: &Parameters) -> Result<Value> {
    let (plaintext, _) = open(store, parameters, "SourceEncryptionContext")?;
    seal(store, parameters, "DestinationKeyId", "DestinationEncryptionContext", &plaintext)
}

fn seal(
    store: &Store,
    parameters: &Parameters,
    key: &'static str,
    context: &'static str,
    plaintext: &[u8],
) -> Result<Value> {
    let name = parameters.required(key)?;
    let key = store.key_name(name)?;
    let sealed = blob::seal(&store.local, key, &parameters.context(context)?, plaintext);
    let (blob, Under { key_id, version }) = sealed.map_err(|error| Refusal::of(&error, name))?;
    let version = version_id(&key_id, version);
    Ok(json!({"KeyId": key_id, "KeyVersionId": version, "CiphertextBlob": STANDARD.encode(blob)}))
}

fn open(store: &Store, parameters: &Parameters, context: &'static str) -> Result<(Zeroizing<Vec<u8>>, Under)> {
    let blob = parameters.required_base64("CiphertextBlob")?;
    blob::open(&store.local, &parameters.context(context)?, &blob).map_err(|error| Refusal::of(&error, "KeyId"))
}

/// As many random bytes as are asked for.
fn data_key(parameters: &Parameters) -> Result<Zeroizing<Vec<u8>>> {
    let len = match (parameters.get("NumberOfBytes"), parameters.get("KeySpec")) {
        (Some(_), _) => parameters.number("NumberOfBytes", 32, 1..=1024)?,
        (None, None | Some("AES_256")) => 32,
        (None, Some("AES_128")) => 16,
        (None, Some(_)) => return Err(Refusal::parameter("KeySpec is AES_256 or AES_128")),
    };
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(len).unwrap_or(0)]);
    getrandom::fill(&mut bytes).map_err(|error| {
        let error = Error::new(ErrorKind::Internal, "the operating system gave no random bytes").with_source(error);
        Refusal::of(&error, "")
    })?;
    Ok(bytes)
}
