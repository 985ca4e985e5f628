//! `stat` and `verify`.

use std::path::Path;

use futures::{Stream, TryStreamExt as _};
use sealift::Engine;
use sealift::engine::{Progress, ProgressCallback, Reader};
use sealift::format::{Envelope, unsealed_by};
use sealift::kms::recipients::Trusted;
use sealift::store::ObjectInfo;
use sealift::{Error, ErrorKind, ObjectId};
use serde::Serialize;
use std::collections::BTreeMap;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{open_unsealed, small_engine};
use crate::args::{Stat, Verify};
use crate::exit::{Failure, Result};
use crate::home::Home;
use crate::interrupt::Interrupts;
use crate::output::{self, Encryption, Recipient};

/// What is known of an object. What is sealed is absent where no key opens it.
#[derive(Serialize)]
struct Report {
    url: String,
    object_id: String,
    plain_len: Option<u64>,
    sealed_len: u64,
    parts: Option<usize>,
    checksums: Option<bool>,
    cipher: &'static str,
    data_keys: Vec<Recipient>,
    opened_with: Option<Recipient>,
    encryption_context: BTreeMap<String, String>,
    bound: bool,
    metadata: BTreeMap<String, String>,
    etag: String,
    modified: Option<String>,
    /// What the store says of how it encrypts the object on its side.
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption: Option<Encryption>,
    /// What the store's own tool shows, under its names and in its order; of OSS.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    store: BTreeMap<String, String>,
}

pub(crate) async fn stat(args: Stat) -> Result {
    let demands = args.keys.demands()?;
    let object = args.url.object(&args.store).await?;
    let trusted = args.keys.keys.trusted(&Home::find()?).await?;
    let engine = small_engine()?;
    let url = args.url.to_string();
    let shown = args.url.shown_by_its_tool(&args.store).await?;
    match engine.open(object.store.clone(), object.key.clone(), &trusted.keys, &demands).await {
        Ok(reader) => {
            let report = Report {
                plain_len: Some(reader.len()),
                parts: Some(reader.manifest().parts().len()),
                checksums: Some(reader.manifest().checksums()),
                opened_with: output::opened_with(&reader),
                store: shown,
                ..Report::of_envelope(url, reader.info(), reader.envelope())
            };
            args.json.print(&report, || report.text())
        }
        Err(e) if e.kind() == ErrorKind::KeyUnavailable => {
            let info = object.store.head(&object.key).await?;
            let envelope = Envelope::from_metadata(&info.properties.metadata)?;
            let report = Report { store: shown, ..Report::of_envelope(url, &info, &envelope) };
            args.json.print(&report, || report.text())?;
            Err(trusted.explain(e))
        }
        Err(e) if e.kind() == ErrorKind::NotSealed => {
            let info = object.store.head(&object.key).await?;
            if let Some(upload) = unsealed_by(&info.properties.metadata) {
                let report = Report { store: shown, ..Report::of_unsealed(url, &info, &upload) };
                return args.json.print(&report, || report.text());
            }
            if shown.is_empty() {
                return Err(trusted.explain(e));
            }
            // What OSS tells is true of any object.
            args.json.print(&shown, || as_shown(&shown))?;
            Err(trusted.explain(e))
        }
        Err(e) => Err(trusted.explain(e)),
    }
}

