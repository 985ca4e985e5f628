//! The key service `pkcs11`: hardware security modules, by [PKCS #11](https://docs.oasis-open.org/pkcs11/pkcs11-base/v2.40/pkcs11-base-v2.40.html).

mod uri;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11};
use cryptoki::error::{Error as TokenError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use futures::future::BoxFuture;
use zeroize::Zeroizing;

use self::uri::Pkcs11Uri;
use crate::crypto::DataKey;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::kms::{Kms, secret};
use crate::types::{EncryptionContext, KeyState, KmsService, WrappedKey};

/// CMKs on a PKCS #11 token: AES-256 keys that never leave it.
///
/// A key is named by its `CKA_ID` in hexadecimal digits, or else by its `CKA_LABEL`. Envelopes name it by its `CKA_ID`
/// in lower case, or by its label if it has none; so do not change either while there are objects under it, and give
/// every key an id of its own.
///
/// The token wraps a data key by `CKM_AES_GCM` with a random initialization vector of 12 bytes and a tag of 16. The
/// [canonical encryption context](EncryptionContext::canonical) is the associated data. A wrapped data key is
/// vector ‖ ciphertext ‖ tag, 60 bytes. Because the vectors are random, wrap at most 2^32 data keys under one CMK
/// ([NIST SP 800-38D](https://doi.org/10.6028/NIST.SP.800-38D), section 8.3), and use the CMK for nothing else.
///
/// Calls block on the token, so they run on tokio's blocking threads. Dropping a future abandons its result; the call
/// itself still ends on its thread. Sessions are kept and used again. A PIN that the token refused once is not tried
/// again, because tokens lock after a few wrong ones.
///
/// ```no_run
/// use sealift::EncryptionContext;
/// use sealift::kms::{Kms as _, pkcs11::Pkcs11Kms};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sealift::Result<()> {
/// // softhsm2-util --init-token --free --label uploads --pin 1234 --so-pin 5678
/// // pkcs11-tool --module … --token-label uploads --login --keygen --key-type aes:32 --label cmk --id 01
/// let kms = Pkcs11Kms::open(
///     "pkcs11:token=uploads?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/uploads/pin",
/// )?;
/// let context = EncryptionContext::default();
/// let (data_key, wrapped) = kms.generate_data_key("cmk", &context).await?;
/// assert_eq!(wrapped.key, "01");
/// assert_eq!(kms.unwrap(&wrapped, &context).await?, data_key);
/// # Ok(())
/// # }
/// ```
pub struct Pkcs11Kms {
    token: Arc<Token>,
    key: Option<String>,
}

impl Pkcs11Kms {
    /// The environment variable that holds the PIN if the URI does not say where it is.
    pub const PIN_VARIABLE: &str = "SEALIFT_PKCS11_PIN";

    /// Opens the token that `uri` names, a PKCS #11 URI ([RFC 7512](https://www.rfc-editor.org/rfc/rfc7512)), and logs
    /// in as its user. Blocks meanwhile.
    ///
    /// `module-path` is the vendor's library; it is loaded into this process. `token`, `manufacturer`, `model`,
    /// `serial` and `slot-id` choose the token among those that the library shows. `pin-value` is the PIN, and
    /// `pin-source` a file that holds it; the variable [`SEALIFT_PKCS11_PIN`](Self::PIN_VARIABLE) serves as well, and a token with a
    /// keypad of its own needs none. `object` (the label) and `id` name a key, for [`key`](Self::key).
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] if `uri` is not such a URI, or has attributes that are not known here.
    /// - [`ErrorKind::KeyUnavailable`] if the library cannot be loaded; if not exactly one token is meant; if the token
    ///   refuses the PIN, its PIN is locked, or it needs one and there is none; if there is no such key.
    /// - As the operating system has it if the file with the PIN cannot be read.
    pub fn open(uri: &str) -> Result<Self> {
        let mut uri = Pkcs11Uri::parse(uri)?;
        let pin = match uri.pin.take() {
            Some(pin) => Some(pin.read()?),
            None => std::env::var(Self::PIN_VARIABLE).ok().map(Zeroizing::new),
        };
        let module = load(&uri)?;
        let Shown { slot, name, is_softhsm } = find_token(&module, &uri)?;
        let token = Token {
            module,
            slot,
            name,
            is_softhsm,
            pin: pin.map(|pin| AuthPin::from(pin.as_str())),
            pin_refused: AtomicBool::new(false),
            sessions: Mutex::default(),
        };
        let wanted = (uri.object.as_deref(), uri.id.as_deref());
        let key = token.call(|session| match wanted {
            (None, None) => Ok(None),
            (label, id) => {
                let found = token.only(token.find(session, label, id)?, label.unwrap_or("in the URI"))?;
                Ok(Some(found.ok_or_else(|| Failed::Missing(token.no_such_key(label.unwrap_or("in the URI"))))?.id))
            }
        })?;
        Ok(Self { token: Arc::new(token), key })
    }

    /// Id of the key that the URI names, as envelopes have it, if it names one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Id of the key `key`, as envelopes have it: for [`TrustedKeys::Only`](crate::kms::recipients::TrustedKeys::Only).
    ///
    /// # Errors
    /// [`ErrorKind::KeyUnavailable`] if there is no such key, several, or the token cannot be used.
    pub async fn key_id(&self, key: &str) -> Result<String> {
        let (token, key) = (Arc::clone(&self.token), key.to_owned());
        blocking(move || token.call(|session| Ok(token.key(session, &key)?.id))).await
    }

    async fn wrap_data_key(&self, key: &str, data_key: &DataKey, context: &EncryptionContext) -> Result<WrappedKey> {
        let mut secret = Zeroizing::new(vec![0; DataKey::LEN]);
        secret.copy_from_slice(data_key.expose());
        let (token, key, context) = (Arc::clone(&self.token), key.to_owned(), context.canonical());
        blocking(move || token.wrap(&key, &secret, &context)).await
    }

    async fn unwrap_data_key(&self, wrapped: &WrappedKey, context: &EncryptionContext) -> Result<DataKey> {
        secret::check_service(KmsService::Pkcs11, wrapped)?;
        if wrapped.blob.len() != BLOB_LEN {
            return Err(secret::does_not_open(wrapped));
        }
        let (token, wrapped, context) = (Arc::clone(&self.token), wrapped.clone(), context.canonical());
        blocking(move || token.unwrap(&wrapped, &context)).await
    }
}

