//! A server on 127.0.0.1 that speaks the RPC protocol of Alibaba Cloud KMS, with local key stores behind it.
//!
//! It shares nothing with the client but the words of the protocol: it reads requests, checks signatures and writes answers
//! by itself, and refuses as the service does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use sealift::kms::Kms as _;
use sealift::kms::local::{LocalKms, RootKeySource};
use sealift::{DataKey, EncryptionContext, ErrorKind, KmsService, WrappedKey};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use tempfile::TempDir;

pub(crate) const ACCESS_KEY_ID: &str = "LTAI-test";
pub(crate) const ACCESS_KEY_SECRET: &str = "not/a=real+secret";

/// What to do with one request instead of answering it. Its signature is checked all the same.
pub(crate) enum Fault {
    /// An error of the service's.
    Refuse(u16, &'static str),
    /// Any answer: what follows `HTTP/1.1 `.
    Raw(String),
    /// Nothing, until the server ends.
    Hang,
    /// The end of the connection.
    HangUp,
}

/// The server. Dropping it ends it.
pub(crate) struct AliyunKmsServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    keys: Mutex<BTreeMap<String, Key>>,
    aliases: Mutex<BTreeMap<String, String>>,
    /// What temporary credentials have to come with.
    security_token: Mutex<Option<String>>,
    nonces: Mutex<BTreeSet<String>>,
    faults: Mutex<VecDeque<Fault>>,
    /// The action of each request whose signature was right.
    actions: Mutex<Vec<String>>,
    hanging: Mutex<Vec<TcpStream>>,
    ended: AtomicBool,
}

struct Key {
    store: LocalKms,
    state: &'static str,
    _dir: TempDir,
}

impl AliyunKmsServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let server = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if server.ended.load(Ordering::SeqCst) {
                    break;
                }
                let server = Arc::clone(&server);
                thread::spawn(move || server.serve(stream.unwrap()));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Makes a CMK, and returns its id.
    pub(crate) fn create_key(&self) -> String {
        let dir = tempfile::tempdir().unwrap();
        let (store, created) = LocalKms::open_or_create(dir.path().join("kms"), RootKeySource::File).unwrap();
        let id = created.unwrap().key_id;
        self.shared.keys.lock().unwrap().insert(id.clone(), Key { store, state: "Enabled", _dir: dir });
        id
    }

    pub(crate) fn create_alias(&self, alias: &str, key: &str) {
        self.shared.aliases.lock().unwrap().insert(alias.to_owned(), key.to_owned());
    }

    pub(crate) fn set_state(&self, key: &str, state: &'static str) {
        self.shared.keys.lock().unwrap().get_mut(key).unwrap().state = state;
    }

    pub(crate) fn demand_security_token(&self, token: &str) {
        *self.shared.security_token.lock().unwrap() = Some(token.to_owned());
    }

    /// Does these with the next requests, one each.
    pub(crate) fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.faults.lock().unwrap().extend(faults);
    }

    /// The actions that were asked for since the last call, faults included.
    pub(crate) fn take_actions(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.actions.lock().unwrap())
    }
}

impl Drop for AliyunKmsServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.hanging.lock().unwrap().clear();
        // Wakes it up, to see that it has ended.
        let _ = TcpStream::connect(self.address);
    }
}

