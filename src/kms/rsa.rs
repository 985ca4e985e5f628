//! The key service `rsa`: an escrow key whose public half wraps here, and whose private half lies somewhere safe.

use std::fmt;
use std::fs::File;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::crypto::{DataKey, OaepPrivateKey, OaepPublicKey};
use crate::error::{Error, ErrorKind, Result};
use crate::format::context;
use crate::kms::{Kms, secret};
use crate::types::{EncryptionContext, KmsService, WrappedKey};

/// An RSA key of 2,048 to 8,192 bits, for disaster recovery: every object is sealed for it too, and should all other
/// CMKs be lost, whoever fetches the private key from the safe can still open what there is.
///
/// With the public key alone ([`read`](Self::read)) it wraps and cannot unwrap. With the private key
/// ([`read_private`](Self::read_private)) it does both.
///
/// The key's id is the SHA-256 of the public key, a DER-encoded `SubjectPublicKeyInfo`, as 64 hexadecimal digits:
/// what `openssl pkey -pubin -in escrow.pem -outform DER | sha256sum` prints.
///
/// A wrapped data key is RSAES-OAEP ([RFC 8017](https://www.rfc-editor.org/rfc/rfc8017#section-7.1)) with SHA-256 and
/// MGF1 with SHA-256, as long as the modulus. Its label is SHA-256(`"sealift/v1/rsa-escrow"` ‖ 0x00 ‖ [canonical
/// encryption context](EncryptionContext::canonical)), so that it opens for its own object only. Any tool that knows
/// OAEP labels opens it; FORMAT.md shows how with `openssl`. In an envelope it takes 344 bytes for a key of 2,048 bits,
/// and 684 for one of 4,096, out of 2,048 for everything.
///
/// ```
/// use sealift::EncryptionContext;
/// use sealift::kms::{Kms as _, rsa::RsaEscrow};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sealift::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("escrow.pem");
/// // openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 | openssl pkey -pubout -out escrow.pem
/// # std::fs::write(&path, "-----BEGIN PUBLIC KEY-----
/// # MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxmCxDh9a3DBfkVxxbqVV
/// # edyyjF8kyxqSMMaPjp2HP1s35Xs/iHwa0iW0FinZXm9LB4+tqY/XmkulbXz6l3CN
/// # p1o0kZPUKL1wt7qj7X8uVQCsaydUJU68wH7/NHAnKOBi+hJ7g7lzuc5un2yYt9M4
/// # 3UyzMunMQ2+0Y1GGLcWwcPl4p7KxRHEnFEL3M+oud7ZIPryijRUGchtAkDMCOPUL
/// # qmWF6MBG3DPQT/shNP+oQC5JctMQ90AW091BpAYN1AMWfsw5Hznq9pGAnxJuYh80
/// # 96+lrQKxtFJd3KIUjjajUQHWF+7jLWd8WRUA7mt0hXbxsFAKIGPfzFeIPqVoM2m5
/// # /wIDAQAB
/// # -----END PUBLIC KEY-----").unwrap();
/// let escrow = RsaEscrow::read(&path)?;
/// let context = EncryptionContext::default();
/// let (_data_key, wrapped) = escrow.generate_data_key(escrow.id(), &context).await?;
///
/// // Not here.
/// let error = escrow.unwrap(&wrapped, &context).await.unwrap_err();
/// assert_eq!(error.kind(), sealift::ErrorKind::KeyUnavailable);
/// # Ok(())
/// # }
/// ```
///
/// **Whoever has the public key can wrap**, and so make objects that open with the private key: opening with it shows that nobody altered
/// an object since it was made, not who made it.
pub struct RsaEscrow {
    public: OaepPublicKey,
    private: Option<OaepPrivateKey>,
    id: String,
}

