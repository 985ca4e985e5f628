//! One file for each group of commands.

mod bench;
mod docs;
mod doctor;
mod get;
mod get_tree;
mod kms;
mod objects;
mod put;
mod put_tree;
mod rewrap;
#[cfg(feature = "gateway")]
mod serve;
mod sse;
mod stat;
mod tree;
mod uploads;

use sealift::engine::{Reader, UnsealedReader};
use sealift::{Engine, ErrorKind};

use crate::args::{Cli, Command, EngineArgs, ReaderKeys, StoreArgs};
use crate::exit::{Failure, Result};
use crate::home::Home;
use crate::output;
use crate::url::Location;

pub(crate) async fn run(cli: Cli) -> Result {
    let verbose = cli.verbose;
    match cli.command {
        Command::Put(args) if args.tree.recursive => Box::pin(put_tree::put_tree(*args, verbose)).await,
        Command::Put(args) => Box::pin(put::put(*args, verbose)).await,
        Command::Get(args) if args.tree.recursive => Box::pin(get_tree::get_tree(args, verbose)).await,
        Command::Get(args) => Box::pin(get::get(args, verbose)).await,
        Command::Cat(args) => Box::pin(get::cat(args)).await,
        Command::Stat(args) => Box::pin(stat::stat(args)).await,
        Command::Verify(args) => Box::pin(stat::verify(args, verbose)).await,
        Command::Ls(args) => objects::ls(args).await,
        Command::Rm(args) => objects::rm(args).await,
        Command::Cp(args) => objects::cp(args).await,
        Command::Mv(args) => objects::mv(args).await,
        Command::Rewrap(args) => Box::pin(rewrap::rewrap(args, verbose)).await,
        Command::Sse(command) => Box::pin(sse::run(command)).await,
        Command::Uploads(command) => Box::pin(uploads::run(command, verbose)).await,
        Command::Doctor(args) => Box::pin(doctor::doctor(args)).await,
        Command::DataKey(args) => Box::pin(get::data_key(args)).await,
        #[cfg(feature = "gateway")]
        Command::Serve(args) => Box::pin(serve::serve(args)).await,
        Command::Kms(command) => kms::run(command),
        Command::Bench(args) => Box::pin(bench::bench(args)).await,
        Command::Completions(args) => docs::completions(&args),
        Command::Man(args) => docs::man(&args),
    }
}

impl EngineArgs {
    fn engine(&self) -> Result<Engine> {
        let builder = Engine::builder().memory_budget(self.memory_budget).backend(self.backend.unwrap_or_default());
        Ok(match self.threads {
            Some(threads) => builder.threads(threads.into()),
            None => builder,
        }
        .build()?)
    }
}

/// Opens an object for reading.
async fn open(engine: &Engine, url: &Location, at: &StoreArgs, keys: &ReaderKeys) -> Result<Reader> {
    let demands = keys.demands()?;
    let object = url.object(at).await?;
    let trusted = keys.keys.trusted(&Home::find()?).await?;
    let reader =
        engine.open(object.store, object.key, &trusted.keys, &demands).await.map_err(|e| trusted.explain(e))?;
    if let Some(recipient) = output::opened_with(&reader) {
        tracing::info!("opened with the {} key {}", recipient.kms, output::printable(&recipient.key));
    }
    Ok(reader)
}

/// Opens an object that is not sealed.
async fn open_unsealed(engine: &Engine, url: &Location, at: &StoreArgs, keys: &ReaderKeys) -> Result<UnsealedReader> {
    let demands = keys.demands()?;
    let object = url.object(at).await?;
    let reader = engine.open_unsealed(object.store, object.key, &demands).await;
    reader
        .map_err(|e| Failure::from(e).hint_if(ErrorKind::InvalidInput, "without --no-seal, sealed objects are opened"))
}

/// An engine for commands that move no data.
fn small_engine() -> Result<Engine> {
    Ok(Engine::builder().threads(1).build()?)
}
