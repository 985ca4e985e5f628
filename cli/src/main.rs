//! The `sealift` program: command line, progress, exit codes. All that matters is done by the library.

mod args;
mod commands;
#[cfg_attr(
    not(any(feature = "oss", feature = "s3")),
    allow(dead_code, reason = "without buckets, nobody asks where they are")
)]
mod config;
mod core_dump;
mod duration;
mod exit;
mod filter;
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
mod walk;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser as _};
use sealift::Error;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command};
use crate::config::Config;

fn main() -> ExitCode {
    core_dump::disable();
    let cli = match command_line() {
        Ok(cli) => cli,
        Err(failure) => {
            failure.print();
            return failure.exit().into();
        }
    };
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

/// What was asked for, with the defaults of the configuration file.
fn command_line() -> exit::Result<Cli> {
    // Help, and what is made of the same definitions, works whatever that file says.
    let cli = Cli::parse();
    if matches!(cli.command, Command::Completions(_) | Command::Man(_)) {
        return Ok(cli);
    }
    let matches = Config::read()?.defaults(Cli::command()).get_matches();
    Ok(Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit()))
}

fn log(cli: &Cli) {
    #[cfg(feature = "gateway")]
    if let Command::Serve(serve) = &cli.command {
        return log_of_server(cli.verbose, serve.log_format);
    }
    let default = match cli.verbose {
        // What the AWS SDK warns of while it looks for a region and credentials, the error says if nothing is found.
        0 => "warn,aws_config=error",
        1 => "info,sealift=debug",
        _ => "info,sealift=trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(std::io::stderr().is_terminal()).without_time().init();
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
    let log = log.with_ansi(std::io::stderr().is_terminal());
    match format {
        args::LogFormat::Text => log.init(),
        args::LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
