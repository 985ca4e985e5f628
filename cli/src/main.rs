//! The `sealift` program: command line, progress, exit codes. All that matters is done by the library.

mod args;
mod commands;
mod core_dump;
mod exit;
mod home;
mod interrupt;
mod keys;
mod output;
mod services;
mod sigbus;
mod size;
mod source;
mod store;
mod url;

use std::process::ExitCode;

use clap::Parser as _;
use sealift::Error;
use tracing_subscriber::EnvFilter;

use crate::args::Cli;

fn main() -> ExitCode {
    core_dump::disable();
    let cli = Cli::parse();
    log(&cli);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            let failure = exit::Failure::from(Error::io("starting the async runtime", e));
            failure.print();
            return failure.exit().into();
        }
    };
    let done = runtime.block_on(commands::run(cli));
    if let Err(failure) = &done {
        failure.print();
    }
    // A read from stdin that nobody waits for any more must not hold the program up.
    runtime.shutdown_background();
    done.map_or_else(|failure| failure.exit().into(), |()| ExitCode::SUCCESS)
}

fn log(cli: &Cli) {
    #[cfg(feature = "gateway")]
    if let args::Command::Serve(serve) = &cli.command {
        return log_of_server(cli.verbose, serve.log_format);
    }
    let default = match cli.verbose {
        // What the AWS SDK warns of while it looks for a region and credentials, the error says if nothing is found.
        0 => "warn,aws_config=error",
        1 => "info,sealift=debug",
        _ => "info,sealift=trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
}

/// A server's log has times, and every request.
#[cfg(feature = "gateway")]
fn log_of_server(verbose: u8, format: args::LogFormat) {
    let default = match verbose {
        0 => "warn,aws_config=error,s3s=error,sealift_gateway=info,sealift_cli=info,sealift=info",
        1 => "info,sealift_gateway=debug",
        _ => "info,sealift=debug,sealift_gateway=trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        args::LogFormat::Text => log.init(),
        args::LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
