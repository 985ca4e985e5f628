//! Which keys seal and which are trusted to open, from what the user named.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sealift::engine::ReadOptions;
use sealift::kms::Kms;
use sealift::kms::key_file::KeyFile;
use sealift::kms::local::LocalKms;
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::{EncryptionContext, Error, ErrorKind, KmsService};

use crate::args::{Keys, Put, ReaderKeys};
use crate::config::Config;
use crate::exit::{Failure, Result};
use crate::home::{Home, unavailable};
use crate::output;
use crate::services::NamedKey;

/// Whom `put` seals for: nobody where it does not seal. Makes the key store on first use, unless only key files or other keys are named.
pub(crate) fn recipients(args: &Put, home: &Home) -> Result<Vec<Recipient>> {
    if args.sealing.no_seal {
        return Ok(Vec::new());
    }
    recipients_named(&args.kms_key, &args.key_file, home)
}

/// The recipients that are named so, as `put` understands it; where none is, the default key.
pub(crate) fn recipients_named(kms_key: &[String], key_file: &[PathBuf], home: &Home) -> Result<Vec<Recipient>> {
    let default = match Config::read()?.kms_key {
        configured if configured.is_empty() => vec![LocalKms::DEFAULT_ALIAS.to_owned()],
        configured => configured,
    };
    let named = match (kms_key, key_file) {
        ([], []) => default.as_slice(),
        (named, _) => named,
    };
    let named: Vec<_> = named.iter().map(|text| NamedKey::parse(text)).collect();
    // A new store has only the one key, so for any other there is no sense in making it.
    let is_other = |named: &&NamedKey<'_>| named.service == KmsService::Local && named.key != LocalKms::DEFAULT_ALIAS;
    let may_create = !named.iter().any(|named| is_other(&named));
    let mut recipients: Vec<Recipient> = Vec::new();
    let mut local: Option<Arc<LocalKms>> = None;
    for key in named {
        // One client is enough for all keys of a service.
        let connected = recipients.iter().find(|other| other.kms.service() == key.service).map(|other| &other.kms);
        let (kms, name): (Arc<dyn Kms>, _) = if key.service == KmsService::Local {
            let store = match local.take() {
                Some(store) => store,
                None if may_create => Arc::new(home.open_or_create_key_store()?),
                None if !home.key_store().exists() => return Err(no_store_yet(home, key.key)),
                None => Arc::new(home.open_key_store()?),
            };
            local_key_id(&store, key.key)?;
            local = Some(Arc::clone(&store));
            (store, key.key.to_owned())
        } else {
            key.connect(connected)?
        };
        recipients.push(Recipient { kms, key: name });
    }
    for path in key_file {
        let kms = read_key_file(path)?;
        let key = kms.id().to_owned();
        recipients.push(Recipient { kms: Arc::new(kms), key });
    }
    Ok(recipients)
}

/// There is no key `name` to seal for, nor any other.
fn no_store_yet(home: &Home, name: &str) -> Failure {
    let (name, store) = (output::printable(name), home.key_store());
    let message = format!("there is no key {name}: there is no key store at {} yet", store.display());
    Failure::new(ErrorKind::KeyUnavailable, message)
        .hint("a key is made by: sealift kms create-key; it gets a name by: sealift kms create-alias alias/NAME KEY")
        .hint(format!("without --kms-key, {} is used, which the first sealing makes", LocalKms::DEFAULT_ALIAS))
}

/// Whom a reader believes, and why the local key store is not among them if it is not.
pub(crate) struct TrustedByUser {
    pub(crate) keys: Trusted,
    local: Option<String>,
    /// Why keys of the configuration could not be used.
    unusable: Vec<String>,
    named_key_files: bool,
    /// What names keys that open an object, and key files, on this command line.
    pub(crate) flags: (&'static str, &'static str),
}

impl Keys {
    /// The keys named, and the files. Where none is named, all keys of the local key store, as far as it can be used.
    pub(crate) async fn trusted(&self, home: &Home) -> Result<TrustedByUser> {
        let mut services: Vec<(Arc<dyn Kms>, TrustedKeys)> = Vec::new();
        let mut local_keys = Vec::new();
        for named in self.kms_key.iter().map(|text| NamedKey::parse(text)) {
            match named.service {
                KmsService::Local => local_keys.push(named.key),
                _ => services.push(named.trusted().await?),
            }
        }
        let mut local = None;
        match home.open_key_store() {
            _ if local_keys.is_empty() && !self.kms_key.is_empty() => {}
            Ok(kms) => {
                let keys = trusted_local_keys(&kms, &local_keys)?;
                services.push((Arc::new(kms), keys));
            }
            Err(e) if !local_keys.is_empty() => return Err(e.into()),
            // Perhaps the object is sealed for a key file; perhaps it is not even there.
            Err(_) if !home.key_store().exists() => {
                local = Some(format!("there is no key store at {}", home.key_store().display()));
            }
            Err(e) => local = Some(e.to_string()),
        }
        let mut unusable = Vec::new();
        if self.kms_key.is_empty() {
            // What is configured to seal with by default opens by default. It need not be what this object was sealed for.
            for key in Config::read()?.kms_key {
                let named = NamedKey::parse(&key);
                if named.service == KmsService::Local || !named.reads() {
                    continue;
                }
                match named.trusted().await {
                    Ok(trusted) => services.push(trusted),
                    Err(failure) => {
                        let name = output::printable(&named.without_pin());
                        unusable.push(format!("the configured key {name} cannot be used: {}", failure.error()));
                    }
                }
            }
        }
        for path in &self.key_file {
            let kms = read_key_file(path)?;
            let only = TrustedKeys::Only(vec![kms.id().to_owned()]);
            services.push((Arc::new(kms), only));
        }
        Ok(TrustedByUser {
            keys: Trusted::new(services),
            local,
            unusable,
            named_key_files: !self.key_file.is_empty(),
            flags: ("--kms-key", "--key-file"),
        })
    }

