//! `kms`: the keys of the local key store.

mod aliases;
mod backup;
mod import;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sealift::Error;
use sealift::kms::local::{CreateKey, KeyMetadata, KeyOrigin, LocalKms};
use serde::Serialize;

use crate::args::{self, ChangeKey, DescribeKey, Kms, ListKeys, Output};
use crate::exit::{Failure, Result};
use crate::home::Home;
use crate::output::{self, printable};

pub(crate) fn run(command: Kms) -> Result {
    match command {
        Kms::CreateKey(args) => create(args),
        Kms::DescribeKey(args) => describe(&args),
        Kms::ListKeys(args) => list(&args),
        Kms::EnableKey(args) => change_key(&args, LocalKms::enable_key, |_| "enabled".to_owned()),
        Kms::DisableKey(args) => {
            change_key(&args, LocalKms::disable_key, |_| "disabled: it neither seals nor opens".to_owned())
        }
        Kms::ScheduleKeyDeletion(args) => {
            let deleted = |key: &Key| {
                let date = key.delete_date.as_deref().unwrap_or("a day to come");
                format!("will be deleted on {date}; to keep it: sealift kms cancel-key-deletion {}", key.key_id)
            };
            change(&args.key, &args.output, |kms, key| kms.schedule_key_deletion(key, args.days), deleted)
        }
        Kms::CancelKeyDeletion(args) => {
            change_key(&args, LocalKms::cancel_key_deletion, |key| format!("stays; its state is {}", key.key_state))
        }
        Kms::RotateKey(args) => change_key(&args, LocalKms::rotate_key, |key| {
            format!(
                "seals with version {} of its material; earlier ones still open",
                key.primary_key_version.unwrap_or(0)
            )
        }),
        Kms::UpdateDescription(args) => {
            let said = |key: &Key| format!("described as {:?}", key.description);
            change(&args.key, &args.output, |kms, key| kms.update_description(key, &args.description), said)
        }
        Kms::TagKey(args) => {
            let tags: BTreeMap<_, _> = args.tags.into_iter().collect();
            change(&args.key, &args.output, |kms, key| kms.tag_key(key, tags), Key::tagged)
        }
        Kms::UntagKey(args) => change(&args.key, &args.output, |kms, key| kms.untag_key(key, &args.names), Key::tagged),
        Kms::CreateAlias(args) => aliases::create(&args),
        Kms::UpdateAlias(args) => aliases::update(&args),
        Kms::DeleteAlias(args) => aliases::delete(&args),
        Kms::ListAliases(args) => aliases::list(&args),
        Kms::GetParametersForImport(args) => import::parameters(&args),
        Kms::ImportKeyMaterial(args) => import::import(&args),
        Kms::DeleteKeyMaterial(args) => change_key(&args, LocalKms::delete_key_material, |_| {
            "its material is deleted: it neither seals nor opens until the same material is imported again".to_owned()
        }),
        Kms::ExportBackup(args) => backup::export(&args),
        Kms::ImportBackup(args) => backup::import(&args),
    }
}

/// A key, as JSON shows it.
#[derive(Serialize)]
struct Key {
    key_id: String,
    key_state: &'static str,
    origin: String,
    description: String,
    aliases: Vec<String>,
    tags: BTreeMap<String, String>,
    creation_date: String,
    primary_key_version: Option<u32>,
    material_expire_time: Option<String>,
    delete_date: Option<String>,
}

impl From<KeyMetadata> for Key {
    fn from(key: KeyMetadata) -> Self {
        Self {
            key_id: key.key_id,
            key_state: key.state.name(),
            origin: key.origin.to_string(),
            description: key.description,
            aliases: key.aliases,
            tags: key.tags,
            creation_date: output::timestamp(key.created),
            primary_key_version: Some(key.primary_version).filter(|version| *version > 0),
            material_expire_time: key.material_expires.map(output::timestamp),
            delete_date: key.deletion.map(output::timestamp),
        }
    }
}

