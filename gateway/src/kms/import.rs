//! Bring your own key: material that its owner encrypts and imports.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sealift::ErrorKind;
use sealift::kms::local::{KeyOrigin, LocalKms, WrappingAlgorithm, WrappingKeySpec};
use serde_json::{Value, json};

use super::Store;
use super::answer::{Refusal, Result};
use super::keys::{self, change, timestamp};
use super::parameters::Parameters;

pub(super) fn parameters(store: &Store, parameters: &Parameters) -> Result<Value> {
    let name = parameters.required("KeyId")?;
    external(store, parameters)?;
    let (algorithm, spec) = (parameters.required("WrappingAlgorithm")?, parameters.required("WrappingKeySpec")?);
    let algorithm = algorithm.parse::<WrappingAlgorithm>().map_err(Refusal::parameter)?;
    let spec = spec.parse::<WrappingKeySpec>().map_err(Refusal::parameter)?;
    let given = store
        .local
        .get_parameters_for_import(store.key_name(name)?, algorithm, spec)
        .map_err(|error| Refusal::of(&error, name))?;
    Ok(json!({
        "KeyId": given.key_id,
        "ImportToken": STANDARD.encode(given.import_token),
        "PublicKey": STANDARD.encode(given.public_key),
        "TokenExpireTime": timestamp(given.valid_until),
    }))
}

pub(super) fn import(store: &Store, parameters: &Parameters) -> Result<Value> {
    let name = parameters.required("KeyId")?;
    let key = store.key_name(name)?;
    external(store, parameters)?;
    let material = parameters.required_base64("EncryptedKeyMaterial")?;
    let token = parameters.required_base64("ImportToken")?;
    let expires = match parameters.number("KeyMaterialExpireUnix", 0, 0..=MAX_TIME)? {
        0 => None,
        seconds => Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
    };
    if expires.is_some_and(|expires| expires <= SystemTime::now()) {
        return Err(Refusal::parameter("KeyMaterialExpireUnix is in the past"));
    }
    let refused = |code: &'static str| {
        move |error: sealift::Error| match error.kind() {
            ErrorKind::InvalidInput => Refusal::new(400, code, format!("The import was refused: {error}.")),
            _ => Refusal::of(&error, name),
        }
    };
    store.local.check_import_token(key, &token).map_err(refused("InvalidImportToken"))?;
    store.local.import_key_material(key, &material, &token, expires).map_err(refused("InvalidKeyMaterial"))?;
    Ok(json!({}))
}

pub(super) fn delete(store: &Store, parameters: &Parameters) -> Result<Value> {
    external(store, parameters)?;
    change(store, parameters, LocalKms::delete_key_material)
}

/// Refuses keys whose material is not imported.
fn external(store: &Store, parameters: &Parameters) -> Result<()> {
    match keys::key(store, parameters)?.origin {
        KeyOrigin::External => Ok(()),
        KeyOrigin::Local => Err(Refusal::unsupported("the key's origin is not EXTERNAL")),
    }
}

/// The end of the year 9999.
const MAX_TIME: u64 = 253_402_300_799;
