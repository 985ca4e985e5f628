//! `uploads list`, `resume`, `abort` and `reap`.

mod reap;

use sealift::engine::{PendingUpload, Protection, ResumeOptions, UploadEntry, UploadState, list_uploads};
use sealift::kms::recipients::Trusted;
use sealift::{Error, ErrorKind};
use serde::Serialize;

use super::{put, small_engine};
use crate::args::{Uploads, UploadsAbort, UploadsList, UploadsResume};
use crate::exit::{Failure, Result};
use crate::home::Home;
use crate::interrupt::Interrupts;
use crate::output::printable;
use crate::{source, store};

pub(crate) async fn run(command: Uploads, verbose: u8) -> Result {
    match command {
        Uploads::List(args) => list(&args),
        Uploads::Resume(args) => resume(args, verbose).await,
        Uploads::Abort(args) => abort(args).await,
        Uploads::Reap(args) => Box::pin(reap::reap(args)).await,
    }
}

#[derive(Serialize)]
struct Listed {
    id: String,
    url: String,
    source: String,
    state: &'static str,
}

fn list(args: &UploadsList) -> Result {
    let uploads: Vec<_> = list_uploads(&Home::find()?.uploads())?.into_iter().map(Listed::from).collect();
    args.json.print(&uploads, || uploads.iter().map(Listed::line).collect::<Vec<_>>().join("\n"))
}

impl Listed {
    /// One line, whatever is in the names.
    fn line(&self) -> String {
        let Self { id, url, source, state } = self;
        printable(&format!("{id}  {state:11}  {url}  from {source}"))
    }
}

impl From<UploadEntry> for Listed {
    fn from(entry: UploadEntry) -> Self {
        let state = state_name(entry.state);
        let url = match entry.state {
            UploadState::Damaged => String::new(),
            _ => store::object_url(&entry.store, &entry.key),
        };
        Self {
            id: entry.id,
            url,
            source: entry.source.map_or_else(|| "-".to_owned(), |path| path.display().to_string()),
            state,
        }
    }
}

fn state_name(state: UploadState) -> &'static str {
    match state {
        UploadState::Running => "running",
        UploadState::Interrupted => "interrupted",
        UploadState::Damaged => "damaged",
    }
}

async fn resume(args: UploadsResume, verbose: u8) -> Result {
    let home = Home::find()?;
    let engine = args.engine.engine()?;
    let pending = PendingUpload::open(&home.uploads(), &args.id)?;
    let store = store::open(pending.store_url(), &args.store).await?;
    let path = pending.source_path().ok_or_else(|| {
        let message =
            "this upload was read from a stream, which cannot be read again: `sealift uploads abort` removes it";
        Error::new(ErrorKind::InvalidInput, message)
    })?;
    let source = source::open_file(path, args.read_mode, args.engine.backend.unwrap_or_default())?;
    if pending.is_unsealed() && !args.sealing.no_seal {
        let message = "this upload is of a file that is stored NOT sealed";
        let hint = format!("to go on with it so: sealift uploads resume {} --no-seal", args.id);
        return Err(Failure::new(ErrorKind::InvalidInput, message).hint(hint));
    }
    let trusted = match args.sealing.no_seal {
        true => None,
        false => Some(args.keys.trusted(&home).await?),
    };
    let none = Trusted::new(Vec::new());
    let keys = trusted.as_ref().map_or(&none, |trusted| &trusted.keys);
    let url = store::object_url(pending.store_url(), pending.key()?.as_str());
    // Until here a signal ends the program as it ends any other: there is nothing yet to end cleanly.
    let interrupts = Interrupts::listen()?;
    let bar = args.output.bar(verbose);
    let on_failure = put::on_failure(args.abort_on_interrupt);
    let options = ResumeOptions {
        protection: if args.sealing.no_seal { Protection::Unsealed } else { Protection::Sealed },
        on_failure,
        max_in_flight: args.concurrency,
        verify_source: args.verify_source,
        progress: bar.callback(),
        ..ResumeOptions::default()
    };
    let cancel = options.cancel.clone();
    let upload = engine.resume(pending, store, source, keys, options);
    let done = interrupts.cancelling(&cancel, on_failure, upload).await;
    let took = bar.finish();
    let uploaded = done.map_err(|e| match (e.resumable(), e.kind()) {
        (Some(_), _) => put::kept(e, &args.keys.kms_key, &args.keys.key_file, args.sealing.no_seal),
        (None, ErrorKind::SourceChanged) => {
            Failure::from(e).hint(format!("to remove what was uploaded: sealift uploads abort {}", args.id))
        }
        (None, _) => match &trusted {
            Some(trusted) => trusted.explain(e),
            None => Failure::from(e),
        },
    })?;
    put::report(&uploaded, url, took, None, &args.output)
}

async fn abort(args: UploadsAbort) -> Result {
    let home = Home::find()?;
    let pending = PendingUpload::open(&home.uploads(), &args.id)?;
    let id = pending.id();
    let store = store::open(pending.store_url(), &args.store).await?;
    let url = store::object_url(pending.store_url(), pending.key()?.as_str());
    small_engine()?.abort(pending, store.as_ref()).await?;
    #[derive(Serialize)]
    struct Aborted {
        id: String,
        url: String,
    }
    let aborted = Aborted { id, url };
    args.output.done(&aborted, || format!("{}: upload {} is aborted, its parts are removed", aborted.url, aborted.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_one_line_that_does_nothing_to_a_terminal() {
        let upload = Listed {
            id: "00ff".to_owned(),
            url: "/backup/a\nb".to_owned(),
            source: "/home/\u{1b}[2Ja".to_owned(),
            state: "interrupted",
        };
        assert_eq!(upload.line(), r"00ff  interrupted  /backup/a\nb  from /home/\u{1b}[2Ja");
    }
}
