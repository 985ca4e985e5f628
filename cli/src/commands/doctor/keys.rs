//! Keys: the local key store, and those that were named.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sealift::kms::local::LocalKms;
use sealift::kms::recipients::{Recipient, new_data_key};
use sealift::{EncryptionContext, Error, ErrorKind, KeyState, KmsService};

use super::{Report, told};
use crate::config::Config;
use crate::exit::{Failure, Result};
use crate::home::Home;
use crate::keys::recipients_named;
use crate::output::{self, printable};
use crate::services::NamedKey;

pub(super) async fn check(kms_key: &[String], key_file: &[PathBuf], report: &mut Report) -> Result {
    let home = Home::find()?;
    let configured = Config::read()?.kms_key;
    let named = if kms_key.is_empty() { configured.as_slice() } else { kms_key };
    let is_local = |key: &String| NamedKey::parse(key).service == KmsService::Local;
    let needs_store = named.iter().any(is_local) || (named.is_empty() && key_file.is_empty());
    let is_usable = local(&home, needs_store, report)?;
    for key in named {
        if is_local(key) && !is_usable {
            report.fail(
                "key",
                ErrorKind::KeyUnavailable,
                format!("{}: the key store cannot be used", printable(key)),
            )?;
            continue;
        }
        one(&NamedKey::parse(key).without_pin(), recipients_named(std::slice::from_ref(key), &[], &home), report)
            .await?;
    }
    for file in key_file {
        let recipients = recipients_named(&[], std::slice::from_ref(file), &home);
        one(&file.display().to_string(), recipients, report).await?;
    }
    Ok(())
}

/// The key store here. Whether it can be used.
fn local(home: &Home, is_needed: bool, report: &mut Report) -> Result<bool> {
    let dir = home.key_store();
    if !dir.exists() {
        let text =
            format!("there is none in {}; the first `put` makes it, or: sealift kms import-backup FILE", dir.display());
        if is_needed {
            report.warn("key store", text)?
        } else {
            report.ok("key store", text)?
        }
        return Ok(false);
    }
    let kms = match home.open_key_store() {
        Ok(kms) => kms,
        Err(error) => {
            report.fail(
                "key store",
                ErrorKind::KeyUnavailable,
                format!("{}; if there is a backup: sealift kms import-backup FILE", told(&error)),
            )?;
            return Ok(false);
        }
    };
    let root = if std::env::var_os("SEALIFT_ROOT_KEY").is_some_and(|key| !key.is_empty()) {
        "its root key is in SEALIFT_ROOT_KEY"
    } else {
        "its root key can be read"
    };
    report.ok("key store", format!("{} opens, and {root}", dir.display()))?;
    match open_to_others(&dir) {
        Some(path) => {
            let text = format!("others may read {}; to stop that: chmod -R go= {}", path.display(), dir.display());
            report.warn("permissions", text)?;
        }
        None => report.ok("permissions", "nobody else may read the key store")?,
    }
    default_key(&kms, report)?;
    for key in kms.list_keys()?.into_iter().filter(|key| key.state == KeyState::PendingDeletion) {
        let date = key.deletion.map(output::timestamp).unwrap_or_default();
        let text = format!(
            "{0} is deleted on {date}, and what is sealed with it is then lost; to keep it: sealift kms cancel-key-deletion {0}",
            key.key_id
        );
        report.warn("deletion", text)?;
    }
    report
        .ok("backup", "keep one away from this machine, newer than the newest key: sealift kms export-backup FILE")?;
    Ok(true)
}

fn default_key(kms: &LocalKms, report: &mut Report) -> Result {
    let alias = LocalKms::DEFAULT_ALIAS;
    let key = match kms.describe_key(alias) {
        Ok(key) => key,
        Err(error) => {
            let text = format!("{}; to choose one: sealift kms create-alias {alias} KEY", told(&error));
            return report.fail("default key", ErrorKind::KeyUnavailable, text);
        }
    };
    if key.state == KeyState::Enabled {
        return report.ok("default key", format!("{alias} is {}, and is enabled", key.key_id));
    }
    let error = Error::new(ErrorKind::KeyUnavailable, format!("{alias}, {}, is {}", key.key_id, key.state.name()));
    let failure = Failure::of_key(error.with_key_state(key.state), alias);
    let text = [vec![failure.error().to_string()], failure.hints().to_vec()].concat().join("; ");
    report.fail("default key", ErrorKind::KeyUnavailable, text)
}

/// Something of the key store that more than its owner may read.
fn open_to_others(dir: &Path) -> Option<PathBuf> {
    let is_open = |path: &Path| path.metadata().is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
    if is_open(dir) {
        return Some(dir.to_owned());
    }
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .find_map(|path| if path.is_dir() { open_to_others(&path) } else { Some(path).filter(|path| is_open(path)) })
}

/// A data key is wrapped for it and unwrapped again.
async fn one(name: &str, recipients: Result<Vec<Recipient>>, report: &mut Report) -> Result {
    let recipients = match recipients {
        Ok(recipients) => recipients,
        Err(failure) => return report.fail("key", ErrorKind::KeyUnavailable, told(failure.error())),
    };
    let context = EncryptionContext::default();
    let (data_key, wrapped) = match new_data_key(&recipients, &context).await {
        Ok(made) => made,
        Err(error) => return report.fail("key", ErrorKind::KeyUnavailable, format!("{name}: {}", told(&error))),
    };
    for (recipient, wrapped) in recipients.iter().zip(&wrapped) {
        if recipient.kms.service() == KmsService::Rsa {
            report.ok("key", format!("{name} wraps; only its private half, which is not here, unwraps"))?;
            continue;
        }
        match recipient.kms.unwrap(wrapped, &context).await {
            Ok(unwrapped) if unwrapped == data_key => report.ok("key", format!("{name} wraps and unwraps"))?,
            Ok(_) => report.fail("key", ErrorKind::KeyUnavailable, format!("{name} unwraps to another key"))?,
            Err(error) => {
                let text = format!(
                    "{name} wraps but does not unwrap: {}; what is sealed now could not be opened here",
                    told(&error)
                );
                report.fail("key", ErrorKind::KeyUnavailable, text)?;
            }
        }
    }
    Ok(())
}
