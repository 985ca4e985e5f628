//! `--include` and `--exclude`: which files of a directory are meant.

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use globset::{GlobBuilder, GlobMatcher};

/// Filters in the order of the command line. The last one that matches a file decides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters(Vec<Filter>);

#[derive(Clone, Debug)]
struct Filter {
    include: bool,
    glob: GlobMatcher,
    /// Of a glob without a slash, the last segment alone is looked at.
    name_only: bool,
    /// A glob that ends with a slash means directories.
    dirs_only: bool,
}

impl Filters {
    /// Whether the file at `path`, relative to the directory and with `/` between its segments, is meant.
    pub(crate) fn take(&self, path: &str) -> bool {
        let decides = self.0.iter().rev().find(|filter| filter.matches(path));
        match (decides, self.0.first()) {
            (Some(filter), _) => filter.include,
            // Whoever begins with what to take wants nothing else.
            (None, Some(first)) => !first.include,
            (None, None) => true,
        }
    }
}

impl Filter {
    fn new(include: bool, glob: &str) -> Result<Self, globset::Error> {
        let (dirs_only, bare) = match glob.strip_suffix('/') {
            Some(bare) => (true, bare),
            None => (false, glob),
        };
        let name_only = !bare.contains('/');
        let bare = bare.strip_prefix('/').unwrap_or(bare);
        let glob = GlobBuilder::new(bare).literal_separator(true).backslash_escape(true).build()?.compile_matcher();
        Ok(Self { include, glob, name_only, dirs_only })
    }

    /// What matches a directory means all that is in it.
    fn matches(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at);
        let ends = ends.chain((!self.dirs_only).then_some(path.len()));
        ends.filter_map(|end| path.get(..end)).any(|path| {
            let name = path.rsplit('/').next().unwrap_or(path);
            self.glob.is_match(if self.name_only { name } else { path })
        })
    }
}

// By hand, because the order among the two matters.
impl FromArgMatches for Filters {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut filters = Vec::new();
        for (name, include) in [("include", true), ("exclude", false)] {
            let (Some(places), Some(globs)) = (matches.indices_of(name), matches.get_many::<String>(name)) else {
                continue;
            };
            for (place, glob) in places.zip(globs) {
                let filter = Filter::new(include, glob)
                    .map_err(|e| Error::raw(ErrorKind::ValueValidation, format!("--{name} {glob}: {e}\n")))?;
                filters.push((place, filter));
            }
        }
        filters.sort_by_key(|(place, _)| *place);
        Ok(Self(filters.into_iter().map(|(_, filter)| filter).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Filters {
    fn augment_args(command: Command) -> Command {
        let arg = |name: &'static str, help: &'static str| {
            Arg::new(name)
                .long(name)
                .value_name("GLOB")
                .action(ArgAction::Append)
                .requires("recursive")
                .help_heading("Directories")
                .help(help)
        };
        command
            .arg(arg("include", "Take the files that match; may be repeated").long_help(
                "Take the files that match; may be repeated\n\n\
                 Of several --include and --exclude the last one that matches a file decides, as in `aws s3`. What none of them matches is \
                 taken if the first of them is an --exclude, and left out if it is an --include: --include '*.jpg' takes those alone, and so \
                 does --exclude '*' --include '*.jpg'. A glob without a slash means a name at any depth, one with a slash the path from the \
                 directory on. * and ? stop at a slash, ** does not. What matches a directory means all that is in it.",
            ))
            .arg(arg("exclude", "Leave out the files that match; may be repeated"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(filters: &[(bool, &str)], path: &str) -> bool {
        Filters(filters.iter().map(|(include, glob)| Filter::new(*include, glob).unwrap()).collect()).take(path)
    }

    #[test]
    fn the_last_filter_that_matches_decides() {
        assert!(take(&[], "a/b.jpg"));
        for filters in [&[(true, "*.jpg")] as &[_], &[(false, "*"), (true, "*.jpg")]] {
            assert!(take(filters, "b.jpg") && take(filters, "a/b.jpg") && !take(filters, "a/b.png"));
        }
        assert!(!take(&[(true, "*.jpg"), (false, "*")], "b.jpg"));
        let but_one = [(false, "*.log"), (true, "keep.log")];
        assert!(take(&but_one, "a/keep.log") && !take(&but_one, "a/b.log") && take(&but_one, "a/b"));
    }

    #[test]
    fn a_glob_means_a_name_or_a_path_and_all_in_a_directory() {
        let out = |glob, path| !take(&[(false, glob)], path);
        assert!(out("node_modules", "a/node_modules/b/c") && out("node_modules", "node_modules"));
        assert!(out("build/", "build/x") && !out("build/", "build") && !out("build/", "a/rebuild/x"));
        assert!(out("a/*", "a/b/c") && !out("a/*", "x/a/b"), "a path begins at the directory");
        assert!(out("/b", "b") && !out("/b", "a/b"), "a slash at the beginning is one too");
        assert!(out("**/x/*.o", "a/x/b.o") && out("**/x/*.o", "x/b.o") && !out("x/*.o", "a/x/b.o"));
        assert!(!out("a?c", "a/c") && out("[ab].txt", "x/b.txt") && out(r"\*", "*") && !out(r"\*", "b"));
    }
}