impl Kms for Pkcs11Kms {
    fn service(&self) -> KmsService {
        KmsService::Pkcs11
    }

    fn wrap<'a>(
        &'a self,
        key: &'a str,
        data_key: &'a DataKey,
        context: &'a EncryptionContext,
    ) -> BoxFuture<'a, Result<WrappedKey>> {
        Box::pin(self.wrap_data_key(key, data_key, context))
    }

    fn unwrap<'a>(&'a self, wrapped: &'a WrappedKey, context: &'a EncryptionContext) -> BoxFuture<'a, Result<DataKey>> {
        Box::pin(self.unwrap_data_key(wrapped, context))
    }
}

impl fmt::Debug for Pkcs11Kms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pkcs11Kms").field("token", &self.token.name).field("key", &self.key).finish_non_exhaustive()
    }
}

struct Token {
    module: Pkcs11,
    slot: Slot,
    name: String,
    is_softhsm: bool,
    pin: Option<AuthPin>,
    pin_refused: AtomicBool,
    /// Open, logged in, and idle.
    sessions: Mutex<Vec<Session>>,
}

/// A key on the token, and its name in envelopes.
struct Found {
    handle: ObjectHandle,
    id: String,
}

/// Why an operation on a session failed.
enum Failed {
    Token(TokenError),
    /// There is no such key, or the session may not see it because somebody logged this process out.
    Missing(Error),
    /// Known for what it is.
    Known(Error),
}

impl From<TokenError> for Failed {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Known(error)
    }
}

impl Token {
    fn wrap(&self, key: &str, data_key: &[u8], context: &[u8]) -> Result<WrappedKey> {
        self.call(|session| {
            let found = self.key(session, key)?;
            let mut iv = [0; IV_LEN];
            getrandom::fill(&mut iv).map_err(Error::no_randomness)?;
            let mechanism = Mechanism::AesGcm(GcmParams::new(&mut iv, context, TAG_BITS.into())?);
            let sealed = session.encrypt(&mechanism, found.handle, data_key).map_err(|e| self.refused(&found.id, e))?;
            // Read after the call: modules that insist on a vector of their own put it there.
            let blob = [iv.as_slice(), &sealed].concat();
            if blob.len() != BLOB_LEN {
                let message = format!("{self} wraps a data key as {} bytes, not {BLOB_LEN}", blob.len());
                return Err(Error::new(ErrorKind::KeyUnavailable, message).into());
            }
            Ok(WrappedKey { kms: KmsService::Pkcs11, key: found.id, blob })
        })
    }

