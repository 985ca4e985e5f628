//! What a person does with a key store, and with OpenSSL.

use std::process::Command;

use serde_json::Value;

use crate::support::{Run, Sandbox};

pub(crate) const OAEP_SHA_256: [&str; 3] = ["rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256"];

/// The options that name the files of [`KeyStore::parameters`] and [`KeyStore::wrap`].
pub(crate) const FILES: [&str; 4] = ["--import-token", "token", "--encrypted-key-material", "wrapped"];

/// A sandbox, and what a person does with its keys.
pub(crate) struct KeyStore {
    pub(crate) sandbox: Sandbox,
}

impl KeyStore {
    /// With a file `src` to seal.
    pub(crate) fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.write("src", b"for our eyes only");
        Self { sandbox }
    }

    pub(crate) fn kms(&self, args: &[&str]) -> Run {
        self.sandbox.run(&[&["kms"], args].concat())
    }

    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        self.kms(&[args, &["--json"]].concat()).expect(0).json()
    }

    #[track_caller]
    pub(crate) fn create(&self, origin: &str) -> String {
        let id = self.kms(&["create-key", "--origin", origin]).expect(0).stdout();
        id.strip_suffix('\n').unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn state(&self, key: &str) -> String {
        self.json(&["describe-key", key])["key_state"].as_str().unwrap().to_owned()
    }

    /// The files `public.der` and `token`.
    #[track_caller]
    pub(crate) fn parameters(&self, key: &str, options: &[&str]) {
        let files = ["--public-key-out", "public.der", "--import-token-out", "token", "--force"];
        self.kms(&[&["get-parameters-for-import", key], &files[..], options].concat()).expect(0);
    }

    /// The file `wrapped`: `material`, wrapped by OpenSSL with `public.der`.
    pub(crate) fn wrap(&self, material: &[u8], options: &[&str]) {
        self.sandbox.write("material", material);
        let mut command = Command::new("openssl");
        command.args(["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", "public.der"]);
        command.args(["-in", "material", "-out", "wrapped"]).current_dir(self.sandbox.path("."));
        command.args(options.iter().flat_map(|option| ["-pkeyopt", option]));
        let status = command.status().expect("these tests need the program `openssl`: apt-get install openssl");
        assert!(status.success(), "{command:?}");
    }

    /// Imports `material` into `key`.
    #[track_caller]
    pub(crate) fn import(&self, key: &str, material: &[u8]) {
        self.parameters(key, &[]);
        self.wrap(material, &OAEP_SHA_256);
        self.kms(&[&["import-key-material", key], &FILES[..]].concat()).expect(0);
    }

    pub(crate) fn put(&self, key: &str, object: &str) -> Run {
        self.sandbox.run(&["put", "src", object, "--kms-key", key])
    }

    pub(crate) fn cat(&self, object: &str) -> Run {
        self.sandbox.run(&["cat", object])
    }

    #[track_caller]
    pub(crate) fn opens(&self, object: &str) {
        assert_eq!(self.cat(object).expect(0).bytes(), b"for our eyes only");
    }
}

/// Demands a time as JSON has it.
#[track_caller]
pub(crate) fn is_time(value: &Value) {
    let text = value.as_str().unwrap_or_default();
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00Z", "{value}");
}