impl RsaEscrow {
    /// Reads the public key from the file at `path`: a `SubjectPublicKeyInfo`
    /// ([RFC 5280](https://www.rfc-editor.org/rfc/rfc5280#section-4.1)) as PEM (`BEGIN PUBLIC KEY`) or DER.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] if the file holds anything else, a private key included, which has no place where
    ///   uploads are made; the message has the command that makes the right file.
    /// - As the operating system has it if the file cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let invalid = |what: &str, advice: &str| invalid(path, "an RSA public key", what, advice);
        let public = match read_document(path)? {
            Document::Der(der) => OaepPublicKey::from_spki(&der)
                .ok_or_else(|| invalid("something else", "write it with `openssl pkey -pubin -in FILE -pubout`"))?,
            Document::Pem(label, der) => match label.as_str() {
                "PUBLIC KEY" => OaepPublicKey::from_spki(&der)
                    .ok_or_else(|| invalid("a key of another kind or size", "an RSA key has 2,048 to 8,192 bits"))?,
                "RSA PUBLIC KEY" => {
                    return Err(invalid(
                        "a bare PKCS #1 key",
                        "convert it with `openssl rsa -RSAPublicKey_in -in FILE -pubout`",
                    ));
                }
                "CERTIFICATE" => {
                    return Err(invalid(
                        "a certificate",
                        "take the key out of it with `openssl x509 -in FILE -noout -pubkey`",
                    ));
                }
                label if label.ends_with("PRIVATE KEY") => {
                    return Err(invalid(
                        "a private key",
                        "keep that one in a safe, and give the public half here: `openssl pkey -in FILE -pubout`",
                    ));
                }
                _ => return Err(invalid("something else", "it begins with `-----BEGIN PUBLIC KEY-----`")),
            },
        };
        Ok(Self::new(public, None))
    }

    /// Reads the private key from the file at `path`, an unencrypted PKCS #8 document
    /// ([RFC 5208](https://www.rfc-editor.org/rfc/rfc5208#section-5)) as PEM (`BEGIN PRIVATE KEY`) or DER: for
    /// recovering, where the other CMKs are lost.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] if the file holds anything else; the message has the command that makes the right
    ///   one.
    /// - As the operating system has it if the file cannot be read.
    pub fn read_private(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let invalid = |what: &str, advice: &str| invalid(path, "an RSA private key", what, advice);
        const TO_PKCS8: &str =
            "convert it with `openssl pkcs8 -topk8 -nocrypt -in FILE`, into a file nobody else reads";
        let key = match read_document(path)? {
            Document::Der(der) => {
                OaepPrivateKey::from_pkcs8(&der).ok_or_else(|| invalid("something else than PKCS #8", TO_PKCS8))?
            }
            Document::Pem(label, der) => match label.as_str() {
                "PRIVATE KEY" => OaepPrivateKey::from_pkcs8(&der)
                    .ok_or_else(|| invalid("a key of another kind or size", "an RSA key has 2,048 to 8,192 bits"))?,
                "ENCRYPTED PRIVATE KEY" => {
                    return Err(invalid(
                        "one under a passphrase",
                        "decrypt it with `openssl pkey -in FILE`, into a file nobody else reads",
                    ));
                }
                "RSA PRIVATE KEY" => return Err(invalid("a bare PKCS #1 key", TO_PKCS8)),
                "PUBLIC KEY" => return Err(invalid("a public key", "give the private half, in PKCS #8")),
                _ => return Err(invalid("something else", "it begins with `-----BEGIN PRIVATE KEY-----`")),
            },
        };
        Ok(Self::new(key.1, Some(key.0)))
    }

    fn new(public: OaepPublicKey, private: Option<OaepPrivateKey>) -> Self {
        let id = base16ct::lower::encode_string(&Sha256::digest(public.spki()));
        Self { public, private, id }
    }

    /// The key's id, for [`generate_data_key`](Kms::generate_data_key) and [`wrap`](Kms::wrap).
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the private key is here.
    #[must_use]
    pub fn can_unwrap(&self) -> bool {
        self.private.is_some()
    }

    fn wrap_data_key(&self, key: &str, data_key: &DataKey, context: &EncryptionContext) -> Result<WrappedKey> {
        self.check_key(key)?;
        let blob = self
            .public
            .encrypt(&label(context), data_key.expose())
            .ok_or_else(|| Error::new(ErrorKind::Internal, "wrapping a data key under an RSA key"))?;
        Ok(WrappedKey { kms: KmsService::Rsa, key: self.id.clone(), blob })
    }

    fn unwrap_data_key(&self, wrapped: &WrappedKey, context: &EncryptionContext) -> Result<DataKey> {
        secret::check_service(KmsService::Rsa, wrapped)?;
        self.check_key(&wrapped.key)?;
        let Some(private) = &self.private else {
            let message = format!(
                "the escrow key {} can wrap but not unwrap here: that takes its private key, which is kept elsewhere",
                self.id
            );
            return Err(Error::new(ErrorKind::KeyUnavailable, message));
        };
        let opened = private.decrypt(&label(context), &wrapped.blob).and_then(|mut key| DataKey::take(&mut key).ok());
        opened.ok_or_else(|| secret::does_not_open(wrapped))
    }

    fn check_key(&self, key: &str) -> Result<()> {
        if key == self.id {
            return Ok(());
        }
        let message = format!("the escrow key is {}, not {key:?}: give the file of that key", self.id);
        Err(Error::new(ErrorKind::KeyUnavailable, message))
    }
}

