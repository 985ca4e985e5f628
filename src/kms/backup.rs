//! Backups of the embedded key store: one file, sealed under a passphrase by [age](https://age-encryption.org/v1).
//!
//! A backup holds everything the keys need, the root key too, wherever the store keeps that. `age --decrypt` opens it
//! as well: inside is JSON,
//! `{"format":"sealift-kms-backup","version":1,"root_key":"<base64>","snapshot":{"store":"<content of
//! store.json>","keys":{"<key id>":"<content of its file>",…}}}`.

use std::io::{self, Read, Write};
use std::path::Path;

pub use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor, scrypt};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};
use crate::kms::local::{LocalKms, RootKey, Snapshot};

/// Writes a backup of `kms` to `writer`, sealed under `passphrase`.
///
/// Every key is opened first, so that what is backed up is known to work. Nobody can change the store meanwhile.
/// Takes about a second, because the passphrase is stretched (scrypt, 2^18), and blocks for that long.
///
/// ```
/// use sealift::kms::backup::{self, SecretString};
/// use sealift::kms::local::{LocalKms, RootKeySource};
///
/// # fn main() -> sealift::Result<()> {
/// # let home = tempfile::tempdir().unwrap();
/// # let home = home.path();
/// let (kms, _) = LocalKms::open_or_create(home.join("kms"), RootKeySource::File)?;
/// let passphrase = SecretString::from("correct horse battery staple");
/// let mut file = Vec::new();
/// backup::export(&kms, passphrase.clone(), &mut file)?;
///
/// let restored = backup::import(file.as_slice(), passphrase, home.join("restored"))?;
/// assert_eq!(restored.list_keys()?, kms.list_keys()?);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// - Those of [`LocalKms::list_keys`] if anything in the store is missing or damaged; nothing is written then.
/// - As the operating system has it if `writer` fails; what it wrote is then no backup.
pub fn export(kms: &LocalKms, passphrase: SecretString, mut writer: impl Write) -> Result<()> {
    let snapshot = kms.snapshot()?;
    let root_key = kms.root_key().to_base64();
    let backup = Backup { format: FORMAT, version: VERSION, root_key: &root_key, snapshot };

    let mut recipient = scrypt::Recipient::new(passphrase);
    // Fixed, and not what takes a second here: on a faster machine that would be more than a slower one accepts.
    recipient.set_work_factor(WORK_FACTOR);
    let encryptor = Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
        .map_err(|error| Error::new(ErrorKind::Internal, "age refused to seal the backup").with_source(error))?;

    // In memory at first, because a store is small and age blurs what went wrong with a writer.
    let mut sealed = Vec::new();
    let seal = |sealed: &mut Vec<u8>| -> io::Result<()> {
        let mut stream = encryptor.wrap_output(sealed)?;
        serde_json::to_writer(&mut stream, &backup)?;
        stream.finish().map(|_| ())
    };
    seal(&mut sealed)
        .map_err(|error| Error::new(ErrorKind::Internal, "sealing the backup of the key store").with_source(error))?;
    writer
        .write_all(&sealed)
        .and_then(|()| writer.flush())
        .map_err(|error| Error::io("writing the backup of the key store", error))
}

/// Restores the backup in `reader` as the key store `dir`, with its root key in `root.key`, and opens it.
///
/// The store appears as a whole, after each of its keys was opened, or not at all.
///
/// # Errors
/// - [`ErrorKind::AlreadyExists`] if there is anything in `dir`; it stays as it is.
/// - [`ErrorKind::Authentication`] if `passphrase` is not the backup's.
/// - [`ErrorKind::Malformed`] if the backup is cut short, damaged, or none, and [`ErrorKind::UnsupportedFormat`] if a
///   newer Sealift wrote it.
/// - As the operating system has it if `reader` fails or a file cannot be written.
pub fn import(reader: impl Read, passphrase: SecretString, dir: impl AsRef<Path>) -> Result<LocalKms> {
    let dir = dir.as_ref();
    LocalKms::check_absent(dir)?;

    let mut identity = scrypt::Identity::new(passphrase);
    identity.set_max_work_factor(MAX_WORK_FACTOR);
    let text = open(reader, &identity)?;

    let malformed = |error| not_a_backup().with_source(error);
    let Header { format, version } = serde_json::from_slice(&text).map_err(malformed)?;
    if format != FORMAT {
        return Err(not_a_backup());
    }
    if version != VERSION {
        return Err(Error::new(
            ErrorKind::UnsupportedFormat,
            format!("the backup has version {version}: a newer Sealift wrote it, and can read it"),
        ));
    }
    let backup: Backup<'_> = serde_json::from_slice(&text).map_err(malformed)?;
    let root_key = RootKey::from_base64(backup.root_key).map_err(|_| not_a_backup())?;
    LocalKms::restore(dir, &root_key, &backup.snapshot)
}

/// What `sealed` holds.
fn open(reader: impl Read, identity: &scrypt::Identity) -> Result<Zeroizing<Vec<u8>>> {
    // All of it at first, so that what fails from here on is the backup and not the reader.
    let mut sealed = Vec::new();
    reader
        .take(MAX_LEN + 1)
        .read_to_end(&mut sealed)
        .map_err(|error| Error::io("reading the backup of the key store", error))?;
    if sealed.len() as u64 > MAX_LEN {
        return Err(not_a_backup());
    }
    let mut opened = Decryptor::new_buffered(sealed.as_slice())
        .and_then(|decryptor| decryptor.decrypt(std::iter::once(identity as &dyn age::Identity)))
        .map_err(refused)?;
    // Longer than what it will hold: a vector that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(sealed.len()));
    opened.read_to_end(&mut text).map_err(|error| refused(error.into()))?;
    Ok(text)
}

fn refused(error: DecryptError) -> Error {
    match error {
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
            Error::new(ErrorKind::Authentication, "the passphrase does not open the backup")
        }
        // Not as the source: with bounds other than age's own, its message cannot be written.
        DecryptError::ExcessiveWork { required, .. } => Error::new(
            ErrorKind::Malformed,
            format!(
                "the backup asks for 2^{required} rounds of scrypt, and {MAX_WORK_FACTOR} is the most that is allowed"
            ),
        ),
        DecryptError::Io(_) | DecryptError::InvalidMac => {
            Error::new(ErrorKind::Malformed, "the backup is cut short or damaged").with_source(error)
        }
        _ => not_a_backup().with_source(error),
    }
}

fn not_a_backup() -> Error {
    Error::new(ErrorKind::Malformed, "this is no backup of a key store")
}

const FORMAT: &str = "sealift-kms-backup";
const VERSION: u32 = 1;
/// Of scrypt, as a power of two: about a second, and 256 MiB of memory.
const WORK_FACTOR: u8 = 18;
/// Room for a stronger one in later versions, but not for a file that makes the reader allocate without bound.
const MAX_WORK_FACTOR: u8 = 20;
/// Some hundred thousand keys.
const MAX_LEN: u64 = 256 << 20;

#[derive(Deserialize)]
struct Header<'a> {
    format: &'a str,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Backup<'a> {
    format: &'a str,
    version: u32,
    /// Borrowed, so that there is no other copy to wipe.
    root_key: &'a str,
    snapshot: Snapshot,
}
