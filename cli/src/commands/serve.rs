//! `serve`: the gateway.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use sealift::kms::Kms;
use sealift::kms::local::{LocalKms, RootKeySource};
use sealift::store::{DirStore, MultipartStore};
use sealift::{Error, ErrorKind, KmsService};
use sealift_gateway::access::Secret;
use sealift_gateway::config::Tls;
use sealift_gateway::{Back, Config, Gateway, Keys};
use tempfile::TempDir;

use crate::args::{Serve, SseArgs, StoreArgs};
use crate::exit::{Failure, Result};
use crate::home::Home;
use crate::interrupt::Interrupts;
use crate::services::NamedKey;
use crate::url::Location;
use crate::{keys, output};

pub(crate) async fn serve(args: Serve) -> Result {
    let demo = args.demo.then(Demo::new).transpose()?;
    let config = configuration(&args, demo.as_ref())?;
    let engine = args.engine.engine()?;
    let (store, keys) = match &demo {
        Some(demo) => demo.back()?,
        None => (store(&args, &config).await?, keys_of(&config)?),
    };
    let is_open = config.tls.is_none() && !listens_here(&config.listen);
    let gateway = Gateway::bind(config, Back { engine, store, keys }).await?;
    let interrupts = Interrupts::listen()?;
    let mut said = format!("listening on {}", gateway.url());
    if let Some(demo) = &demo {
        demo.explain(&gateway.url(), &mut said);
    }
    output::print(&said)?;
    if is_open {
        output::say("warning: without TLS, whoever is on the way reads what clients send; see --tls-certificate");
    }
    gateway.serve(interrupts.stopping()).await?;
    Ok(())
}

/// What file, command line and environment say; the command line takes precedence over the file.
fn configuration(args: &Serve, demo: Option<&Demo>) -> Result<Config> {
    let mut config = args.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    if let Some(listen) = &args.listen {
        config.listen.clone_from(listen);
    }
    if let Some(region) = &args.region {
        config.region.clone_from(region);
    }
    if let Some(key) = &args.kms_key {
        config.kms_key = Some(key.clone());
    }
    if let (Some(certificate), Some(key)) = (&args.tls_certificate, &args.tls_key) {
        config.tls = Some(Tls { certificate: certificate.clone(), key: key.clone() });
    }
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (variable("SEALIFT_ACCESS_KEY_ID"), variable("SEALIFT_ACCESS_KEY_SECRET")) {
        (Some(id), Some(secret)) => config.add_access_key(id, Secret::new(secret)),
        (None, None) => {}
        _ => {
            let message = "SEALIFT_ACCESS_KEY_ID and SEALIFT_ACCESS_KEY_SECRET go together: set both, or neither";
            return Err(Failure::new(ErrorKind::InvalidInput, message));
        }
    }
    if let Some(demo) = demo {
        config.add_access_key(Demo::ACCESS_KEY_ID, Secret::new(demo.secret.clone()));
    }
    if config.access_keys.is_empty() && config.anonymous.is_empty() {
        let message = "there is no access key, so nobody could use this gateway";
        return Err(Failure::new(ErrorKind::InvalidInput, message)
            .hint("set SEALIFT_ACCESS_KEY_ID and SEALIFT_ACCESS_KEY_SECRET, or put access_keys into the --config file")
            .hint("to try it out: sealift serve --demo"));
    }
    Ok(config)
}

async fn store(args: &Serve, config: &Config) -> Result<Arc<dyn MultipartStore>> {
    let of_file = || config.store.as_deref().map(str::parse::<Location>);
    let location = match (&args.store, of_file()) {
        (Some(location), _) => location.clone(),
        (None, Some(location)) => location.map_err(|error| Error::new(ErrorKind::InvalidInput, error))?,
        (None, None) => {
            let message = "where are the sealed objects to be? Say it by --store, or `store` in the --config file";
            return Err(Failure::new(ErrorKind::InvalidInput, message));
        }
    };
    let at = StoreArgs {
        endpoint: args.store_endpoint.clone(),
        region: args.store_region.clone(),
        profile: args.store_profile.clone(),
        sse: SseArgs::default(),
    };
    match location {
        Location::File(dir) => {
            std::fs::create_dir_all(&dir).map_err(|e| Error::io(format!("making {}", dir.display()), e))?;
            Ok(Arc::new(DirStore::open(dir)?))
        }
        Location::Remote(remote) if remote.key.is_empty() => remote.store(&at).await,
        Location::Remote(remote) => {
            let message = format!("{remote} is a part of a bucket: give --store the bucket alone");
            Err(Failure::new(ErrorKind::InvalidInput, message))
        }
        Location::Discard => Err(crate::store::keeps_nothing()),
    }
}

