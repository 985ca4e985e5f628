//! `rewrap`.

use std::sync::Arc;

use futures::StreamExt as _;
use sealift::engine::{CmkId, ReadOptions, Remove, RewrapOptions, RewrapOutcome, Rewrapped};
use sealift::kms::recipients::Recipient;
use sealift::{EncryptionContext, Engine, Error, ErrorKind, KmsService, WrappedKey};
use serde::Serialize;

use super::small_engine;
use crate::args::{Keys, Rewrap};
use crate::exit::{Exit, Failure, Result};
use crate::home::Home;
use crate::interrupt::Interrupts;
use crate::keys::{self, TrustedByUser};
use crate::output;
use crate::services::NamedKey;
use crate::store::{Below, Object};
use crate::url::Location;

pub(crate) async fn rewrap(args: Rewrap, verbose: u8) -> Result {
    let home = Home::find()?;
    let demands = ReadOptions {
        context: EncryptionContext::new(args.encryption_context.iter().cloned())?,
        bound: args.bound,
        ..ReadOptions::default()
    };
    let options = RewrapOptions {
        add: added(&args, &home)?,
        remove: removed(&args, &home)?,
        demands,
        dry_run: args.dry_run,
        ..RewrapOptions::default()
    };
    let opens = Keys { kms_key: args.open_with.clone(), key_file: args.open_with_key_file.clone() };
    let mut trusted = opens.trusted(&home).await?;
    trusted.flags = ("--open-with", "--open-with-key-file");
    // Until here a signal ends the program as it ends any other: there is nothing yet to end cleanly.
    let interrupts = Interrupts::listen()?;
    let run = Run { engine: small_engine()?, trusted, options };
    match args.recursive {
        false => interrupts.dropping(run.one(&args)).await,
        true => run.all(&args, interrupts, verbose).await,
    }
}

/// The keys to add, by their ids where those are known: then an object that has them is known without asking anybody.
fn added(args: &Rewrap, home: &Home) -> Result<Vec<Recipient>> {
    if args.kms_key.is_empty() && args.key_file.is_empty() {
        return Ok(Vec::new());
    }
    let is_local = |key: &String| NamedKey::parse(key).service == KmsService::Local;
    if args.dry_run && args.kms_key.iter().any(is_local) && !home.key_store().exists() {
        // Not even a key store.
        home.open_key_store()?;
    }
    let mut recipients = keys::recipients_named(&args.kms_key, &args.key_file, home)?;
    if recipients.iter().any(|recipient| recipient.kms.service() == KmsService::Local) {
        let store = home.open_key_store()?;
        for recipient in recipients.iter_mut().filter(|recipient| recipient.kms.service() == KmsService::Local) {
            recipient.key = keys::local_key_id(&store, &recipient.key)?;
        }
    }
    Ok(recipients)
}

fn removed(args: &Rewrap, home: &Home) -> Result<Remove> {
    if args.only {
        return Ok(Remove::Others);
    }
    let id = |name: &String| {
        if let Some(id) = name.strip_prefix("key-file:") {
            return Ok(CmkId { kms: Some(KmsService::KeyFile), key: id.to_owned() });
        }
        let named = NamedKey::parse(name);
        if named.service != KmsService::Local {
            return Ok(CmkId { kms: Some(named.service), key: named.id_in_envelopes()? });
        }
        if named.key.starts_with("alias/") {
            let id = keys::local_key_id(&home.open_key_store()?, named.key).map_err(|failure| {
                failure.hint("`sealift stat` shows the ids of an object's keys: --remove takes those as well")
            })?;
            return Ok(CmkId { kms: Some(KmsService::Local), key: id });
        }
        // An id alone may be any service's.
        let kms = (named.key != name).then_some(KmsService::Local);
        Ok(CmkId { kms, key: named.key.to_owned() })
    };
    match args.remove.iter().map(id).collect::<Result<Vec<_>>>()? {
        ids if ids.is_empty() => Ok(Remove::Nothing),
        ids => Ok(Remove::These(ids)),
    }
}

/// What every object of a run is rewrapped with.
struct Run {
    engine: Engine,
    trusted: TrustedByUser,
    options: RewrapOptions,
}

impl Run {
    async fn rewrap(&self, object: &Object) -> sealift::Result<Rewrapped> {
        let store = Arc::clone(&object.store);
        self.engine.rewrap(store.as_ref(), &object.key, &self.trusted.keys, &self.options).await
    }