    fn unwrap(&self, wrapped: &WrappedKey, context: &[u8]) -> Result<DataKey> {
        self.call(|session| {
            let found = self.key(session, &wrapped.key)?;
            if found.id != wrapped.key {
                let message = format!("{:?} on {self} is another name of the key {:?}", wrapped.key, found.id);
                return Err(Error::new(ErrorKind::KeyUnavailable, message).into());
            }
            let (iv, sealed) =
                wrapped.blob.split_first_chunk::<IV_LEN>().ok_or_else(|| secret::does_not_open(wrapped))?;
            let mut iv = *iv;
            let mechanism = Mechanism::AesGcm(GcmParams::new(&mut iv, context, TAG_BITS.into())?);
            let opened = session.decrypt(&mechanism, found.handle, sealed).map_err(|error| {
                match error {
                    // SoftHSM has nothing better to say about a wrong tag; then the session is in order. Of any other module it says
                    // that something is broken.
                    TokenError::Pkcs11(RvError::GeneralError, Function::Decrypt)
                        if self.is_softhsm && session.get_session_info().is_ok() =>
                    {
                        secret::does_not_open(wrapped).into()
                    }
                    TokenError::Pkcs11(ref rv, Function::Decrypt) if says_wrong_tag(rv) => {
                        secret::does_not_open(wrapped).into()
                    }
                    error => self.refused(&found.id, error),
                }
            })?;
            Ok(DataKey::take(&mut Zeroizing::new(opened))?)
        })
    }

    /// The key that `name` means: the one with that id, or else the one with that label.
    fn key(&self, session: &Session, name: &str) -> Result<Found, Failed> {
        if let Some(id) = base16ct::mixed::decode_vec(name).ok().filter(|id| !id.is_empty())
            && let Some(found) = self.only(self.find(session, None, Some(&id))?, name)?
        {
            return Ok(found);
        }
        // A key without a label is not what an empty name means.
        let found = if name.is_empty() { Vec::new() } else { self.find(session, Some(name), None)? };
        self.only(found, name)?.ok_or_else(|| Failed::Missing(self.no_such_key(name)))
    }

