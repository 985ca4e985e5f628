//! Which keys seal and which are trusted to open, from what the user named.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sealift::engine::ReadOptions;
use sealift::kms::Kms;
use sealift::kms::key_file::KeyFile;
use sealift::kms::local::LocalKms;
use sealift::kms::recipients::{Recipient, Trusted, TrustedKeys};
use sealift::{EncryptionContext, Error, ErrorKind};

use crate::args::{Keys, Put, ReaderKeys};
use crate::exit::{Failure, Result};
use crate::home::{Home, unavailable};
use crate::output;

/// Whom `put` seals for. Makes the key store on first use, unless only key files or other keys are named.
pub(crate) fn recipients(args: &Put, home: &Home) -> Result<Vec<Recipient>> {
    recipients_named(&args.kms_key, &args.key_file, home)
}

/// The recipients that are named so, as `put` understands it; where none is, the default key.
pub(crate) fn recipients_named(kms_key: &[String], key_file: &[PathBuf], home: &Home) -> Result<Vec<Recipient>> {
    let default = [LocalKms::DEFAULT_ALIAS.to_owned()];
    let local = match (kms_key, key_file) {
        ([], []) => &default,
        (named, _) => named,
    };
    let mut recipients = Vec::new();
    if !local.is_empty() {
        // A new store has only the one key, so for any other there is no sense in making it.
        let kms: Arc<dyn Kms> = if local.iter().all(|key| key == LocalKms::DEFAULT_ALIAS) {
            Arc::new(home.open_or_create_key_store()?)
        } else {
            Arc::new(home.open_key_store()?)
        };
        recipients.extend(local.iter().map(|key| Recipient { kms: Arc::clone(&kms), key: key.clone() }));
    }
    for path in key_file {
        let kms = read_key_file(path)?;
        let key = kms.id().to_owned();
        recipients.push(Recipient { kms: Arc::new(kms), key });
    }
    Ok(recipients)
}

/// Whom a reader believes, and why the local key store is not among them if it is not.
pub(crate) struct TrustedByUser {
    pub(crate) keys: Trusted,
    local: Option<String>,
    named_key_files: bool,
    /// What names further key files on this command line.
    pub(crate) key_file_flag: &'static str,
}

impl Keys {
    /// The keys of the local key store, as far as it can be used and is not narrowed, and those of the files named.
    pub(crate) fn trusted(&self, home: &Home) -> Result<TrustedByUser> {
        let mut services: Vec<(Arc<dyn Kms>, TrustedKeys)> = Vec::new();
        let mut local = None;
        match home.open_key_store() {
            Ok(kms) => {
                let keys = self.local_keys(&kms)?;
                services.push((Arc::new(kms), keys));
            }
            Err(e) if !self.kms_key.is_empty() => return Err(e.into()),
            // Perhaps the object is sealed for a key file; perhaps it is not even there.
            Err(_) if !home.key_store().exists() => {
                local = Some(format!("there is no key store at {}", home.key_store().display()));
            }
            Err(e) => local = Some(e.to_string()),
        }
        for path in &self.key_file {
            let kms = read_key_file(path)?;
            let only = TrustedKeys::Only(vec![kms.id().to_owned()]);
            services.push((Arc::new(kms), only));
        }
        Ok(TrustedByUser {
            keys: Trusted::new(services),
            local,
            named_key_files: !self.key_file.is_empty(),
            key_file_flag: "--key-file",
        })
    }

    fn local_keys(&self, kms: &LocalKms) -> Result<TrustedKeys> {
        if self.kms_key.is_empty() {
            return Ok(TrustedKeys::Any);
        }
        // Envelopes name ids.
        let ids = self.kms_key.iter().map(|key| kms.describe_key(key).map(|found| found.key_id));
        Ok(TrustedKeys::Only(ids.collect::<Result<_, _>>().map_err(unavailable)?))
    }

    /// These arguments, for a command line that does the same again.
    pub(crate) fn key_file_arguments(files: &[PathBuf]) -> String {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        files.iter().map(|path| format!(" --key-file {}", shell_quoted(&absolute(path)))).collect()
    }
}

impl ReaderKeys {
    pub(crate) fn demands(&self) -> Result<ReadOptions> {
        Ok(ReadOptions { context: EncryptionContext::new(self.encryption_context.iter().cloned())?, bound: self.bound })
    }
}

impl TrustedByUser {
    /// `error`, and where no key could be used, why the local key store could not.
    pub(crate) fn explain(&self, error: Error) -> Failure {
        let mut failure = Failure::from(error);
        if failure.kind() == ErrorKind::KeyUnavailable {
            if let Some(local) = &self.local {
                failure = failure
                    .hint(local)
                    .hint("if there is a backup of the key store it was sealed with: sealift kms import-backup FILE");
            }
            return failure.hint(match self.named_key_files {
                true => "if it was sealed for a key file, that is not among those given".to_owned(),
                false => format!("if it was sealed for a key file: {} FILE", self.key_file_flag),
            });
        }
        failure.hint_if(
            ErrorKind::NotSealed,
            "if it was sealed, its file in the folder `.sealift` beside it is missing: restore that too",
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