/// Status and code of an error, and what the service says about it.
struct Refusal(u16, &'static str, String);

fn refusal(status: u16, code: &'static str) -> Refusal {
    Refusal(status, code, "as the test has it".to_owned())
}

type Parameters = BTreeMap<String, String>;

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        let Some((head, body)) = read_request(&mut stream) else { return };
        let answer = match self.authenticate(&head, &body) {
            Err(refused) => Err(refused),
            Ok(parameters) => {
                self.actions.lock().unwrap().push(parameters["Action"].clone());
                let fault = self.faults.lock().unwrap().pop_front();
                match fault {
                    None => self.act(&parameters),
                    Some(Fault::Refuse(status, code)) => Err(refusal(status, code)),
                    Some(Fault::Raw(answer)) => {
                        let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes());
                        return;
                    }
                    Some(Fault::Hang) => return self.hanging.lock().unwrap().push(stream),
                    Some(Fault::HangUp) => return,
                }
            }
        };
        let (status, answer) = match answer {
            Ok(answer) => (200, answer),
            Err(Refusal(status, code, message)) => {
                (status, json!({"HttpStatus": status, "Code": code, "Message": message, "RequestId": "a-request"}))
            }
        };
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            answer.len()
        );
        let _ = stream.write_all((head + &answer).as_bytes());
    }

    /// The parameters of a request whose signature is right, wherever in it they are.
    fn authenticate(&self, head: &str, body: &str) -> Result<Parameters, Refusal> {
        let target = head.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if !head.starts_with("POST ") || path != "/" {
            return Err(refusal(404, "InvalidAction.NotFound"));
        }
        if !body.is_empty() && !head.to_ascii_lowercase().contains("content-type: application/x-www-form-urlencoded") {
            return Err(refusal(400, "UnsupportedContentType"));
        }
        let mut parameters = Parameters::new();
        for pair in query.split('&').chain(body.split('&')).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap();
            if parameters.insert(decode(name), decode(value)).is_some() {
                return Err(refusal(400, "InvalidParameter"));
            }
        }
        let signature = parameters.remove("Signature").ok_or_else(|| refusal(400, "MissingSignature"))?;
        let get = |name: &str| parameters.get(name).map(String::as_str).unwrap_or_default();
        for (name, value, code) in [
            ("SignatureMethod", "HMAC-SHA1", "InvalidSignatureMethod"),
            ("SignatureVersion", "1.0", "InvalidSignatureVersion"),
            ("Version", "2016-01-20", "InvalidVersion"),
            ("Format", "JSON", "InvalidFormat"),
        ] {
            if get(name) != value {
                return Err(refusal(400, code));
            }
        }
        if get("AccessKeyId") != ACCESS_KEY_ID {
            return Err(refusal(404, "InvalidAccessKeyId.NotFound"));
        }
        if *self.security_token.lock().unwrap() != parameters.get("SecurityToken").cloned() {
            return Err(refusal(400, "InvalidSecurityToken.Mismatch"));
        }
        let timestamp = get("Timestamp");
        let sent = time::OffsetDateTime::parse(timestamp, &time::format_description::well_known::Rfc3339);
        let is_now =
            sent.is_ok_and(|sent| (time::OffsetDateTime::now_utc() - sent).abs() < time::Duration::minutes(15));
        if timestamp.len() != 20 || !is_now {
            return Err(refusal(400, "InvalidTimeStamp.Expired"));
        }

        // Sorted, because it is a BTreeMap.
        let pairs = parameters.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
        let to_sign = format!("POST&%2F&{}", encode(&pairs.collect::<Vec<_>>().join("&")));
        if STANDARD.encode(hmac_sha1(format!("{ACCESS_KEY_SECRET}&").as_bytes(), to_sign.as_bytes())) != signature {
            // The service says what it signed, a plaintext included.
            let message =
                format!("Specified signature is not matched with our calculation. server string to sign is:{to_sign}");
            return Err(Refusal(400, "SignatureDoesNotMatch", message));
        }
        if !self.nonces.lock().unwrap().insert(get("SignatureNonce").to_owned()) {
            return Err(refusal(400, "SignatureNonceUsed"));
        }
        Ok(parameters)
    }

    fn act(&self, parameters: &Parameters) -> Result<Value, Refusal> {
        let get = |name| parameters.get(name).filter(|value: &&String| !value.is_empty());
        let required = |name| get(name).ok_or_else(|| refusal(400, "MissingParameter"));
        let context = get("EncryptionContext").map(String::as_str).unwrap_or("{}");
        // One pair for all of them, because not every name is one that a caller may choose here.
        let context: BTreeMap<String, String> =
            serde_json::from_str(context).map_err(|_| refusal(400, "InvalidParameter"))?;
        let context = EncryptionContext::new([("context".to_owned(), json!(context).to_string())]).unwrap();
        match parameters["Action"].as_str() {
            "GenerateDataKey" => {
                if get("KeySpec").is_some_and(|spec| spec != "AES_256") {
                    return Err(refusal(400, "InvalidParameter"));
                }
                self.encrypt(required("KeyId")?, &DataKey::random().unwrap(), &context)
            }
            "Encrypt" => {
                let mut plaintext = STANDARD.decode(required("Plaintext")?).unwrap();
                let mut answer = self.encrypt(required("KeyId")?, &DataKey::take(&mut plaintext).unwrap(), &context)?;
                answer.as_object_mut().unwrap().remove("Plaintext");
                Ok(answer)
            }
            "Decrypt" => {
                let blob = STANDARD.decode(required("CiphertextBlob")?).ok();
                let blob = blob.ok_or_else(|| refusal(400, "InvalidParameter"))?;
                let (id, blob) = blob.split_at_checked(36).ok_or_else(|| refusal(400, "InvalidParameter"))?;
                let id = std::str::from_utf8(id).map_err(|_| refusal(400, "InvalidParameter"))?;
                let keys = self.keys.lock().unwrap();
                let key = usable(&keys, id)?;
                let wrapped = WrappedKey { kms: KmsService::Local, key: id.to_owned(), blob: blob.to_vec() };
                match key.store.unwrap(&wrapped, &context).now_or_never().unwrap() {
                    Ok(data_key) => Ok(json!({"KeyId": id, "KeyVersionId": "1", "RequestId": "a-request",
                                              "Plaintext": STANDARD.encode(data_key.expose())})),
                    Err(error) if error.kind() == ErrorKind::Authentication => Err(refusal(400, "InvalidParameter")),
                    Err(error) => panic!("{error:?}"),
                }
            }
            "DescribeKey" => {
                let id = self.resolve(required("KeyId")?)?;
                let keys = self.keys.lock().unwrap();
                let key = keys.get(&id).ok_or_else(|| refusal(404, "Forbidden.KeyNotFound"))?;
                Ok(json!({"KeyMetadata": {"KeyId": id, "KeyState": key.state}, "RequestId": "a-request"}))
            }
            _ => Err(refusal(404, "InvalidAction.NotFound")),
        }
    }

    fn encrypt(&self, key: &str, data_key: &DataKey, context: &EncryptionContext) -> Result<Value, Refusal> {
        let id = self.resolve(key)?;
        let keys = self.keys.lock().unwrap();
        let wrapped = usable(&keys, &id)?.store.wrap(&id, data_key, context).now_or_never().unwrap().unwrap();
        let blob = [id.as_bytes(), &wrapped.blob].concat();
        Ok(json!({"KeyId": id, "KeyVersionId": "1", "CiphertextBlob": STANDARD.encode(blob), "RequestId": "a-request",
                  "Plaintext": STANDARD.encode(data_key.expose())}))
    }

    fn resolve(&self, key: &str) -> Result<String, Refusal> {
        let key = match key.strip_prefix("acs:kms:") {
            Some(arn) => arn.splitn(3, ':').nth(2).map_or("", |id| id.strip_prefix("key/").unwrap_or(id)),
            None => key,
        };
        if !key.starts_with("alias/") {
            return Ok(key.to_owned());
        }
        let id = self.aliases.lock().unwrap().get(key).cloned();
        id.ok_or_else(|| refusal(404, "Forbidden.AliasNotFound"))
    }
}

