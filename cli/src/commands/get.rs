//! `get`, `cat` and `data-key`.

use std::path::Path;

use futures::{Stream, TryStreamExt as _};
use sealift::engine::{GetOptions, partial_path};
use sealift::{Error, ErrorKind};
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;

use super::{open, open_unsealed, small_engine};
use crate::args::{Cat, DataKey, Get};
use crate::exit::{Failure, Result};
use crate::interrupt::Interrupts;
use crate::output;

pub(crate) async fn get(args: Get, verbose: u8) -> Result {
    let interrupts = Interrupts::listen()?;
    let to_stdout = args.dest.as_os_str() == "-";
    if to_stdout && args.output.json.json {
        return Err(Failure::new(ErrorKind::InvalidInput, "--json and the object cannot both go to stdout"));
    }
    // Before the key is asked for; the engine looks again when it writes.
    if !to_stdout && args.dest.is_dir() {
        let message = format!("{0} is a directory: name the file in it, such as {0}/NAME", args.dest.display());
        return Err(Failure::new(ErrorKind::InvalidInput, message).hint("for every object below URL: --recursive"));
    }
    if !to_stdout && !args.force && std::fs::symlink_metadata(&args.dest).is_ok() {
        return Err(exists(&args.dest));
    }
    if let Some(dir) = args.dest.parent().filter(|dir| !to_stdout && !dir.as_os_str().is_empty() && !dir.exists()) {
        return Err(Failure::new(ErrorKind::NotFound, format!("there is no directory {}", dir.display()))
            .hint("make it, or name another file to write"));
    }
    let engine = args.engine.engine()?;
    let bar = args.output.bar(if to_stdout { u8::MAX } else { verbose });
    let options = GetOptions { overwrite: args.force, resume: true, progress: bar.callback() };
    let work = async {
        if args.sealing.no_seal {
            let reader = open_unsealed(&engine, &args.url, &args.store, &args.keys).await?;
            let resumed_from = match to_stdout {
                true => to_standard_output(reader.stream(0..reader.len())).await.map(|()| 0)?,
                false => reader.write_to_file(&args.dest, options).await?.resumed_from,
            };
            return Ok(Got { object_id: None, plain_len: reader.len(), resumed_from, opened_with: None });
        }
        let reader = open(&engine, &args.url, &args.store, &args.keys).await?;
        let resumed_from = if to_stdout {
            to_standard_output(reader.stream(0..reader.len())).await.map(|()| 0)?
        } else {
            let written = reader.write_to_file(&args.dest, options).await;
            written.map_err(|e| Failure::from(e).hint_if_damaged())?.resumed_from
        };
        let object_id = Some(reader.envelope().object_id().to_string());
        Ok(Got { object_id, plain_len: reader.len(), resumed_from, opened_with: output::opened_with(&reader) })
    };
    let got = interrupts.dropping(work).await.map_err(|e| kept(e, &args.dest))?;
    let took = bar.finish();
    if to_stdout {
        return Ok(());
    }
    let bytes = got.plain_len - got.resumed_from;
    let report = GetReport {
        url: args.url.to_string(),
        dest: args.dest.display().to_string(),
        cipher: if args.sealing.no_seal { output::NOT_SEALED } else { output::COBBLESTONE_256 },
        got,
        seconds: took.as_secs_f64(),
        bytes_per_second: output::rate(bytes, took),
    };
    args.output.done(&report, || {
        let did = if args.sealing.no_seal { "Read, NOT authenticated," } else { "Opened" };
        let bytes = output::bytes_in(bytes, took);
        match report.got.resumed_from {
            0 => format!("{did} {bytes} into {}", report.dest),
            _ => format!("{did} the last {bytes} into {}", report.dest),
        }
    })
}

/// What was read.
#[derive(Serialize)]
struct Got {
    /// Absent where it is not sealed.
    object_id: Option<String>,
    plain_len: u64,
    /// Bytes that an interrupted run had written before.
    resumed_from: u64,
    opened_with: Option<output::Recipient>,
}

#[derive(Serialize)]
struct GetReport {
    url: String,
    dest: String,
    cipher: &'static str,
    #[serde(flatten)]
    got: Got,
    seconds: f64,
    bytes_per_second: u64,
}

/// `failure`, with what there is to go on with.
fn kept(failure: Failure, dest: &Path) -> Failure {
    match partial_path(dest).filter(|partial| partial.exists()) {
        Some(partial) => failure
            .hint(format!("what was written is kept in {}; the same command goes on from there", partial.display())),
        None => failure,
    }
}

pub(crate) async fn cat(args: Cat) -> Result {
    let interrupts = Interrupts::listen()?;
    let engine = args.engine.engine()?;
    let resolve = |len| match args.range {
        Some(range) => range.resolve(len),
        None => Ok(0..len),
    };
    let work = async {
        if args.sealing.no_seal {
            let reader = open_unsealed(&engine, &args.url, &args.store, &args.keys).await?;
            return to_standard_output(reader.stream(resolve(reader.len())?)).await;
        }
        let reader = open(&engine, &args.url, &args.store, &args.keys).await?;
        to_standard_output(reader.stream(resolve(reader.len())?)).await
    };
    interrupts.dropping(work).await
}

pub(crate) async fn data_key(args: DataKey) -> Result {
    let reader = open(&small_engine()?, &args.url, &args.store, &args.keys).await?;
    output::say(
        "warning: whoever has this key can read this object and forge it, for ever; keep it out of logs and histories",
    );
    output::print(&base16ct::lower::encode_string(reader.data_key().expose()))
}

pub(crate) fn exists(path: &Path) -> Failure {
    Failure::new(ErrorKind::AlreadyExists, format!("{} exists already", path.display())).hint("--force replaces it")
}

/// A reader that goes away, such as `head`, has what it wanted.
async fn to_standard_output<B: AsRef<[u8]>>(stream: impl Stream<Item = sealift::Result<B>>) -> Result {
    let mut out = tokio::io::stdout();
    let mut stream = std::pin::pin!(stream);
    let write = async {
        while let Some(bytes) = stream.try_next().await? {
            out.write_all(bytes.as_ref()).await.map_err(stdout_failed)?;
        }
        out.flush().await.map_err(stdout_failed)
    };
    match write.await {
        Err(e) if is_broken_pipe(&e) => Ok(()),
        done => done.map_err(|e| Failure::from(e).hint_if_damaged()),
    }
}

fn stdout_failed(e: std::io::Error) -> Error {
    Error::io("writing to stdout", e)
}

fn is_broken_pipe(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
