//! Names that stand for CMKs.

use serde_json::{Value, json};

use super::Store;
use super::answer::{Refusal, Result};
use super::keys::{key, with};
use super::parameters::Parameters;

pub(super) fn create(store: &Store, parameters: &Parameters) -> Result<Value> {
    let (alias, name) = (parameters.required("AliasName")?, parameters.required("KeyId")?);
    store.local.create_alias(alias, store.key_name(name)?).map_err(|error| Refusal::of(&error, name))?;
    Ok(json!({}))
}

pub(super) fn update(store: &Store, parameters: &Parameters) -> Result<Value> {
    let (alias, name) = (parameters.required("AliasName")?, parameters.required("KeyId")?);
    // To tell which of the two is not there.
    let key = key(store, parameters)?;
    let updated = store.local.update_alias(alias, &key.key_id);
    updated.map_err(|error| Refusal::of(&error, if error.key_state().is_some() { name } else { "alias/" }))?;
    Ok(json!({}))
}

pub(super) fn delete(store: &Store, parameters: &Parameters) -> Result<Value> {
    let alias = parameters.required("AliasName")?;
    store.local.delete_alias(alias).map_err(|error| Refusal::of(&error, "alias/"))?;
    Ok(json!({}))
}

pub(super) fn list(store: &Store, parameters: &Parameters) -> Result<Value> {
    listed(store, parameters, |_| true)
}

pub(super) fn list_by_key(store: &Store, parameters: &Parameters) -> Result<Value> {
    let key = key(store, parameters)?;
    listed(store, parameters, |id| id == key.key_id)
}

fn listed(store: &Store, parameters: &Parameters, wanted: impl Fn(&str) -> bool) -> Result<Value> {
    let aliases = store.local.list_aliases().map_err(|error| Refusal::of(&error, ""))?;
    let (page, counts) = parameters.page(aliases.into_iter().filter(|(_, id)| wanted(id)).collect())?;
    let aliases = page
        .iter()
        .map(|(alias, id)| json!({"AliasName": alias, "AliasArn": store.arn(alias), "KeyId": id}))
        .collect::<Vec<_>>();
    Ok(with(json!({"Aliases": {"Alias": aliases}}), counts))
}