    /// These arguments, for a command line that reads what was sealed with them.
    pub(crate) fn reading_arguments(kms_keys: &[String], key_files: &[PathBuf]) -> String {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let is_other = |key: &&String| NamedKey::parse(key).service != KmsService::Local;
        // Without any, all keys of the local store are tried.
        let any_other = kms_keys.iter().any(|key| is_other(&key));
        let named = kms_keys.iter().filter(|key| any_other && NamedKey::parse(key).reads());
        let shown = |key: &String| match NamedKey::parse(key) {
            token if token.service == KmsService::Pkcs11 => token.without_pin(),
            _ => key.clone(),
        };
        let named: String = named.map(|key| format!(" --kms-key {}", shell_quoted(Path::new(&shown(key))))).collect();
        let files = key_files.iter().map(|path| format!(" --key-file {}", shell_quoted(&absolute(path))));
        named + &files.collect::<String>()
    }
}

fn trusted_local_keys(kms: &LocalKms, named: &[&str]) -> Result<TrustedKeys> {
    if named.is_empty() {
        return Ok(TrustedKeys::Any);
    }
    // Envelopes name ids.
    Ok(TrustedKeys::Only(named.iter().map(|key| local_key_id(kms, key)).collect::<Result<_>>()?))
}

/// Id of the key that the user calls `name`.
pub(crate) fn local_key_id(kms: &LocalKms, name: &str) -> Result<String> {
    let found = kms.describe_key(name).map_err(|e| Failure::of_local_key(unavailable(e), name))?;
    Ok(found.key_id)
}

impl ReaderKeys {
    pub(crate) fn demands(&self) -> Result<ReadOptions> {
        Ok(ReadOptions {
            context: EncryptionContext::new(self.encryption_context.iter().cloned())?,
            bound: self.bound,
            ..ReadOptions::default()
        })
    }
}

impl TrustedByUser {
    /// `error`, and where no key could be used, why the local key store could not.
    pub(crate) fn explain(&self, error: Error) -> Failure {
        // Then the key was found, and another would not be the answer.
        let is_state = error.key_state().is_some();
        let failure = Failure::from(error);
        if is_state { failure } else { self.explain_failure(failure) }
    }

    /// The same for what was wrong with several objects.
    pub(crate) fn explain_failure(&self, mut failure: Failure) -> Failure {
        if failure.kind() == ErrorKind::KeyUnavailable {
            if let Some(local) = &self.local {
                failure = failure
                    .hint(local)
                    .hint("if there is a backup of the key store it was sealed with: sealift kms import-backup FILE");
            }
            for reason in &self.unusable {
                failure = failure.hint(reason);
            }
            let (key_flag, file_flag) = self.flags;
            failure =
                failure.hint(format!("if it was sealed for a key of another key service: {key_flag} [SERVICE:]KEY"));
            return failure.hint(match self.named_key_files {
                true => "if it was sealed for a key file, that is not among those given".to_owned(),
                false => format!("if it was sealed for a key file: {file_flag} FILE"),
            });
        }
        failure
            .hint_if(
                ErrorKind::NotSealed,
                "if it was sealed, its file in the folder `.sealift` beside it is missing or another body's: restore both from one backup",
            )
            .hint_if(
                ErrorKind::NotSealed,
                "if it was stored unsealed, as `put --no-seal` does: --no-seal reads it as it is",
            )
    }
}

fn read_key_file(path: &Path) -> Result<KeyFile> {
    let kms = KeyFile::read(path).map_err(unavailable)?;
    if kms.is_readable_by_others() {
        output::say(&format!("warning: others can read the key file {0}; to stop that: chmod 600 {0}", path.display()));
    }
    Ok(kms)
}

/// `path` as a POSIX shell reads it back.
fn shell_quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_a_shell() {
        assert_eq!(shell_quoted(Path::new("/a/b-c.key")), "/a/b-c.key");
        assert_eq!(shell_quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
