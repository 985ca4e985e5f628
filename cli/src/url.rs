//! Where objects are: what a user writes, and the store it means.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::{TypedValueParser, ValueParserFactory};
use sealift::store::percent_decode;

/// What the schemes are, for messages.
const KNOWN: &str = "file:///dir/name, plain paths, s3://bucket/key, oss://bucket/key, and discard:";

/// A place in some store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// In a directory. The path is absolute.
    File(PathBuf),
    /// In a bucket of an object store.
    Remote(Remote),
    /// `discard:`
    Discard,
}

/// `SCHEME://BUCKET/KEY`, as the clouds' own tools write it: nothing in the key is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) scheme: Scheme,
    pub(crate) bucket: String,
    /// Empty where the bucket itself is meant.
    pub(crate) key: String,
}

/// The object stores that this program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scheme {
    Oss,
    S3,
}

impl Scheme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oss => "oss",
            Self::S3 => "s3",
        }
    }
}

impl Remote {
    fn parse(scheme: Scheme, rest: &str) -> Result<Self, String> {
        let name = scheme.name();
        let rest = rest.strip_prefix("//").ok_or_else(|| format!("an object's place is {name}://BUCKET/KEY"))?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(format!("an object's place is {name}://BUCKET/KEY, with the name of a bucket"));
        }
        Ok(Self { scheme, bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.scheme.name(), self.bucket, self.key)
    }
}

impl Location {
    pub(crate) fn is_in_oss(&self) -> bool {
        matches!(self, Self::Remote(remote) if remote.scheme == Scheme::Oss)
    }

    fn from_url(text: &str) -> Option<Result<Self, String>> {
        let (scheme, rest) = text.split_once(':')?;
        let is_scheme = scheme.len() > 1
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        if !is_scheme {
            return None;
        }
        Some(match (scheme.to_ascii_lowercase().as_str(), rest) {
            ("discard", "") => Ok(Self::Discard),
            ("discard", _) => Err("`discard:` has nothing after the colon".to_owned()),
            ("file", rest) => file_path(rest).map(Self::File),
            ("oss", rest) => Remote::parse(Scheme::Oss, rest).map(Self::Remote),
            ("s3", rest) => Remote::parse(Scheme::S3, rest).map(Self::Remote),
            _ => Err(format!(
                "{scheme}: is no store that this program knows: it knows {KNOWN}. For a file whose name begins so, write ./{text}"
            )),
        })
    }
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::from_url(text).unwrap_or_else(|| plain_path(Path::new(text)))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Remote(remote) => remote.fmt(f),
            Self::Discard => f.write_str("discard:"),
        }
    }
}

/// For clap. Plain paths need not be UTF-8, so this takes what the operating system gives.
#[derive(Clone)]
pub(crate) struct LocationParser;

impl TypedValueParser for LocationParser {
    type Value = Location;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Location, clap::Error> {
        let parse = |text: &std::ffi::OsStr| match text.to_str() {
            Some(text) => text.parse(),
            None => plain_path(Path::new(text)),
        };
        clap::builder::OsStringValueParser::new().try_map(move |text| parse(&text)).parse_ref(command, arg, value)
    }
}

impl ValueParserFactory for Location {
    type Parser = LocationParser;

    fn value_parser() -> Self::Parser {
        LocationParser
    }
}

fn plain_path(path: &Path) -> Result<Location, String> {
    if path.as_os_str() == "-" {
        return Err(
            "`-` is stdin or stdout, which is no place for an object; for a file of that name, write ./-".to_owned()
        );
    }
    std::path::absolute(path).map(Location::File).map_err(|_| "an empty path names nothing".to_owned())
}

/// The path of a file URL (RFC 8089), after `file:`.
fn file_path(rest: &str) -> Result<PathBuf, String> {
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
        None => rest,
    };
    if !path.starts_with('/') {
        return Err("a file URL is file:///dir/name, with an absolute path".to_owned());
    }
    if path.contains(['?', '#']) {
        return Err("in a file URL, write %3F for `?` and %23 for `#`".to_owned());
    }
    use std::os::unix::ffi::OsStringExt as _;
    let bytes =
        percent_decode(path).ok_or("in a file URL, `%` stands before two hexadecimal digits; write %25 for itself")?;
    if bytes.contains(&0) {
        return Err("a path has no NUL in it".to_owned());
    }
    Ok(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> PathBuf {
        match text.parse() {
            Ok(Location::File(path)) => path,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn paths_and_file_urls_name_files() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(path("/a/b"), Path::new("/a/b"));
        assert_eq!(path("a/b"), here.join("a/b"));
        assert_eq!(path("./s3:a"), here.join("s3:a"));
        assert_eq!(path("10:30.log"), here.join("10:30.log"));
        assert_eq!(path("dir/s3:a"), here.join("dir/s3:a"));
        assert_eq!(path("file:///a/b%20c%25"), Path::new("/a/b c%"));
        assert_eq!(path("file://localhost/a"), Path::new("/a"));
        assert_eq!(path("FILE:/a"), Path::new("/a"));
        assert_eq!("discard:".parse(), Ok(Location::Discard));
    }

    #[test]
    fn buckets_and_keys_are_written_as_the_clouds_tools_write_them() {
        for (text, bucket, key) in [
            ("s3://b/k", "b", "k"),
            ("S3://b/a/b%20c d?e#f", "b", "a/b%20c d?e#f"),
            ("s3://b", "b", ""),
            ("s3://b/", "b", ""),
            ("s3://b//k", "b", "/k"),
        ] {
            let remote = Remote { scheme: Scheme::S3, bucket: bucket.to_owned(), key: key.to_owned() };
            assert_eq!(remote.to_string().parse(), Ok(Location::Remote(remote.clone())));
            assert_eq!(text.parse(), Ok(Location::Remote(remote)), "{text}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in [
            "",
            "-",
            "s3:b/k",
            "s3:///k",
            "gopher://b/k",
            "discard:x",
            "file:a",
            "file://host/a",
            "file:///a%2",
            "file:///a%zz",
            "file:///a%+1",
            "file:///a?b",
            "file:///%00",
        ] {
            assert!(text.parse::<Location>().is_err(), "{text}");
        }
        let error = "gopher://b/k".parse::<Location>().unwrap_err();
        assert!(error.contains("file://") && error.contains("s3://") && error.contains("discard:"), "{error}");
    }
}
