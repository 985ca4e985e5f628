//! CMKs: made, described, changed.

use std::collections::BTreeMap;
use std::time::SystemTime;

use sealift::Error;
use sealift::kms::local::{CreateKey, KeyMetadata, KeyOrigin, LocalKms};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Store;
use super::answer::{Refusal, Result};
use super::parameters::Parameters;

pub(super) fn create(store: &Store, parameters: &Parameters) -> Result<Value> {
    for (name, value) in
        [("KeySpec", SPEC), ("KeyUsage", USAGE), ("ProtectionLevel", "SOFTWARE"), ("EnableAutomaticRotation", "false")]
    {
        if parameters.get(name).is_some_and(|given| given != value) {
            return Err(Refusal::unsupported(format!("{name} is {value} here")));
        }
    }
    let origin = match parameters.get("Origin") {
        None | Some("Aliyun_KMS") => KeyOrigin::Local,
        Some("EXTERNAL") => KeyOrigin::External,
        Some(_) => return Err(Refusal::parameter("Origin is Aliyun_KMS or EXTERNAL")),
    };
    let description = parameters.get("Description").unwrap_or_default().to_owned();
    let tags = parameters.get("Tags").map_or(Ok(BTreeMap::new()), tags)?;
    let key = store.local.create_key(CreateKey { origin, description, tags });
    key.map(|key| metadata(store, &key)).map_err(|error| Refusal::of(&error, ""))
}

pub(super) fn describe(store: &Store, parameters: &Parameters) -> Result<Value> {
    Ok(metadata(store, &key(store, parameters)?))
}

/// Does what changes a key and needs to know nothing else.
pub(super) fn change(
    store: &Store,
    parameters: &Parameters,
    change: impl FnOnce(&LocalKms, &str) -> Result<KeyMetadata, Error>,
) -> Result<Value> {
    let name = parameters.required("KeyId")?;
    change(&store.local, store.key_name(name)?).map_err(|error| Refusal::of(&error, name))?;
    Ok(json!({}))
}

pub(super) fn schedule_deletion(store: &Store, parameters: &Parameters) -> Result<Value> {
    parameters.required("PendingWindowInDays")?;
    let days = parameters.number("PendingWindowInDays", 30, 7..=30)?;
    let days = u16::try_from(days).map_err(|_| Refusal::internal())?;
    change(store, parameters, |kms, key| kms.schedule_key_deletion(key, days))
}

pub(super) fn update_description(store: &Store, parameters: &Parameters) -> Result<Value> {
    let description = parameters.get("Description").unwrap_or_default();
    change(store, parameters, |kms, key| kms.update_description(key, description))
}

pub(super) fn tag(store: &Store, parameters: &Parameters) -> Result<Value> {
    let tags = tags(parameters.required("Tags")?)?;
    change(store, parameters, |kms, key| kms.tag_key(key, tags))
}

pub(super) fn untag(store: &Store, parameters: &Parameters) -> Result<Value> {
    let names: Vec<String> = serde_json::from_str(parameters.required("TagKeys")?)
        .map_err(|_| Refusal::parameter("TagKeys is a JSON array of strings"))?;
    change(store, parameters, |kms, key| kms.untag_key(key, &names))
}

pub(super) fn list_tags(store: &Store, parameters: &Parameters) -> Result<Value> {
    let key = key(store, parameters)?;
    let tags = key.tags.iter().map(|(name, value)| json!({"KeyId": key.key_id, "TagKey": name, "TagValue": value}));
    Ok(json!({"Tags": {"Tag": tags.collect::<Vec<_>>()}}))
}

pub(super) fn list(store: &Store, parameters: &Parameters) -> Result<Value> {
    let keys = store.local.list_keys().map_err(|error| Refusal::of(&error, ""))?;
    let (page, counts) = parameters.page(keys)?;
    let keys = page.iter().map(|key| json!({"KeyId": key.key_id, "KeyArn": key_arn(store, &key.key_id)}));
    Ok(with(json!({"Keys": {"Key": keys.collect::<Vec<_>>()}}), counts))
}

