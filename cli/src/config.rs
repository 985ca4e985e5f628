//! The program's configuration file: defaults for flags, and where buckets are.
//!
//! What a flag says goes first, then the environment, then this file, then the clouds' own files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use sealift::crypto::Backend;
use sealift::{Error, ErrorKind};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::exit::{Failure, Result};
use crate::size::parse_size;
use crate::url::{Location, Scheme};

const NAME: &str = "config.toml";

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(default, deserialize_with = "size")]
    memory_budget: Option<String>,
    #[serde(default, deserialize_with = "size")]
    part_size: Option<String>,
    #[serde(default, deserialize_with = "up_to::<1024, _>")]
    threads: Option<String>,
    #[serde(default, deserialize_with = "up_to::<1000, _>")]
    concurrency: Option<String>,
    #[serde(default, deserialize_with = "backend")]
    backend: Option<String>,
    /// Whom `put` seals for, and whom readers trust besides the local key store.
    #[serde(default, deserialize_with = "one_or_many")]
    pub(crate) kms_key: Vec<String>,
    #[serde(default)]
    s3: Place,
    #[serde(default)]
    oss: Place,
    /// By URL of a bucket.
    #[serde(default, deserialize_with = "buckets")]
    bucket: BTreeMap<(Scheme, String), Place>,
}

/// Where a bucket is, and whose profile opens it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    pub(crate) endpoint: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) profile: Option<String>,
}

impl Config {
    /// The file, if there is one: `config.toml` in `SEALIFT_HOME`, or without that in the platform's directory for configuration.
    pub(crate) fn read() -> Result<Self> {
        let Some(path) = Self::path() else { return Ok(Self::default()) };
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, &path),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                Ok(Self::default())
            }
            Err(e) => Err(Error::io(format!("reading the configuration {}", path.display()), e).into()),
        }
    }

    /// Where the file is looked for.
    pub(crate) fn path() -> Option<PathBuf> {
        match std::env::var_os("SEALIFT_HOME").filter(|dir| !dir.is_empty()) {
            Some(dir) => Some(Path::new(&dir).join(NAME)),
            None => Some(directories::ProjectDirs::from("", "", "sealift")?.config_dir().join(NAME)),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        toml::from_str(text).map_err(|e| {
            // Without the line itself, which may hold what belongs elsewhere.
            let before = e.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            let message = format!("{}, line {line}: {}", path.display(), e.message().trim());
            Failure::new(ErrorKind::InvalidInput, message).hint("docs/configuration.md lists what it may say")
        })
    }

    /// The command line with this file's defaults.
    pub(crate) fn defaults(&self, command: Command) -> Command {
        // Elsewhere it counts other things than parts.
        let sends_parts = ["put", "get", "resume"].contains(&command.get_name());
        let command = command.mut_args(|arg| self.default_of(arg, sends_parts));
        command.mut_subcommands(|command| self.defaults(command))
    }

    fn default_of(&self, arg: Arg, sends_parts: bool) -> Arg {
        let value = match arg.get_id().as_str() {
            "memory_budget" => &self.memory_budget,
            "part_size" => &self.part_size,
            "threads" => &self.threads,
            "concurrency" if sends_parts => &self.concurrency,
            "backend" => &self.backend,
            _ => return arg,
        };
        match value {
            Some(value) => arg.default_value(value.clone()),
            None => arg,
        }
    }

    /// What it says of a bucket: of this very one, else of all in its cloud.
    pub(crate) fn place(&self, scheme: Scheme, bucket: &str) -> Place {
        let all = match scheme {
            Scheme::Oss => &self.oss,
            Scheme::S3 => &self.s3,
        };
        let own = self.bucket.get(&(scheme, bucket.to_owned())).cloned().unwrap_or_default();
        let or = |own: Option<String>, all: &Option<String>| own.or_else(|| all.clone());
        Place {
            endpoint: or(own.endpoint, &all.endpoint),
            region: or(own.region, &all.region),
            profile: or(own.profile, &all.profile),
        }
    }
}

/// A variable that says something.
pub(crate) fn variable(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

fn size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = match NumberOrText::deserialize(from)? {
        NumberOrText::Number(n) => n.to_string(),
        NumberOrText::Text(text) => text,
    };
    parse_size(&text).map_err(D::Error::custom)?;
    Ok(Some(text))
}

