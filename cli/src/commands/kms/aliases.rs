//! `kms create-alias`, `update-alias`, `delete-alias` and `list-aliases`.

use sealift::ErrorKind;
use sealift::kms::local::LocalKms;
use serde::Serialize;

use crate::args::{DeleteAlias, ListAliases, PutAlias};
use crate::exit::{Failure, Result};
use crate::home::Home;

#[derive(Serialize)]
struct Alias {
    alias: String,
    key_id: String,
}

pub(super) fn create(args: &PutAlias) -> Result {
    let kms = Home::find()?.open_key_store()?;
    kms.create_alias(&args.alias, &args.key).map_err(|e| {
        Failure::of_local_key(e, &args.key).hint_if(
            ErrorKind::AlreadyExists,
            format!("to let it stand for this key instead: sealift kms update-alias {} {}", args.alias, args.key),
        )
    })?;
    stands_for(args, &kms)
}

pub(super) fn update(args: &PutAlias) -> Result {
    let kms = Home::find()?.open_key_store()?;
    kms.update_alias(&args.alias, &args.key).map_err(|e| Failure::of_local_key(e, &args.key))?;
    stands_for(args, &kms)
}

fn stands_for(args: &PutAlias, kms: &LocalKms) -> Result {
    let alias = Alias { alias: args.alias.clone(), key_id: kms.describe_key(&args.key)?.key_id };
    args.output.done(&alias, || format!("{}: stands for {}", alias.alias, alias.key_id))
}

pub(super) fn delete(args: &DeleteAlias) -> Result {
    let kms = Home::find()?.open_key_store()?;
    let key_id = kms.delete_alias(&args.alias)?;
    let alias = Alias { alias: args.alias.clone(), key_id };
    args.output.done(&alias, || format!("{}: removed; the key {} stays", alias.alias, alias.key_id))
}

pub(super) fn list(args: &ListAliases) -> Result {
    let aliases = Home::find()?.open_key_store()?.list_aliases()?;
    let aliases: Vec<_> = aliases.into_iter().map(|(alias, key_id)| Alias { alias, key_id }).collect();
    args.json.print(&aliases, || {
        let width = aliases.iter().map(|alias| alias.alias.len()).max().unwrap_or_default();
        let line = |alias: &Alias| format!("{:width$}  {}", alias.alias, alias.key_id);
        aliases.iter().map(line).collect::<Vec<_>>().join("\n")
    })
}