/// The key service that the default key is of, which is then that of all objects.
fn keys_of(config: &Config) -> Result<Keys> {
    let home = Home::find()?;
    let named = config.kms_key.as_deref().unwrap_or(LocalKms::DEFAULT_ALIAS);
    let key = NamedKey::parse(named);
    if key.service == KmsService::Local {
        let local = Arc::new(home.open_or_create_key_store()?);
        let described = local.describe_key(key.key).map_err(|error| Failure::of_key(error, key.key))?;
        tracing::info!(key = named, id = described.key_id, "sealing for this key unless another is named");
        let kms = Arc::clone(&local) as Arc<dyn Kms>;
        return Ok(Keys { kms, default_key: key.key.to_owned(), local: Some(local) });
    }
    let recipients = keys::recipients_named(&[named.to_owned()], &[], &home)?;
    let recipient =
        recipients.into_iter().next().ok_or_else(|| Failure::new(ErrorKind::Internal, "a named key is a recipient"))?;
    Ok(Keys { kms: recipient.kms, default_key: recipient.key, local: None })
}

/// Whether only this machine can connect to the address.
fn listens_here(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A store and a key store to try things with. Gone when dropped.
struct Demo {
    dir: TempDir,
    secret: String,
}

impl Demo {
    const ACCESS_KEY_ID: &str = "demo";

    fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("sealift-demo-").tempdir();
        let dir = dir.map_err(|e| Error::io("making a temporary directory", e))?;
        // A fresh key is as good a secret as any.
        let secret = base16ct::lower::encode_string(&sealift::DataKey::random()?.expose()[..16]);
        Ok(Self { dir, secret })
    }

    fn store_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("store")
    }

    fn back(&self) -> Result<(Arc<dyn MultipartStore>, Keys)> {
        let dir = self.store_dir();
        std::fs::create_dir(&dir).map_err(|e| Error::io(format!("making {}", dir.display()), e))?;
        let (local, _) = LocalKms::open_or_create(self.dir.path().join("kms"), RootKeySource::File)?;
        let local = Arc::new(local);
        let kms = Arc::clone(&local) as Arc<dyn Kms>;
        let keys = Keys { kms, default_key: LocalKms::DEFAULT_ALIAS.to_owned(), local: Some(local) };
        Ok((Arc::new(DirStore::open(dir)?), keys))
    }

    /// What to do with it, after the line that programs read.
    fn explain(&self, url: &str, said: &mut String) {
        let (home, store) = (self.dir.path(), self.store_dir());
        let shown = |path: &Path| path.display().to_string();
        let _ = write!(
            said,
            "\n\nA demo: all of it is in {0}, and gone when this ends.\n\n\
             access key id      {id}\n\
             access key secret  {secret}\n\n\
             With the AWS command line, in another terminal:\n  \
             export AWS_ACCESS_KEY_ID={id} AWS_SECRET_ACCESS_KEY={secret} AWS_DEFAULT_REGION=local AWS_ENDPOINT_URL={url}\n  \
             aws s3 mb s3://bucket\n  \
             aws s3 cp --sse aws:kms FILE s3://bucket/object\n  \
             aws s3 cp s3://bucket/object -\n\n\
             With oss2, Alibaba Cloud's client for Python:\n  \
             bucket = oss2.Bucket(oss2.Auth(\"{id}\", \"{secret}\"), \"{url}\", \"bucket\")\n  \
             bucket.put_object(\"object\", b\"text\", headers={{\"x-oss-server-side-encryption\": \"KMS\"}})\n  \
             bucket.get_object(\"object\").read()\n\n\
             What is put with encryption is sealed in the store, and what is put without it is not. The program opens it, too:\n  \
             SEALIFT_HOME={0} sealift cat {1}/bucket/object\n\n\
             Ctrl-C ends it.",
            shown(home),
            shown(&store),
            id = Self::ACCESS_KEY_ID,
            secret = self.secret,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_machine_reaches_needs_no_tls() {
        for address in ["127.0.0.1:0", "[::1]:80", "localhost:1", "127.8.8.8:1"] {
            assert!(listens_here(address), "{address}");
        }
        for address in ["0.0.0.0:1", "[::]:1", "10.0.0.1:80", "example.com:80"] {
            assert!(!listens_here(address), "{address}");
        }
    }
}
