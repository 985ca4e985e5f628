//! `kms get-parameters-for-import` and `import-key-material`: bring your own key.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sealift::{Error, ErrorKind};
use serde::Serialize;

use super::{change, write_whole};
use crate::args::{GetParametersForImport, ImportKeyMaterial};
use crate::commands::get;
use crate::exit::{Failure, Result};
use crate::home::Home;
use crate::output;

/// Far more than a token or wrapped material in base64.
const MAX_FILE: u64 = 64 << 10;

/// What RSA makes of key material, by the size of its key: 2048, 3072 and 4096 bits.
const WRAPPED_LENGTHS: [usize; 3] = [256, 384, 512];

#[derive(Serialize)]
struct Parameters {
    key_id: String,
    wrapping_algorithm: String,
    wrapping_key_spec: String,
    public_key: String,
    import_token: String,
    token_expire_time: String,
}

pub(super) fn parameters(args: &GetParametersForImport) -> Result {
    let kms = Home::find()?.open_key_store()?;
    let (key_file, token_file) = (args.public_key_out.as_deref(), args.import_token_out.as_deref());
    check_destinations(key_file, token_file, args.force)?;
    let found = kms
        .get_parameters_for_import(&args.key, args.wrapping_algorithm, args.wrapping_key_spec)
        .map_err(|e| Failure::of_local_key(e, &args.key))?;
    for (path, bytes) in [(key_file, &found.public_key), (token_file, &found.import_token)] {
        if let Some(path) = path {
            let failed = |e| Error::io(format!("writing {}", path.display()), e);
            write_whole(path, args.force, |mut file| Ok(file.write_all(bytes).map_err(failed)?))?;
        }
    }
    let parameters = Parameters {
        key_id: found.key_id,
        wrapping_algorithm: args.wrapping_algorithm.to_string(),
        wrapping_key_spec: args.wrapping_key_spec.to_string(),
        public_key: STANDARD.encode(&found.public_key),
        import_token: STANDARD.encode(&found.import_token),
        token_expire_time: output::timestamp(found.valid_until),
    };
    args.json.print(&parameters, || parameters.text(key_file, token_file))
}

impl Parameters {
    fn text(&self, key_file: Option<&Path>, token_file: Option<&Path>) -> String {
        let place = |file: Option<&Path>, text: &str| {
            file.map_or_else(|| text.to_owned(), |path| format!("in {}", path.display()))
        };
        let lines = [
            ("key id", self.key_id.clone()),
            ("wrap with", format!("{}, {}", self.wrapping_algorithm, self.wrapping_key_spec)),
            ("public key", place(key_file, &self.public_key)),
            ("import token", place(token_file, &self.import_token)),
            ("good until", self.token_expire_time.clone()),
        ];
        lines.map(|(name, value)| format!("{name:<13}{value}")).join("\n")
    }
}

/// Refuses what would only fail when half of it is done.
fn check_destinations(key_file: Option<&Path>, token_file: Option<&Path>, force: bool) -> Result {
    if key_file.is_some() && key_file == token_file {
        return Err(Failure::new(ErrorKind::InvalidInput, "the public key and the import token need a file each"));
    }
    for path in [key_file, token_file].into_iter().flatten() {
        if path.as_os_str() == "-" {
            return Err(Failure::new(ErrorKind::InvalidInput, "the public key and the import token are not text")
                .hint("without these options, and with --json, both are printed in base64"));
        }
        if !force && path.symlink_metadata().is_ok() {
            return Err(get::exists(path));
        }
    }
    Ok(())
}

pub(super) fn import(args: &ImportKeyMaterial) -> Result {
    let token = read(&args.import_token)?;
    let material = read_material(&args.encrypted_key_material)?;
    let import =
        |kms: &sealift::kms::local::LocalKms, key: &str| kms.import_key_material(key, &material, &token, args.expires);
    change(&args.key, &args.output, import, |key| match &key.material_expire_time {
        Some(time) => format!("has its key material, until {time}; its state is {}", key.key_state),
        None => format!("has its key material; its state is {}", key.key_state),
    })
}

fn read_material(path: &Path) -> Result<Vec<u8>> {
    let material = read(path)?;
    if WRAPPED_LENGTHS.contains(&material.len()) {
        return Ok(material);
    }
    let message = format!(
        "{} holds {} bytes, but key material wrapped with an RSA key has 256, 384 or 512",
        path.display(),
        material.len()
    );
    let hint = match material.len() {
        32 => "wrap the material with the public key of get-parameters-for-import, and import what comes out",
        _ => "--encrypted-key-material names the file with the wrapped material, --import-token the one with the token",
    };
    Err(Failure::new(ErrorKind::InvalidInput, message).hint(hint))
}

/// What is in a file, as it is or in base64.
fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |e| Error::io(format!("cannot read {}", path.display()), e);
    let refused = |why: &str| Failure::new(ErrorKind::InvalidInput, format!("{} {why}", path.display()));
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(refused("is a directory"));
    }
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > MAX_FILE {
        return Err(refused("is far too large for an import token or wrapped key material"));
    }
    let bytes = decode(content).ok_or_else(|| refused("is text, but not base64"))?;
    if bytes.is_empty() { Err(refused("is empty")) } else { Ok(bytes) }
}

/// Text must be base64, anything else is what it is.
///
/// Nothing raw is taken for text: tokens and wrapped material have hundreds of bytes like random ones, of which nearly two
/// in three are no ASCII text.
fn decode(content: Vec<u8>) -> Option<Vec<u8>> {
    if !content.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        return Some(content);
    }
    let digits: Vec<u8> = content.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(digits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_base64_and_the_rest_is_raw() {
        let raw: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(raw.clone()), Some(raw.clone()));
        let text = STANDARD.encode(&raw);
        let wrapped: Vec<_> = text.as_bytes().chunks(64).collect();
        for spelled in [text.clone(), format!("{text}\n"), format!("  {text} \r\n"), text.replace('A', "\nA")] {
            assert_eq!(decode(spelled.into_bytes()), Some(raw.clone()));
        }
        assert_eq!(decode(wrapped.join(&b"\n"[..])), Some(raw));
        for text in ["-----BEGIN PUBLIC KEY-----", "AAA", "AA-_", "{\"a\": 1}", "AAAB=", "0x0"] {
            assert_eq!(decode(text.as_bytes().to_vec()), None, "{text}");
        }
        assert_eq!(decode(b" \n".to_vec()), Some(Vec::new()));
    }
}