impl Kms for RsaEscrow {
    fn service(&self) -> KmsService {
        KmsService::Rsa
    }

    fn wrap<'a>(
        &'a self,
        key: &'a str,
        data_key: &'a DataKey,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<WrappedKey>> {
        Box::pin(async move { self.wrap_data_key(key, data_key, context) })
    }

    fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey, context: &'a EncryptionContext) -> BoxFuture<'a, Result<DataKey>> {
        Box::pin(async move { self.unwrap_data_key(wrapped, context) })
    }
}

impl fmt::Debug for RsaEscrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RsaEscrow")
            .field("id", &self.id)
            .field("bits", &self.public.bits())
            .field("can_unwrap", &self.can_unwrap())
            .finish()
    }
}

/// Hashed, so that every context gives a label of the same length, which fits on a command line.
fn label(context: &EncryptionContext) -> [u8; 32] {
    Sha256::digest(context::rsa_escrow(context)).into()
}

enum Document {
    /// Label and content.
    Pem(String, Zeroizing<Vec<u8>>),
    Der(Zeroizing<Vec<u8>>),
}

fn read_document(path: &Path) -> Result<Document> {
    let failed = |error| Error::io(format!("reading the RSA key {}", path.display()), error);
    let mut file = File::open(path).map_err(failed)?;
    let content = secret::read_secret(&mut file, MAX_FILE).map_err(failed)?;
    let content = content.ok_or_else(|| invalid(path, "an RSA key", "far more than that", "give another file"))?;
    match content.windows(BEGIN.len()).position(|window| window == BEGIN) {
        None => Ok(Document::Der(content)),
        Some(at) => pem(content.get(at..).unwrap_or_default()).ok_or_else(|| {
            invalid(path, "an RSA key", "PEM that is damaged", "look whether the file was cut short or edited")
        }),
    }
}

/// The first document of `text`, which begins with it ([RFC 7468](https://www.rfc-editor.org/rfc/rfc7468)).
fn pem(text: &[u8]) -> Option<Document> {
    let text = std::str::from_utf8(text.strip_prefix(BEGIN)?).ok()?;
    let (label, rest) = text.split_once("-----")?;
    let (base64, _) = rest.split_once(&format!("-----END {label}-----"))?;
    // Both as large as they may get: a vector that grows leaves copies of what may be a private key behind.
    let mut packed = Zeroizing::new(Vec::with_capacity(base64.len()));
    packed.extend(base64.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut der = Zeroizing::new(vec![0; packed.len()]);
    let len = STANDARD.decode_slice(packed.as_slice(), &mut der).ok()?;
    der.truncate(len);
    Some(Document::Pem(label.to_owned(), der))
}

fn invalid(path: &Path, wanted: &str, found: &str, advice: &str) -> Error {
    let message = format!("{} should hold {wanted}, and holds {found}: {advice}", path.display());
    Error::new(ErrorKind::InvalidInput, message)
}

const BEGIN: &[u8] = b"-----BEGIN ";
/// A private key of 8,192 bits has 6.5 KB in PEM; there may be text around it.
const MAX_FILE: usize = 64 * 1024;