/// New material for a key: the version that encrypts from now on.
pub(super) fn rotate(store: &Store, parameters: &Parameters) -> Result<Value> {
    let name = parameters.required("KeyId")?;
    let key = store.local.rotate_key(store.key_name(name)?).map_err(|error| Refusal::of(&error, name))?;
    Ok(json!({"KeyVersion": version(&key, key.primary_version)}))
}

pub(super) fn list_versions(store: &Store, parameters: &Parameters) -> Result<Value> {
    let key = key(store, parameters)?;
    // Their numbers count up, and none is ever taken away alone.
    let first = (key.primary_version + 1).saturating_sub(key.versions);
    let numbers: Vec<_> = (first..=key.primary_version).filter(|number| *number > 0).collect();
    let (page, counts) = parameters.page(numbers)?;
    let versions: Vec<_> = page.into_iter().map(|number| version(&key, number)).collect();
    Ok(with(json!({"KeyVersions": {"KeyVersion": versions}}), counts))
}

/// What KMS calls a version of a key: the end of the key's own id is its number.
pub(super) fn version_id(key_id: &str, version: u32) -> String {
    let beginning = key_id.rsplit_once('-').map_or(key_id, |(beginning, _)| beginning);
    format!("{beginning}-{version:012x}")
}

pub(super) fn key(store: &Store, parameters: &Parameters) -> Result<KeyMetadata> {
    let name = parameters.required("KeyId")?;
    store.local.describe_key(store.key_name(name)?).map_err(|error| Refusal::of(&error, name))
}

pub(super) fn timestamp(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time).replace_nanosecond(0).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

pub(super) fn with(mut answer: Value, counts: [(&'static str, u64); 3]) -> Value {
    if let Some(answer) = answer.as_object_mut() {
        answer.extend(counts.map(|(name, count)| (name.to_owned(), count.into())));
    }
    answer
}

fn version(key: &KeyMetadata, number: u32) -> Value {
    // When, the key store tells only of the key.
    json!({"KeyId": key.key_id, "KeyVersionId": version_id(&key.key_id, number), "CreationDate": timestamp(key.created)})
}

fn key_arn(store: &Store, key_id: &str) -> String {
    store.arn(&format!("key/{key_id}"))
}

fn metadata(store: &Store, key: &KeyMetadata) -> Value {
    let origin = match key.origin {
        KeyOrigin::Local => "Aliyun_KMS",
        KeyOrigin::External => "EXTERNAL",
    };
    let primary = (key.primary_version > 0).then(|| version_id(&key.key_id, key.primary_version));
    json!({"KeyMetadata": {
        "KeyId": key.key_id,
        "Arn": key_arn(store, &key.key_id),
        "CreationDate": timestamp(key.created),
        "Creator": "sealift",
        "Description": key.description,
        "KeyState": key.state.name(),
        "KeySpec": SPEC,
        "KeyUsage": USAGE,
        "Origin": origin,
        "ProtectionLevel": "SOFTWARE",
        "AutomaticRotation": "Disabled",
        "DeletionProtection": "Disabled",
        "PrimaryKeyVersion": primary.unwrap_or_default(),
        "MaterialExpireTime": key.material_expires.map(timestamp).unwrap_or_default(),
        "DeleteDate": key.deletion.map(timestamp).unwrap_or_default(),
    }})
}

/// `[{"TagKey":"…","TagValue":"…"},…]`.
fn tags(text: &str) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Tag {
        tag_key: String,
        tag_value: String,
    }
    let tags: Vec<Tag> = serde_json::from_str(text)
        .map_err(|_| Refusal::parameter("Tags is a JSON array of objects with TagKey and TagValue"))?;
    Ok(tags.into_iter().map(|tag| (tag.tag_key, tag.tag_value)).collect())
}

const SPEC: &str = "Aliyun_AES_256";
const USAGE: &str = "ENCRYPT/DECRYPT";
