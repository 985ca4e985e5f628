//! `sse`.

use crate::args::{Sse, SseSet};
use crate::exit::Result;
use crate::store::open_oss;

pub(crate) async fn run(command: Sse) -> Result {
    match command {
        Sse::Set(args) => set(args).await,
    }
}

#[cfg(feature = "oss")]
async fn set(args: SseSet) -> Result {
    use sealift::ErrorKind;
    use serde::Serialize;

    use crate::args::SseArgs;
    use crate::exit::Failure;
    use crate::url::{Location, Scheme};

    #[derive(Serialize)]
    struct Encrypted {
        url: String,
        algorithm: Option<String>,
        key_id: Option<String>,
        etag: String,
    }
    let remote = match &args.url {
        Location::Remote(remote) if remote.scheme == Scheme::Oss => remote,
        url => {
            let message = format!("{url} is not in OSS: server-side encryption is changed of objects in oss://");
            return Err(Failure::new(ErrorKind::InvalidInput, message));
        }
    };
    let asked = SseArgs { algorithm: Some(args.algorithm), key_id: args.key_id, data_encryption: args.data_encryption };
    let Some(sse) = asked.sse()? else { return Ok(()) };
    let key = crate::store::object_key(remote)?;
    let store = open_oss(&format!("oss://{}", remote.bucket), &args.store)?;
    let answer = store.set_sse(&key, &sse).await?;
    let encryption = answer.encryption();
    let report = Encrypted {
        url: args.url.to_string(),
        algorithm: encryption.as_ref().map(|e| e.algorithm.clone()),
        key_id: encryption.and_then(|e| e.key_id),
        etag: answer.value.0,
    };
    args.output.done(&report, || {
        let key = report.key_id.as_ref().map(|id| format!(" with the CMK {id}")).unwrap_or_default();
        format!("{}: encrypted by OSS, {}{key}", report.url, report.algorithm.as_deref().unwrap_or_default())
    })
}

#[cfg(not(feature = "oss"))]
async fn set(args: SseSet) -> Result {
    open_oss("", &args.store).map(drop)
}
