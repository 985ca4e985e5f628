//! What plain cargo cannot do, as recipes: `cargo xtask` lists them.

mod bench;
mod check;
mod demo;
mod fuzz;
mod instructions;
mod metadata;
mod msrv;
mod setup;
mod steps;
mod test;

use std::env;
use std::path::Path;
use std::process::ExitCode;

/// The outcome of a recipe. An error is a message for a person: what failed, and what to do about it.
type Result<T = ()> = std::result::Result<T, String>;

struct Recipe {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result,
}

const RECIPES: [Recipe; 10] = [
    Recipe {
        name: "setup",
        arguments: "",
        about: "install what tests use: target/test-venv, SoftHSM",
        run: setup::run,
    },
    Recipe { name: "check", arguments: "", about: "formatting, lints, documentation, licences", run: check::run },
    Recipe { name: "test", arguments: "", about: "all tests, at most 25 minutes on 2 cores", run: test::run },
    Recipe {
        name: "soak",
        arguments: "",
        about: "all tests in release with long counts; takes hours",
        run: test::soak,
    },
    Recipe {
        name: "fuzz",
        arguments: "[--seconds N] [TARGET…]",
        about: "the fuzz targets, 60 seconds each unless told otherwise",
        run: fuzz::run,
    },
    Recipe {
        name: "bench", arguments: "[ARG…]", about: "the benchmarks; arguments go to criterion", run: bench::run
    },
    Recipe { name: "bench-smoke", arguments: "", about: "every benchmark once, unmeasured", run: bench::smoke },
    Recipe {
        name: "instructions",
        arguments: "[--bless | --tolerance PERCENT]",
        about: "count the inner loops' instructions by valgrind, compare with benches/instructions.txt",
        run: instructions::run,
    },
    Recipe {
        name: "msrv",
        arguments: "",
        about: "whether the lock file and the code keep to rust-version",
        run: msrv::run,
    },
    Recipe { name: "demo", arguments: "", about: "seal a file, look at it, and get it back", run: demo::run },
];

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "help".to_owned());
    if ["help", "--help", "-h"].contains(&name.as_str()) {
        help();
        return ExitCode::SUCCESS;
    }
    match run(&name, &arguments.collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn help() {
    println!("cargo xtask RECIPE\n");
    for Recipe { name, arguments, about, .. } in RECIPES {
        println!("  {:34}  {about}", format!("{name} {arguments}"));
    }
}

fn run(name: &str, arguments: &[String]) -> Result {
    let recipe = RECIPES.iter().find(|recipe| recipe.name == name);
    let recipe = recipe.ok_or("there is no such recipe; `cargo xtask help` lists all")?;
    if recipe.arguments.is_empty() && !arguments.is_empty() {
        return Err(format!("takes no arguments, but was given {arguments:?}"));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask/ lies in no directory")?;
    env::set_current_dir(root).map_err(|error| format!("cannot enter {}: {error}", root.display()))?;
    (recipe.run)(arguments)
}
