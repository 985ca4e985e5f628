//! `completions` and `man`: made of the same definitions as the program itself.

use std::io;

use clap::CommandFactory as _;
use sealift::Error;

use crate::args::{Cli, Completions, Man};
use crate::exit::Result;
use crate::output;

pub(crate) fn completions(args: &Completions) -> Result {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sealift", &mut text);
    output::print(String::from_utf8_lossy(&text).trim_end())
}

pub(crate) fn man(args: &Man) -> Result {
    let failed = |e: io::Error| Error::io("writing the man pages", e);
    if let Some(dir) = &args.out_dir {
        std::fs::create_dir_all(dir).map_err(failed)?;
        return Ok(clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?);
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut text).map_err(failed)?;
    output::print(String::from_utf8_lossy(&text).trim_end())
}
