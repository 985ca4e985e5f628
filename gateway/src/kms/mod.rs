//! The local key service over Alibaba Cloud KMS's RPC protocol, version 2016-01-20, so that Alibaba's own clients manage and use the
//! CMKs that the gateway seals for: make one, import material of one's own, disable it, encrypt and decrypt with it.
//!
//! Behind it is a [`LocalKms`]; other processes may use the same at the same time. What it has not (automatic rotation, hardware,
//! asymmetric keys, secrets) is refused as unsupported.

mod aliases;
mod answer;
mod blob;
mod crypt;
mod import;
mod keys;
mod nonces;
mod parameters;
mod sign;

use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;
use sealift::kms::local::LocalKms;
use serde_json::{Value, json};

use crate::access::{AccessKeys, Caller, KmsRight};
use crate::server::{Dialect, Request, RequestId, Response, Told, collect};
use answer::{Format, Refusal, Result};
use nonces::Nonces;
use parameters::Parameters;

/// The KMS dialect.
pub(crate) struct KmsEndpoint {
    keys: Arc<AccessKeys>,
    nonces: Nonces,
    store: Arc<Store>,
}

/// The key store, and where it says it is.
struct Store {
    local: Arc<LocalKms>,
    region: String,
}

/// What one action does. It reads and writes small files, and blocks while it does.
type Handler = fn(&Store, &Parameters) -> Result<Value>;

struct Action {
    name: &'static str,
    right: KmsRight,
    handler: Handler,
}

const fn use_keys(name: &'static str, handler: Handler) -> Action {
    Action { name, right: KmsRight::Use, handler }
}

const fn manage(name: &'static str, handler: Handler) -> Action {
    Action { name, right: KmsRight::Manage, handler }
}

/// Everything that can be asked for.
const ACTIONS: &[Action] = &[
    use_keys("DescribeRegions", |store, _| Ok(json!({"Regions": {"Region": [{"RegionId": store.region}]}}))),
    use_keys("DescribeAccountKmsStatus", |_, _| Ok(json!({"AccountStatus": "Enabled"}))),
    use_keys("DescribeKey", keys::describe),
    use_keys("ListKeys", keys::list),
    use_keys("ListKeyVersions", keys::list_versions),
    use_keys("ListResourceTags", keys::list_tags),
    use_keys("ListAliases", aliases::list),
    use_keys("ListAliasesByKeyId", aliases::list_by_key),
    use_keys("Encrypt", crypt::encrypt),
    use_keys("GenerateDataKey", crypt::generate_data_key),
    use_keys("GenerateDataKeyWithoutPlaintext", crypt::generate_data_key_without_plaintext),
    use_keys("Decrypt", crypt::decrypt),
    use_keys("ReEncrypt", crypt::re_encrypt),
    manage("CreateKey", keys::create),
    manage("EnableKey", |store, parameters| keys::change(store, parameters, LocalKms::enable_key)),
    manage("DisableKey", |store, parameters| keys::change(store, parameters, LocalKms::disable_key)),
    manage("ScheduleKeyDeletion", keys::schedule_deletion),
    manage("CancelKeyDeletion", |store, parameters| keys::change(store, parameters, LocalKms::cancel_key_deletion)),
    manage("CreateKeyVersion", keys::rotate),
    manage("UpdateKeyDescription", keys::update_description),
    manage("TagResource", keys::tag),
    manage("UntagResource", keys::untag),
    manage("GetParametersForImport", import::parameters),
    manage("ImportKeyMaterial", import::import),
    manage("DeleteKeyMaterial", import::delete),
    manage("CreateAlias", aliases::create),
    manage("UpdateAlias", aliases::update),
    manage("DeleteAlias", aliases::delete),
];

/// More than any request of the protocol needs.
const MAX_BODY: usize = 64 << 10;

impl KmsEndpoint {
    pub(crate) fn new(local: Arc<LocalKms>, region: &str, keys: Arc<AccessKeys>) -> Self {
        let store = Arc::new(Store { local, region: region.to_owned() });
        Self { keys, nonces: Nonces::default(), store }
    }

    async fn act(&self, request: Request, told: &mut Told, format: &mut Format) -> Result<Value> {
        let (head, body) = request.into_parts();
        let body = collect(body, MAX_BODY)
            .await
            .ok_or_else(|| Refusal::parameter("the request's body is too long, or did not arrive whole"))?;
        let parameters = Parameters::read(&head, &body)?;
        *format = parameters.format()?;
        let key = sign::authenticate(&head, &body, &parameters, &self.keys, SystemTime::now())?;
        let nonce = parameters.nonce().ok_or_else(|| Refusal::missing("SignatureNonce"))?;
        if !self.nonces.is_new(key.id(), nonce, SystemTime::now()) {
            return Err(Refusal::new(400, "SignatureNonceUsed", "Specified signature nonce was used already."));
        }
        let caller = Caller::new(key);
        told.access_key = caller.id().map(str::to_owned);
        let name = parameters.action().ok_or_else(|| Refusal::missing("Action"))?;
        let action = ACTIONS.iter().find(|action| action.name == name).ok_or_else(|| {
            Refusal::new(404, "InvalidAction.NotFound", "Specified api is not found, please check your url and method.")
        })?;
        told.operation = action.name;
        format.root = action.name;
        if !caller.may_kms(action.right) {
            let message = format!("The access key may not do this: it needs the right kms:{}.", action.name);
            return Err(Refusal::new(403, "Forbidden.NoPermission", message));
        }
        let store = Arc::clone(&self.store);
        let acted = tokio::task::spawn_blocking(move || (action.handler)(&store, &parameters)).await;
        acted.unwrap_or_else(|_| Err(Refusal::internal()))
    }
}

impl Dialect for KmsEndpoint {
    fn answer(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
            let (mut told, mut format) = (Told::default(), Format::default());
            let acted = self.act(request, &mut told, &mut format).await;
            let mut response = answer::response(acted, &id, &format);
            response.extensions_mut().insert(told);
            response
        })
    }
}

impl Store {
    fn arn(&self, resource: &str) -> String {
        format!("acs:kms:{}:sealift:{resource}", self.region)
    }

    /// What the request calls a key, as the key store has it: an id or an alias.
    ///
    /// A key may also be named by its ARN, `acs:kms:REGION:ACCOUNT:key/ID`; one of another region is none of ours.
    fn key_name<'a>(&self, name: &'a str) -> Result<&'a str> {
        let Some(arn) = name.strip_prefix("acs:kms:") else { return Ok(name) };
        let mut fields = arn.splitn(3, ':');
        match (fields.next(), fields.next(), fields.next()) {
            (Some(region), Some(_), Some(resource)) if region == self.region => {
                Ok(resource.strip_prefix("key/").unwrap_or(resource))
            }
            _ => Err(Refusal::not_found(name)),
        }
    }
}
