//! `kms export-backup` and `import-backup`.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read};
use std::path::Path;

use sealift::kms::backup::{self, SecretString};
use sealift::{Error, ErrorKind};

use super::write_whole;
use crate::args::{ExportBackup, ImportBackup, Passphrase};
use crate::commands::get;
use crate::exit::{Failure, Result};
use crate::home::Home;
use crate::output;

pub(super) fn export(args: &ExportBackup) -> Result {
    let kms = Home::find()?.open_key_store()?;
    let to_stdout = args.file.as_os_str() == "-";
    if !to_stdout && !args.force && std::fs::symlink_metadata(&args.file).is_ok() {
        return Err(get::exists(&args.file));
    }
    if to_stdout && io::stdout().is_terminal() {
        return Err(Failure::new(ErrorKind::InvalidInput, "a backup is not text for a terminal: name a file"));
    }
    let passphrase = args.passphrase.for_export()?;
    if to_stdout {
        return Ok(backup::export(&kms, passphrase, io::stdout().lock())?);
    }
    write_whole(&args.file, args.force, |file| Ok(backup::export(&kms, passphrase, file)?))?;
    output::say(&format!(
        "{}: a backup of the key store. Keep it, and the passphrase, away from this machine.",
        args.file.display()
    ));
    Ok(())
}

pub(super) fn import(args: &ImportBackup) -> Result {
    let home = Home::find()?;
    let input: Box<dyn Read> = if args.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let failed = |e| Error::io(format!("cannot open {}", args.file.display()), e);
        Box::new(BufReader::new(File::open(&args.file).map_err(failed)?))
    };
    let passphrase = args.passphrase.for_import()?;
    let kms = backup::import(input, passphrase, home.key_store()).map_err(|e| {
        Failure::from(e)
            .hint_if(ErrorKind::AlreadyExists, "a key store is never replaced; for another one, set SEALIFT_HOME")
    })?;
    output::say(&format!("Restored the key store in {}.", kms.dir().display()));
    if std::env::var_os("SEALIFT_ROOT_KEY").is_some_and(|text| !text.is_empty()) {
        output::say("note: SEALIFT_ROOT_KEY is set, and is used instead of the root key that was restored");
    }
    Ok(())
}

impl Passphrase {
    fn for_export(&self) -> Result<SecretString> {
        let Some(passphrase) = self.given()? else {
            let first = ask("Passphrase for the backup: ")?;
            if first.is_empty() {
                return Err(empty());
            }
            if first != ask("The same again: ")? {
                return Err(Failure::new(ErrorKind::InvalidInput, "the two passphrases differ"));
            }
            return Ok(SecretString::from(first));
        };
        Ok(passphrase)
    }

    fn for_import(&self) -> Result<SecretString> {
        match self.given()? {
            Some(passphrase) => Ok(passphrase),
            None => ask("Passphrase of the backup: ").map(SecretString::from),
        }
    }

    /// From the file or the environment.
    fn given(&self) -> Result<Option<SecretString>> {
        let passphrase = match (&self.passphrase_file, std::env::var_os("SEALIFT_BACKUP_PASSPHRASE")) {
            (Some(path), _) => first_line(path)?,
            (None, Some(text)) => text
                .into_string()
                .map_err(|_| Failure::new(ErrorKind::InvalidInput, "SEALIFT_BACKUP_PASSPHRASE is not UTF-8"))?,
            (None, None) => return Ok(None),
        };
        if passphrase.is_empty() { Err(empty()) } else { Ok(Some(SecretString::from(passphrase))) }
    }
}

fn first_line(path: &Path) -> Result<String> {
    let failed = |e| Error::io(format!("reading the passphrase from {}", path.display()), e);
    let mut line = String::new();
    BufReader::new(File::open(path).map_err(failed)?).read_line(&mut line).map_err(failed)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn ask(prompt: &str) -> Result<String> {
    if !io::stderr().is_terminal() {
        return Err(Failure::new(ErrorKind::InvalidInput, "there is no terminal to ask for the passphrase on")
            .hint("set SEALIFT_BACKUP_PASSPHRASE, or give --passphrase-file FILE"));
    }
    let asked = rpassword::prompt_password(prompt);
    Ok(asked.map_err(|e| Error::io("asking for the passphrase", e))?)
}

fn empty() -> Failure {
    Failure::new(ErrorKind::InvalidInput, "an empty passphrase protects nothing")
}