    async fn one(&self, args: &Rewrap) -> Result {
        let object = args.url.object(&args.store).await?;
        let done = self.rewrap(&object).await.map_err(|e| {
            let is_directory = matches!(&args.url, Location::File(path) if path.is_dir());
            match e.kind() {
                ErrorKind::NotFound if is_directory => {
                    Failure::from(e).hint("for all objects in a directory: --recursive")
                }
                ErrorKind::Changed => Failure::from(e).hint("to rewrap what is there now, run it again"),
                _ => self.trusted.explain(e),
            }
        })?;
        if let Remove::These(keys) = &self.options.remove {
            let is = |key: &CmkId, wrapped: &WrappedKey| {
                key.kms.is_none_or(|kms| kms == wrapped.kms) && key.key == wrapped.key
            };
            for key in keys.iter().filter(|key| !done.before.iter().any(|wrapped| is(key, wrapped))) {
                output::say(&format!("note: {} was no key of this object", output::printable(&key.key)));
            }
        }
        let report = One {
            url: args.url.to_string(),
            object_id: done.object_id.to_string(),
            outcome: outcome(&done),
            etag: &done.etag.0,
            change: Change::of(&done),
            data_keys: output::recipients(&done.after),
        };
        args.output.done(&report, || format!("{}: {}", report.url, text(&done)))
    }

    async fn all(&self, args: &Rewrap, interrupts: Interrupts, verbose: u8) -> Result {
        let below = args.url.below(&args.store).await?;
        let mut all = All { url: args.url.to_string(), dry_run: args.dry_run, ..All::default() };
        // A dry run prints lines, which would tear a bar apart.
        let bar = args.output.counter(if args.dry_run { u8::MAX } else { verbose });
        let show = args.dry_run && !args.output.quiet && !args.output.json.json;
        let work = async {
            let mut results = std::pin::pin!(
                below
                    .list()
                    .map(|listed| self.listed(&below, &args.url, listed))
                    .buffered(usize::from(args.concurrency))
            );
            while let Some((url, result)) = results.next().await {
                let Some(result) = all.listed(&url, result) else { continue };
                bar.count();
                if let (true, Ok(done)) = (show, &result)
                    && done.outcome == RewrapOutcome::Planned
                {
                    output::print(&format!("{}: {}", output::printable(&url), text(done)))?;
                }
                all.add(url, result);
            }
            Ok(())
        };
        let ended = interrupts.dropping(work).await;
        bar.finish();
        ended.map_err(|failure| {
            failure
                .hint(format!("{} objects were rewrapped before that", all.rewrapped))
                .hint("to go on, run the same command again: what is done is left alone")
        })?;
        args.output.done(&all, || all.text())?;
        all.into_result(&self.trusted)
    }

    async fn listed(
        &self,
        below: &Below,
        url: &Location,
        listed: sealift::Result<sealift::ObjectKey>,
    ) -> (String, Listed) {
        match listed {
            Err(e) => (url.to_string(), Err(e.while_doing("listing"))),
            Ok(key) => {
                let (url, object) = below.object(key);
                match object {
                    Ok(object) => (url, Ok(self.rewrap(&object).await)),
                    Err(e) => (url, Ok(Err(e))),
                }
            }
        }
    }
}

/// What became of an object, or why there is none: the listing failed.
type Listed = sealift::Result<sealift::Result<Rewrapped>>;

#[derive(Serialize)]
struct One<'a> {
    url: String,
    object_id: String,
    outcome: &'static str,
    etag: &'a str,
    #[serde(flatten)]
    change: Change,
    data_keys: Vec<output::Recipient>,
}

#[derive(Serialize)]
struct Change {
    added: Vec<output::Recipient>,
    removed: Vec<output::Recipient>,
}

impl Change {
    fn of(done: &Rewrapped) -> Self {
        let recipients = |keys: Vec<WrappedKey>| output::recipients(&keys);
        Self {
            added: recipients(done.added().cloned().collect()),
            removed: recipients(done.removed().cloned().collect()),
        }
    }
}