fn usable<'a>(keys: &'a BTreeMap<String, Key>, id: &str) -> Result<&'a Key, Refusal> {
    let key = keys.get(id).ok_or_else(|| refusal(404, "Forbidden.KeyNotFound"))?;
    match key.state {
        "Disabled" => Err(refusal(409, "Rejected.Disabled")),
        "PendingDeletion" => Err(refusal(409, "Rejected.PendingDeletion")),
        "PendingImport" => Err(refusal(409, "Rejected.PendingImport")),
        _ => Ok(key),
    }
}

/// Head and body of a request, or nothing if its sender goes away.
fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        let mut buffer = [0; 4096];
        let len = stream.read(&mut buffer).ok().filter(|len| *len > 0)?;
        bytes.extend_from_slice(&buffer[..len]);
    };
    let body = bytes.split_off(end + 4);
    let head = String::from_utf8(bytes).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    let (mut body, length) = (body, length.unwrap_or(0));
    let have = body.len();
    body.resize(length, 0);
    stream.read_exact(&mut body[have..]).ok()?;
    Some((head, String::from_utf8(body).unwrap()))
}

fn encode(text: &str) -> String {
    let encode = |byte: u8| match char::from(byte) {
        c if c.is_ascii_alphanumeric() || "-_.~".contains(c) => c.to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// RFC 2104, from its definition.
fn hmac_sha1(key: &[u8], message: &[u8]) -> [u8; 20] {
    assert!(key.len() <= 64, "the test's key is one block");
    let pad = |with: u8| (0..64).map(|i| key.get(i).unwrap_or(&0) ^ with).collect::<Vec<u8>>();
    let inner = Sha1::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha1::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}