    fn find(&self, session: &Session, label: Option<&str>, id: Option<&[u8]>) -> Result<Vec<Found>, Failed> {
        let mut template =
            vec![Attribute::Token(true), Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES)];
        template.extend(label.map(|label| Attribute::Label(label.as_bytes().to_vec())));
        template.extend(id.map(|id| Attribute::Id(id.to_vec())));
        let mut keys = Vec::new();
        for handle in session.find_objects(&template)? {
            let (mut id, mut label, mut len) = (Vec::new(), Vec::new(), None);
            let wanted = [AttributeType::Id, AttributeType::Label, AttributeType::ValueLen];
            for attribute in session.get_attributes(handle, &wanted)? {
                match attribute {
                    Attribute::Id(value) => id = value,
                    Attribute::Label(value) => label = value,
                    Attribute::ValueLen(value) => len = Some(*value),
                    _ => {}
                }
            }
            let id = match id.as_slice() {
                [] => String::from_utf8_lossy(&label).into_owned(),
                id => base16ct::lower::encode_string(id),
            };
            // Not every token tells.
            if let Some(len) = len.filter(|len| usize::try_from(*len) != Ok(DataKey::LEN)) {
                let message = format!("the key {id:?} on {self} has {len} bytes, and a CMK is an AES key of 32");
                return Err(Error::new(ErrorKind::KeyUnavailable, message).into());
            }
            keys.push(Found { handle, id });
        }
        Ok(keys)
    }

    fn only(&self, mut found: Vec<Found>, name: &str) -> Result<Option<Found>> {
        if found.len() > 1 {
            let ids: Vec<_> = found.iter().map(|found| found.id.as_str()).collect();
            let message = format!(
                "several keys on {self} are called {name:?}: name one by its id, in hexadecimal digits; there are {}",
                ids.join(", ")
            );
            return Err(Error::new(ErrorKind::KeyUnavailable, message));
        }
        Ok(found.pop())
    }

    fn no_such_key(&self, name: &str) -> Error {
        let hint = if self.pin.is_none() { "; without a PIN, private keys are not seen" } else { "" };
        Error::new(ErrorKind::KeyUnavailable, format!("there is no AES key {name:?} on {self}{hint}"))
    }

    /// Runs `operation` on an idle session, or on a new one if there is none or it turns out to be stale.
    fn call<T>(&self, operation: impl Fn(&Session) -> Result<T, Failed>) -> Result<T> {
        // On a line of its own: the list must not be locked while the session is in use.
        let idle = self.idle().pop();
        if let Some(session) = idle {
            match operation(&session) {
                Err(Failed::Token(error)) if is_stale(&error) => self.idle().clear(),
                Err(Failed::Missing(_)) => {}
                result => return self.finish(session, result),
            }
        }
        let session = self.open_session()?;
        let result = operation(&session);
        self.finish(session, result)
    }

    fn finish<T>(&self, session: Session, result: Result<T, Failed>) -> Result<T> {
        match result {
            Ok(value) => {
                let mut idle = self.idle();
                if idle.len() < MAX_IDLE {
                    idle.push(session);
                }
                Ok(value)
            }
            // What failed may have left the session in the middle of something: it is closed.
            Err(Failed::Token(error)) => Err(self.failed(error)),
            Err(Failed::Missing(error) | Failed::Known(error)) => Err(error),
        }
    }

    fn open_session(&self) -> Result<Session> {
        let session = self.module.open_ro_session(self.slot).map_err(|error| self.failed(error))?;
        let pin = match &self.pin {
            Some(pin) if !self.pin_refused.load(Ordering::Relaxed) => Some(pin),
            Some(_) => return Err(self.pin_refused()),
            None => {
                let info = self.module.get_token_info(self.slot).map_err(|error| self.failed(error))?;
                match (info.login_required(), info.protected_authentication_path()) {
                    (false, _) => return Ok(session),
                    (true, true) => None,
                    (true, false) => {
                        let message = format!(
                            "{self} needs a PIN: give its file as `pin-source` in the URI, or the PIN in {}",
                            Pkcs11Kms::PIN_VARIABLE
                        );
                        return Err(Error::new(ErrorKind::KeyUnavailable, message));
                    }
                }
            }
        };
        match session.login(UserType::User, pin) {
            // A process is logged in as a whole.
            Ok(()) | Err(TokenError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(TokenError::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
                self.pin_refused.store(true, Ordering::Relaxed);
                Err(self.pin_refused())
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        // A panic elsewhere leaves a list of sessions as good as it was.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pin_refused(&self) -> Error {
        let message = format!(
            "{self} refuses the PIN. It is not tried again, because tokens lock after a few wrong ones: correct it first"
        );
        Error::new(ErrorKind::KeyUnavailable, message)
    }

    /// What the token says to an operation with the key `id`.
    fn refused(&self, id: &str, error: TokenError) -> Failed {
        match error {
            TokenError::Pkcs11(RvError::KeyFunctionNotPermitted, function) => {
                let attribute = match function {
                    Function::EncryptInit | Function::Encrypt => "CKA_ENCRYPT",
                    _ => "CKA_DECRYPT",
                };
                let message = format!("the key {id:?} on {self} is disabled: its attribute {attribute} is false");
                let refused = Error::new(ErrorKind::KeyUnavailable, message);
                refused.with_key_state(KeyState::Disabled).with_source(error).into()
            }
            error => error.into(),
        }
    }

    fn failed(&self, error: TokenError) -> Error {
        use RvError as Rv;
        let (what, retry) = match &error {
            TokenError::Pkcs11(rv, _) => match rv {
                Rv::TokenNotPresent | Rv::TokenNotRecognized | Rv::DeviceRemoved | Rv::SlotIdInvalid => {
                    ("is not there any more: put it back", Retry::No)
                }
                Rv::PinLocked => {
                    ("has locked its PIN after too many wrong ones: its security officer can set a new one", Retry::No)
                }
                Rv::PinExpired => ("wants a new PIN: set one with the vendor's tool", Retry::No),
                Rv::UserPinNotInitialized => ("has no PIN for users yet: its security officer can set one", Retry::No),
                Rv::UserNotLoggedIn => ("wants a login for that: give the PIN", Retry::No),
                Rv::MechanismInvalid => ("does not know AES-GCM (CKM_AES_GCM)", Retry::No),
                Rv::SessionCount => ("has no session left", Retry::Yes),
                Rv::DeviceError | Rv::DeviceMemory | Rv::FunctionCanceled => ("failed", Retry::Yes),
                _ => ("failed", Retry::No),
            },
            _ => ("failed", Retry::No),
        };
        Error::new(ErrorKind::KeyUnavailable, format!("{self} {what} ({error})")).with_retry(retry).with_source(error)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the PKCS #11 token {:?}", self.name)
    }
}

fn load(uri: &Pkcs11Uri) -> Result<Pkcs11> {
    let failed = |error: TokenError| {
        let message = format!("cannot use the PKCS #11 library {}: {error}", uri.module.display());
        Error::new(ErrorKind::KeyUnavailable, message).with_source(error)
    };
    let module = Pkcs11::new(&uri.module).map_err(failed)?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // By another user of the library in this process. For its sake too, it is never finalized.
        Ok(()) | Err(TokenError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(module),
        Err(error) => Err(failed(error)),
    }
}

/// A token as its module shows it.
struct Shown {
    slot: Slot,
    /// Its label.
    name: String,
    is_softhsm: bool,
}

/// The one token that `uri` means.
fn find_token(module: &Pkcs11, uri: &Pkcs11Uri) -> Result<Shown> {
    let failed = |error: TokenError| {
        let message = format!("cannot list the tokens of the PKCS #11 library {}: {error}", uri.module.display());
        Error::new(ErrorKind::KeyUnavailable, message).with_source(error)
    };
    let (mut found, mut seen) = (Vec::new(), Vec::new());
    for slot in module.get_slots_with_initialized_token().map_err(failed)? {
        let info = module.get_token_info(slot).map_err(failed)?;
        let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        if is(&uri.token, info.label())
            && is(&uri.manufacturer, info.manufacturer_id())
            && is(&uri.model, info.model())
            && is(&uri.serial, info.serial_number())
            && uri.slot_id.is_none_or(|wanted| wanted == slot.id())
        {
            let is_softhsm = info.manufacturer_id() == "SoftHSM project";
            found.push(Shown { slot, name: info.label().to_owned(), is_softhsm });
        }
        seen.push(format!("{:?} (serial {:?}, slot-id {})", info.label(), info.serial_number(), slot.id()));
    }
    match (found.pop(), found.is_empty()) {
        (Some(token), true) => Ok(token),
        (found, _) => {
            let how_many = if found.is_some() { "several tokens match" } else { "no token matches" };
            let seen =
                if seen.is_empty() { "there is none".to_owned() } else { format!("there are {}", seen.join(", ")) };
            let message = format!("{how_many} the PKCS #11 URI: {seen}");
            Err(Error::new(ErrorKind::KeyUnavailable, message))
        }
    }
}

/// Whether a session, or the login, is gone: with a new one it may work.
fn is_stale(error: &TokenError) -> bool {
    use RvError as Rv;
    matches!(
        error,
        TokenError::Pkcs11(
            Rv::SessionClosed
                | Rv::SessionHandleInvalid
                | Rv::UserNotLoggedIn
                | Rv::DeviceRemoved
                | Rv::TokenNotPresent,
            _
        )
    )
}

/// What tokens answer where a tag is wrong. CKR_AEAD_DECRYPT_FAILED is of PKCS #11 3.0.
fn says_wrong_tag(rv: &RvError) -> bool {
    const AEAD_DECRYPT_FAILED: u64 = 0x42;
    match rv {
        RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange | RvError::SignatureInvalid => true,
        RvError::UnknownErrorCode(code) => *code == AEAD_DECRYPT_FAILED,
        _ => false,
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return call() };
    runtime
        .spawn_blocking(call)
        .await
        .unwrap_or_else(|error| Err(Error::new(ErrorKind::Internal, "calling the PKCS #11 library").with_source(error)))
}

const IV_LEN: usize = 12;
const TAG_BITS: u64 = 128;
/// Vector, ciphertext, tag.
const BLOB_LEN: usize = IV_LEN + DataKey::LEN + 16;
/// Sessions kept for later: as many as may be busy at once, usually.
const MAX_IDLE: usize = 8;