fn up_to<'de, const MAX: u64, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    match u64::deserialize(from)? {
        n if (1..=MAX).contains(&n) => Ok(Some(n.to_string())),
        n => Err(D::Error::custom(format_args!("{n} is not from 1 to {MAX}"))),
    }
}

fn backend<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let name = String::deserialize(from)?;
    let known: Vec<_> = Backend::available().iter().map(|backend| backend.name()).collect();
    if known.contains(&name.as_str()) {
        return Ok(Some(name));
    }
    Err(D::Error::custom(format_args!("{name:?} is no backend of this program: it has {}", known.join(", "))))
}

fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(from)? {
        OneOrMany::One(key) => vec![key],
        OneOrMany::Many(keys) => keys,
    })
}

fn buckets<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<(Scheme, String), Place>, D::Error> {
    let named = BTreeMap::<String, Place>::deserialize(from)?;
    let place = |(url, place): (String, Place)| match url.parse() {
        Ok(Location::Remote(remote)) if remote.key.is_empty() => Ok(((remote.scheme, remote.bucket), place)),
        _ => Err(D::Error::custom(format_args!("{url:?} is no bucket: write s3://BUCKET or oss://BUCKET"))),
    };
    named.into_iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Cli;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(text, Path::new("/x/config.toml"))
    }

    #[test]
    fn what_it_does_not_know_is_an_error_that_names_the_line() {
        for (text, says) in [
            ("threads = 2\nthread = 3\n", "/x/config.toml, line 2: unknown field `thread`"),
            ("[s3]\nregion = 'r'\nsecret_access_key = 'hush'\n", "line 3: unknown field `secret_access_key`"),
            ("[bucket.'s3://b']\nendpoints = 'x'\n", "line 2"),
            ("[bucket.'s3://b/k']\nendpoint = 'x'\n", "is no bucket"),
            ("\n\nmemory_budget = '1 GB'\n", "line 3: a size is"),
            ("threads = 0\n", "line 1: 0 is not from 1"),
            ("concurrency = 1001\n", "line 1: 1001 is not from 1"),
            ("backend = 'magic'\n", "is no backend"),
            ("threads = \n", "line 1"),
        ] {
            let failure = parse(text).unwrap_err();
            let message = failure.error().to_string();
            assert!(message.contains(says) && !message.contains("hush"), "{text}: {message}");
            assert_eq!(failure.kind(), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn flags_go_before_it() {
        let config = parse("memory_budget = '1G'\nthreads = 3\npart_size = 8388608\nconcurrency = 5\n").unwrap();
        let value = |args: &[&str], name: &str| {
            let matches = config.defaults(Cli::command()).try_get_matches_from(args).unwrap();
            let mut command = &matches;
            while let Some((_, next)) = command.subcommand() {
                command = next;
            }
            command.get_raw(name).and_then(|mut values| values.next()).map(|value| value.to_str().unwrap().to_owned())
        };
        let put = ["sealift", "put", "a", "b"];
        for (name, expected) in
            [("memory_budget", "1G"), ("threads", "3"), ("part_size", "8388608"), ("concurrency", "5")]
        {
            assert_eq!(value(&put, name).as_deref(), Some(expected));
        }
        assert_eq!(value(&["sealift", "put", "a", "b", "--threads", "7"], "threads").as_deref(), Some("7"));
        assert_eq!(value(&["sealift", "uploads", "resume", "a"], "concurrency").as_deref(), Some("5"));
        let rewrap = ["sealift", "rewrap", "a", "--remove", "b", "--concurrency", "9"];
        assert_eq!(value(&rewrap, "concurrency").as_deref(), Some("9"));
    }

    #[test]
    fn a_bucket_s_own_place_goes_before_that_of_its_cloud() {
        let config = parse(
            "[s3]\nregion = 'r'\nprofile = 'p'\n[bucket.\"s3://b\"]\nendpoint = 'http://e'\nregion = 'own'\n[oss]\nregion = 'cn'\n",
        )
        .unwrap();
        let place = |endpoint: Option<&str>, region: &str, profile: Option<&str>| Place {
            endpoint: endpoint.map(str::to_owned),
            region: Some(region.to_owned()),
            profile: profile.map(str::to_owned),
        };
        assert_eq!(config.place(Scheme::S3, "b"), place(Some("http://e"), "own", Some("p")));
        assert_eq!(config.place(Scheme::S3, "c"), place(None, "r", Some("p")));
        assert_eq!(config.place(Scheme::Oss, "b"), place(None, "cn", None));
    }
}