/// What became of many objects.
#[derive(Default, Serialize)]
struct All {
    url: String,
    dry_run: bool,
    /// Or would be.
    rewrapped: u64,
    unchanged: u64,
    not_sealed: u64,
    failed: u64,
    /// Of objects, and of the listing.
    failures: Vec<Failed>,
    /// Whether there may be objects that were not seen.
    #[serde(skip)]
    is_cut_short: bool,
    /// In a dry run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    planned: Vec<Planned>,
}

#[derive(Serialize)]
struct Failed {
    url: String,
    error: String,
    #[serde(skip)]
    kind: Option<ErrorKind>,
}

#[derive(Serialize)]
struct Planned {
    url: String,
    #[serde(flatten)]
    change: Change,
}

impl All {
    /// The object's result, unless it is the listing that failed.
    fn listed(&mut self, url: &str, listed: Listed) -> Option<sealift::Result<Rewrapped>> {
        listed
            .map_err(|e| {
                self.is_cut_short = true;
                self.failures.push(Failed { url: url.to_owned(), error: e.to_string(), kind: Some(e.kind()) });
            })
            .ok()
    }

    fn add(&mut self, url: String, result: sealift::Result<Rewrapped>) {
        match result {
            Ok(done) if done.outcome == RewrapOutcome::Unchanged => self.unchanged += 1,
            Ok(done) => {
                self.rewrapped += 1;
                if done.outcome == RewrapOutcome::Planned {
                    self.planned.push(Planned { url, change: Change::of(&done) });
                }
            }
            Err(e) if e.kind() == ErrorKind::NotSealed => self.not_sealed += 1,
            Err(e) => {
                self.failed += 1;
                self.failures.push(Failed { url, error: e.to_string(), kind: Some(e.kind()) });
            }
        }
    }

    fn text(&self) -> String {
        let mut text = match self.dry_run {
            true => format!("{}: {} would be rewrapped", self.url, self.rewrapped),
            false => format!("{}: {} rewrapped", self.url, self.rewrapped),
        };
        text.push_str(&format!(", {} unchanged", self.unchanged));
        for (count, what) in [(self.not_sealed, "not sealed and left alone"), (self.failed, "failed")] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text
    }

    /// Lists what failed. The exit code is that of the failures, if they have one in common.
    fn into_result(self, trusted: &TrustedByUser) -> Result {
        for Failed { url, error, .. } in &self.failures {
            output::say(&format!("failed: {}: {}", output::printable(url), output::printable(error)));
        }
        let mut kinds = self.failures.iter().filter_map(|failed| failed.kind);
        let Some(first) = kinds.next() else { return Ok(()) };
        let exit = |kind: ErrorKind| Failure::new(kind, "").exit();
        // `Changed` has the exit code of everything else.
        let kind = if kinds.all(|kind| exit(kind) == exit(first)) { first } else { ErrorKind::Changed };
        debug_assert_eq!(exit(ErrorKind::Changed), Exit::Other);
        let total = self.rewrapped + self.unchanged + self.failed;
        let message = match (self.is_cut_short, self.failed) {
            (true, 0) => format!("{} could not be listed to its end", self.url),
            (true, failed) => format!(
                "{} could not be listed to its end, and {failed} of {total} objects could not be rewrapped",
                self.url
            ),
            (false, failed) => format!("{failed} of {total} objects could not be rewrapped"),
        };
        Err(trusted.explain(Error::new(kind, message)).hint("the others are done; to try these again, run it again"))
    }
}

fn outcome(done: &Rewrapped) -> &'static str {
    match done.outcome {
        RewrapOutcome::Unchanged => "unchanged",
        RewrapOutcome::Planned => "planned",
        RewrapOutcome::Written => "rewrapped",
    }
}

/// `added local 1234, removed local 5678`
fn text(done: &Rewrapped) -> String {
    let (add, remove) = match done.outcome {
        RewrapOutcome::Unchanged => {
            return format!("unchanged, it opens with {}", listed(output::recipients(&done.after)));
        }
        RewrapOutcome::Planned => ("would add", "would remove"),
        RewrapOutcome::Written => ("added", "removed"),
    };
    let change = Change::of(done);
    let parts = [(add, change.added), (remove, change.removed)].into_iter().filter(|(_, keys)| !keys.is_empty());
    parts.map(|(what, keys)| format!("{what} {}", listed(keys))).collect::<Vec<_>>().join("; ")
}

fn listed(recipients: Vec<output::Recipient>) -> String {
    recipients.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