impl Key {
    fn text(&self) -> String {
        let mut lines = vec![
            ("key id", self.key_id.clone()),
            ("state", self.key_state.to_owned()),
            ("origin", self.origin.clone()),
            ("created", self.creation_date.clone()),
        ];
        let version = self.primary_key_version.map_or("none: it has no material".to_owned(), |n| n.to_string());
        lines.push(("version", version));
        lines.extend(self.material_expire_time.iter().map(|time| ("expires", time.clone())));
        lines.extend(self.delete_date.iter().map(|time| ("deletion", time.clone())));
        lines.extend(self.aliases.iter().map(|alias| ("alias", alias.clone())));
        if !self.description.is_empty() {
            lines.push(("for", printable(&self.description)));
        }
        lines.extend(self.tags.iter().map(|(name, value)| ("tag", printable(&format!("{name}={value}")))));
        let lines: Vec<_> = lines.into_iter().map(|(name, value)| format!("{name:<9}{value}")).collect();
        lines.join("\n")
    }

    fn line(&self) -> String {
        let aliases = if self.aliases.is_empty() { "-".to_owned() } else { self.aliases.join(" ") };
        let line = format!(
            "{}  {:15}  {:8}  {}  {aliases}  {}",
            self.key_id,
            self.key_state,
            self.origin,
            self.creation_date,
            printable(&self.description)
        );
        line.trim_end().to_owned()
    }

    fn tagged(&self) -> String {
        let tags: Vec<_> = self.tags.iter().map(|(name, value)| printable(&format!("{name}={value}"))).collect();
        if tags.is_empty() { "has no tags".to_owned() } else { format!("tagged {}", tags.join(" ")) }
    }
}

fn create(args: args::CreateKey) -> Result {
    let kms = Home::find()?.open_or_create_key_store()?;
    let options =
        CreateKey { origin: args.origin, description: args.description, tags: args.tag.into_iter().collect() };
    let key = Key::from(kms.create_key(options)?);
    if !args.json.json && args.origin == KeyOrigin::External {
        output::say(&format!(
            "It has no material yet. To import your own, first: sealift kms get-parameters-for-import {}",
            key.key_id
        ));
    }
    args.json.print(&key, || key.key_id.clone())
}

fn describe(args: &DescribeKey) -> Result {
    let kms = Home::find()?.open_key_store()?;
    let key = Key::from(kms.describe_key(&args.key).map_err(|e| Failure::of_local_key(e, &args.key))?);
    args.json.print(&key, || key.text())
}

fn list(args: &ListKeys) -> Result {
    let keys: Vec<_> = Home::find()?.open_key_store()?.list_keys()?.into_iter().map(Key::from).collect();
    args.json.print(&keys, || keys.iter().map(Key::line).collect::<Vec<_>>().join("\n"))
}

fn change_key(
    args: &ChangeKey,
    change_it: impl FnOnce(&LocalKms, &str) -> Result<KeyMetadata, Error>,
    said: impl FnOnce(&Key) -> String,
) -> Result {
    change(&args.key, &args.output, change_it, said)
}

/// Changes the key that the user calls `name`, and tells what it is like now.
fn change(
    name: &str,
    output: &Output,
    change_it: impl FnOnce(&LocalKms, &str) -> Result<KeyMetadata, Error>,
    said: impl FnOnce(&Key) -> String,
) -> Result {
    let kms = Home::find()?.open_key_store()?;
    let key = Key::from(change_it(&kms, name).map_err(|e| Failure::of_local_key(e, name))?);
    output.done(&key, || format!("{}: {}", key.key_id, said(&key)))
}

/// A file that appears when it is whole and on disk, and that only its owner can read.
fn write_whole(path: &Path, overwrite: bool, write: impl FnOnce(&File) -> Result) -> Result {
    let failed = |e| Error::io(format!("writing {}", path.display()), e);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temp = tempfile::Builder::new();
    temp.prefix(".sealift-partial-").permissions(std::fs::Permissions::from_mode(0o600));
    let temp = temp.tempfile_in(dir).map_err(failed)?;
    write(temp.as_file())?;
    temp.as_file().sync_all().map_err(failed)?;
    let persisted = if overwrite { temp.persist(path) } else { temp.persist_noclobber(path) };
    persisted.map_err(|e| failed(e.error))?;
    Ok(File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?)
}