/// As ossutil prints it.
fn as_shown(store: &BTreeMap<String, String>) -> String {
    let width = store.keys().map(String::len).max().unwrap_or_default() + 2;
    let line = |(name, value): (&String, &String)| format!("{name:<width$}: {}", output::printable(value));
    store.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl Report {
    fn of_envelope(url: String, info: &ObjectInfo, envelope: &Envelope) -> Self {
        Self {
            cipher: output::COBBLESTONE_256,
            data_keys: output::recipients(envelope.data_keys()),
            encryption_context: envelope.context().pairs().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            bound: envelope.is_bound(),
            ..Self::of_info(url, info, envelope.object_id())
        }
    }

    /// Of an object whose metadata says that it is not sealed: nobody vouches for that either.
    fn of_unsealed(url: String, info: &ObjectInfo, upload: &ObjectId) -> Self {
        Self { plain_len: Some(info.len), ..Self::of_info(url, info, upload) }
    }

    fn of_info(url: String, info: &ObjectInfo, id: &ObjectId) -> Self {
        let is_own = |name: &str| !name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("sealift-"));
        let metadata = &info.properties.metadata;
        Self {
            url,
            object_id: id.to_string(),
            plain_len: None,
            sealed_len: info.len,
            parts: None,
            checksums: None,
            cipher: output::NOT_SEALED,
            data_keys: Vec::new(),
            opened_with: None,
            encryption_context: BTreeMap::new(),
            bound: false,
            metadata: metadata.iter().filter(|(name, _)| is_own(name)).map(|(k, v)| (k.clone(), v.clone())).collect(),
            etag: info.etag.0.clone(),
            modified: info.modified.map(output::timestamp),
            encryption: info.encryption.clone().map(Encryption::from),
            store: BTreeMap::new(),
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![("url", self.url.clone()), ("object id", self.object_id.clone())];
        let pair = |name: &str, value: &str| output::printable(&format!("{name}={value}"));
        let length = |len| format!("{len} bytes ({})", output::bytes(len));
        lines.push(("plaintext", self.plain_len.map_or("sealed: no key to tell".to_owned(), length)));
        lines.push(("stored", length(self.sealed_len)));
        if let (Some(parts), Some(checksums)) = (self.parts, self.checksums) {
            lines.push(("parts", format!("{parts}{}", if checksums { ", with checksums" } else { "" })));
        }
        lines.push((
            "cipher",
            if self.cipher == output::NOT_SEALED {
                "none: it is NOT sealed".to_owned()
            } else {
                self.cipher.to_owned()
            },
        ));
        lines.extend(self.data_keys.iter().map(|recipient| ("opens with", recipient.to_string())));
        lines.extend(self.encryption_context.iter().map(|(name, value)| ("context", pair(name, value))));
        if self.bound {
            lines.push(("bound", "to its name".to_owned()));
        }
        lines.extend(self.metadata.iter().map(|(name, value)| ("metadata", pair(name, value))));
        if let Some(modified) = &self.modified {
            lines.push(("modified", modified.clone()));
        }
        if let (Some(encryption), true) = (&self.encryption, self.store.is_empty()) {
            lines.push(("encrypted", format!("by the store, {encryption}")));
        }
        let mut lines: Vec<_> = lines.into_iter().map(|(name, value)| format!("{name:<11}{value}")).collect();
        if !self.store.is_empty() {
            lines.push(String::new());
            lines.push(as_shown(&self.store));
        }
        lines.join("\n")
    }
}

#[derive(Serialize)]
struct Verified {
    url: String,
    /// Absent, as the next, where it is not sealed.
    object_id: Option<String>,
    plain_len: u64,
    parts: Option<usize>,
    cipher: &'static str,
    checksums: bool,
    data_keys: Vec<Tried>,
    opened_with: Option<Recipient>,
    against: Option<String>,
    seconds: f64,
    bytes_per_second: u64,
}

/// A recipient, and whether its key was at hand and opened the object.
#[derive(Serialize)]
struct Tried {
    #[serde(flatten)]
    recipient: Recipient,
    opened: bool,
}

pub(crate) async fn verify(args: Verify, verbose: u8) -> Result {
    let interrupts = Interrupts::listen()?;
    let demands = args.keys.demands()?;
    let engine = args.engine.engine()?;
    let bar = args.output.bar(verbose);
    if args.sealing.no_seal {
        return verify_unsealed(&args, &engine, interrupts, bar).await;
    }
    let work = async {
        let object = args.url.object(&args.store).await?;
        let trusted = args.keys.keys.trusted(&Home::find()?).await?;
        let bucket = object.store.bucket().to_owned();
        let opened = engine.open(object.store, object.key.clone(), &trusted.keys, &demands).await;
        let reader = opened.map_err(|e| trusted.explain(e))?;
        let data_keys = try_each_recipient(&reader, &trusted.keys, (&bucket, object.key.as_str())).await?;
        match &args.against {
            Some(path) => compare(reader.stream(0..reader.len()), reader.len(), path, bar.callback()).await?,
            None => {
                reader.verify(bar.callback()).await.map_err(|e| Failure::from(e).hint_if_damaged())?;
            }
        }
        Ok((reader, data_keys))
    };
    let (reader, data_keys) = interrupts.dropping(work).await?;
    let took = bar.finish();
    let report = Verified {
        url: args.url.to_string(),
        object_id: Some(reader.envelope().object_id().to_string()),
        plain_len: reader.len(),
        parts: Some(reader.manifest().parts().len()),
        cipher: output::COBBLESTONE_256,
        checksums: reader.manifest().checksums() && args.against.is_none(),
        data_keys,
        opened_with: output::opened_with(&reader),
        against: args.against.as_ref().map(|path| path.display().to_string()),
        seconds: took.as_secs_f64(),
        bytes_per_second: output::rate(reader.len(), took),
    };
    args.output.done(&report, || {
        let equal = report.against.as_ref().map(|file| format!(", equal to {file}")).unwrap_or_default();
        let unopened = report.data_keys.iter().filter(|tried| !tried.opened);
        let unopened: String = unopened
            .map(|tried| {
                format!("\nnot opened, because its key is not here or cannot be used now: {}", tried.recipient)
            })
            .collect();
        format!("{}: whole{equal}; {}{unopened}", report.url, output::bytes_in(report.plain_len, took))
    })
}

/// Nothing but a copy tells whether an object that is not sealed is what it should be.
async fn verify_unsealed(args: &Verify, engine: &Engine, interrupts: Interrupts, bar: output::Bar) -> Result {
    let Some(path) = &args.against else {
        let message = "an object that is not sealed can only be compared: --against FILE";
        return Err(Failure::new(ErrorKind::InvalidInput, message));
    };
    let work = async {
        let reader = open_unsealed(engine, &args.url, &args.store, &args.keys).await?;
        compare(reader.stream(0..reader.len()), reader.len(), path, bar.callback()).await?;
        Ok(reader.len())
    };
    let plain_len = interrupts.dropping(work).await?;
    let took = bar.finish();
    let report = Verified {
        url: args.url.to_string(),
        object_id: None,
        plain_len,
        parts: None,
        cipher: output::NOT_SEALED,
        checksums: false,
        data_keys: Vec::new(),
        opened_with: None,
        against: Some(path.display().to_string()),
        seconds: took.as_secs_f64(),
        bytes_per_second: output::rate(plain_len, took),
    };
    args.output.done(&report, || {
        let compared = output::bytes_in(plain_len, took);
        format!("{}: not sealed, equal to {}; {compared}", report.url, path.display())
    })
}

async fn open_file(path: &Path) -> Result<tokio::fs::File> {
    let failed = |e| Error::io(format!("cannot open {}", path.display()), e);
    Ok(tokio::fs::File::open(path).await.map_err(failed)?)
}

/// Each recipient whose key is at hand must open the object, to the same data key.
async fn try_each_recipient(reader: &Reader, trusted: &Trusted, name: (&str, &str)) -> Result<Vec<Tried>> {
    let envelope = reader.envelope();
    let context = Envelope::kms_context(envelope.object_id(), envelope.context(), envelope.is_bound().then_some(name));
    let mut tried = Vec::new();
    for (wrapped, recipient) in envelope.data_keys().iter().zip(output::recipients(envelope.data_keys())) {
        let one = std::slice::from_ref(wrapped);
        let opened = match trusted.unwrap(one, &context, |data_key| data_key == reader.data_key()).await {
            Ok(_) => true,
            Err(e) if e.kind() == ErrorKind::KeyUnavailable => false,
            Err(e) => return Err(e.while_doing(format_args!("trying the recipient {recipient}")).into()),
        };
        tried.push(Tried { recipient, opened });
    }
    Ok(tried)
}

/// Opens all of the object beside reading `file`; tells the first offset at which they differ.
async fn compare<B: AsRef<[u8]>>(
    object: impl Stream<Item = sealift::Result<B>>,
    len: u64,
    path: &Path,
    progress: Option<ProgressCallback>,
) -> Result {
    if path.as_os_str() == "-" {
        return compare_with(object, len, tokio::io::stdin(), "stdin", progress).await;
    }
    compare_with(object, len, open_file(path).await?, &path.display().to_string(), progress).await
}

async fn compare_with<B: AsRef<[u8]>>(
    object: impl Stream<Item = sealift::Result<B>>,
    len: u64,
    mut file: impl AsyncRead + Unpin,
    name: &str,
    progress: Option<ProgressCallback>,
) -> Result {
    let differs = |at: u64, how: String| {
        Failure::from(Error::new(ErrorKind::Changed, format!("the object and {name} differ from offset {at} on{how}")))
    };
    let failed = |e| Failure::from(Error::new(ErrorKind::SourceRead, format!("reading {name}")).with_source(e));
    let mut stream = std::pin::pin!(object);
    let mut buffer = Vec::new();
    let mut at = 0;
    while let Some(bytes) = stream.try_next().await.map_err(|e| Failure::from(e).hint_if_damaged())? {
        let bytes = bytes.as_ref();
        buffer.clear();
        (&mut file).take(bytes.len() as u64).read_to_end(&mut buffer).await.map_err(failed)?;
        if let Some(n) = bytes.iter().zip(&buffer).position(|(ours, theirs)| ours != theirs) {
            return Err(differs(at + n as u64, String::new()));
        }
        if buffer.len() < bytes.len() {
            return Err(differs(at + buffer.len() as u64, format!(", where {name} ends")));
        }
        at += bytes.len() as u64;
        if let Some(progress) = &progress {
            progress(Progress { sealed: at, done: at, total: Some(len) });
        }
    }
    match file.read(&mut [0]).await.map_err(failed)? {
        0 => Ok(()),
        _ => Err(differs(at, ", where the object ends".to_owned())),
    }
}
