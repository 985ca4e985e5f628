//! The floors of ARCHITECTURE.md, checked: who may import whom, and who may say `unsafe` or name an AEAD crate.
//!
//! It reads tokens, not text, so comments and strings do not count; macros are not expanded. A path counts wherever it stands, in a
//! `use` or in the middle of an expression. `#[cfg(test)] mod …` may import anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Which floor a module of the library stands on: it imports only from floors below its own.
fn floor(module: &[&str]) -> Option<u8> {
    match module {
        [] => Some(4),
        ["engine", ..] => Some(3),
        ["kms"] | ["kms", "recipients" | "secret", ..] | ["store"] | ["store", "checksums" | "direct" | "percent"] => {
            Some(1)
        }
        ["kms" | "store", ..] => Some(3),
        ["upload", ..] => Some(2),
        ["crypto" | "format" | "source", ..] => Some(1),
        ["types" | "error"] => Some(0),
        _ => None,
    }
}

/// Whether a path of one name is a module of its own on some floor, even if it has no file yet.
fn is_floor(path: &[String]) -> bool {
    path.len() == 1 && floor(&strs(path)).is_some()
}

/// Whether a module may import from another one of its own floor. The two lowest floors are shared; above, the engine, the upload
/// machine and each adapter know only themselves.
fn are_neighbours(floor: u8, from: &[&str], to: &[&str]) -> bool {
    let own = |module: &[&str]| match module {
        ["kms", "backup", ..] => Some("kms::local".to_owned()), // The local store's, kept apart because it is optional.
        ["kms", "conformance", ..] => Some("kms::retry".to_owned()), // It asks as programs do.
        ["kms" | "store", adapter, ..] => Some(format!("{}::{adapter}", module[0])),
        [top, ..] => Some((*top).to_owned()),
        [] => None,
    };
    floor <= 1 || own(from) == own(to)
}

const AEAD_CRATES: [&str; 4] = ["aes_gcm", "aes_gcm_stream", "aws_lc_rs", "ring"];
const AEAD_ALLOWED: [&str; 2] = ["src/crypto/backend.rs", "src/crypto/backend/"];
const UNSAFE_ALLOWED: [&str; 3] = ["src/source/map.rs", "src/engine/slab.rs", "cli/src/sigbus.rs"];

#[test]
fn modules_import_only_from_floors_below() {
    let violations = upward_imports(&read("src"));
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn only_the_backends_name_an_aead_crate() {
    let found: Vec<_> = read("src").iter().chain(&read("cli/src")).flat_map(aead_crates).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn unsafe_stays_in_its_three_files() {
    // What ships. Tests may call an unsafe function, where clippy is told so.
    let sources = ["src", "cli/src", "gateway/src", "xtask/src", "examples"].map(read);
    let found: Vec<_> = sources.iter().flatten().flat_map(unsafe_code).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

// The checks, over sources that were read.

fn upward_imports(sources: &[Source]) -> Vec<String> {
    let test_modules: BTreeSet<_> = sources.iter().flat_map(|source| source.test_modules.iter().cloned()).collect();
    let modules: BTreeSet<_> = sources.iter().map(|source| source.module.clone()).collect();
    let reexports: BTreeMap<_, _> = sources.iter().flat_map(Source::reexports).collect();
    let mut violations = Vec::new();
    for source in sources {
        if prefixes(&source.module).any(|prefix| test_modules.contains(prefix)) {
            continue;
        }
        let from = strs(&source.module);
        let Some(from_floor) = floor(&from) else {
            violations.push(format!("{}: stands on no floor: give it one in tests/architecture.rs", source.file));
            continue;
        };
        let mut seen = BTreeSet::new();
        for Import { path, line, .. } in source.imports() {
            let path = defined(path, &reexports);
            let is_module = |prefix: &&[String]| modules.contains(*prefix) || is_floor(prefix);
            let target = prefixes(&path).find(is_module).unwrap_or_default();
            let to = strs(target);
            let allowed = match floor(&to) {
                Some(to_floor) if to_floor == from_floor => are_neighbours(from_floor, &from, &to),
                Some(to_floor) => to_floor < from_floor,
                None => true, // Reported above, as a source.
            };
            let item = path[..path.len().min(to.len() + 1)].join("::");
            if !allowed && seen.insert(item.clone()) {
                let hint = if to.is_empty() { ": name the module that defines it" } else { "" };
                violations.push(format!("{}:{line}: imports crate::{item}, which is not below it{hint}", source.file));
            }
        }
    }
    violations
}

/// Where what a path names is defined: re-exports are followed.
fn defined(mut path: Vec<String>, reexports: &BTreeMap<Vec<String>, Vec<String>>) -> Vec<String> {
    while let Some(len) = (1..=path.len()).rev().find(|len| reexports.contains_key(&path[..*len])) {
        let rest = path.split_off(len);
        path = reexports[&path].clone();
        path.extend(rest);
    }
    path
}

fn aead_crates(source: &Source) -> Vec<String> {
    if AEAD_ALLOWED.iter().any(|allowed| source.file.starts_with(allowed)) {
        return Vec::new();
    }
    let names_crate = |i: usize| {
        let is_root = !source.is(i.wrapping_sub(1), "::") || !source.is_ident(i.wrapping_sub(2));
        let is_path = source.is(i + 1, "::") || source.is(i.wrapping_sub(1), "use");
        AEAD_CRATES.contains(&source.text(i)) && is_root && is_path
    };
    let at = |i: usize| {
        format!("{}:{}: names {}; only src/crypto/backend may", source.file, source.tokens[i].line, source.text(i))
    };
    (0..source.tokens.len()).filter(|&i| names_crate(i)).map(at).collect()
}

fn unsafe_code(source: &Source) -> Vec<String> {
    if UNSAFE_ALLOWED.contains(&source.file.as_str()) {
        return Vec::new();
    }
    let lines = source.tokens.iter().filter(|token| token.text == "unsafe").map(|token| token.line);
    lines.map(|line| format!("{}:{line}: unsafe; only {UNSAFE_ALLOWED:?} may say it", source.file)).collect()
}

// Reading sources.

struct Source {
    file: String,
    module: Vec<String>,
    /// Everything but what stands in `#[cfg(test)] mod … { … }`, except that `unsafe` and the names of crates are kept there too.
    tokens: Vec<Token>,
    /// The tokens that belong to a test module.
    in_tests: Vec<bool>,
    /// Modules declared with `#[cfg(test)] mod …;`, which are files of their own.
    test_modules: Vec<Vec<String>>,
}

struct Token {
    text: String,
    line: usize,
}

/// A path into this crate.
struct Import {
    path: Vec<String>,
    /// What it is called from here on.
    name: String,
    line: usize,
    in_use: bool,
    /// Whether it only lends a name to what a module below its own has: `pub use child::Thing`. That is part of the tour, no import;
    /// whoever uses that name imports from the child.
    is_reexport: bool,
}

fn read(dir: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut dirs = vec![root.join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.expect("a directory's entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                let file = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
                sources.push(Source::new(&file, &text));
            }
        }
    }
    sources
}

impl Source {
    fn new(file: &str, text: &str) -> Self {
        let stream: TokenStream = text.parse().unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        let path = file.trim_end_matches(".rs");
        let module = path.split('/').skip_while(|part| *part != "src").skip(1);
        let module = module.filter(|part| !["lib", "main", "mod"].contains(part)).map(str::to_owned).collect();
        let in_tests = vec![false; tokens.len()];
        let mut source = Self { file: file.to_owned(), module, tokens, in_tests, test_modules: Vec::new() };
        source.find_tests();
        source
    }

    fn text(&self, i: usize) -> &str {
        self.tokens.get(i).map_or("", |token| &token.text)
    }

    fn is(&self, i: usize, text: &str) -> bool {
        self.text(i) == text
    }

    fn is_ident(&self, i: usize) -> bool {
        self.text(i).starts_with(|first: char| first.is_alphabetic() || first == '_')
    }

    fn find_tests(&mut self) {
        const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
        for start in 0..self.tokens.len() {
            if !CFG_TEST.iter().enumerate().all(|(i, text)| self.is(start + i, text)) {
                continue;
            }
            let mut at = start + CFG_TEST.len();
            while self.is(at, "#") {
                at = self.after_group(at + 1);
            }
            at += usize::from(self.is(at, "pub"));
            at = if self.is(at, "(") { self.after_group(at) } else { at };
            if !self.is(at, "mod") {
                continue;
            }
            if self.is(at + 2, "{") {
                let end = self.after_group(at + 2);
                self.in_tests[start..end].fill(true);
            } else {
                let mut module = self.module.clone();
                module.push(self.text(at + 1).to_owned());
                self.test_modules.push(module);
            }
        }
    }

    /// The index after the group that opens at `open`.
    fn after_group(&self, open: usize) -> usize {
        let mut depth = 0;
        for i in open..self.tokens.len() {
            match self.text(i) {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return i + 1;
            }
        }
        self.tokens.len()
    }

    fn imports(&self) -> Vec<Import> {
        self.paths().into_iter().filter(|import| !import.is_reexport).collect()
    }

    fn reexports(&self) -> Vec<(Vec<String>, Vec<String>)> {
        let reexports = self.paths().into_iter().filter(|import| import.is_reexport);
        let name = |name: String| self.module.iter().cloned().chain([name]).collect::<Vec<_>>();
        let reexports = reexports.map(|import| (name(import.name), import.path));
        // Of `mod upload; pub use upload::upload;` only the module has a path of interest.
        reexports.filter(|(name, path)| !path.starts_with(name)).collect()
    }

    /// All paths into this crate outside of tests.
    fn paths(&self) -> Vec<Import> {
        let mut names = BTreeMap::new();
        for import in self.scan(&mut names) {
            if import.in_use {
                names.insert(import.name, import.path);
            }
        }
        self.scan(&mut names) // Once more, now that all the names are known that `use` and `mod` bring in.
    }

    fn scan(&self, names: &mut BTreeMap<String, Vec<String>>) -> Vec<Import> {
        let mut imports = Vec::new();
        let mut inline: Vec<(String, usize)> = Vec::new(); // Modules written in this file, with where they end.
        let mut i = 0;
        while i < self.tokens.len() {
            inline.retain(|(_, end)| i < *end);
            let inline_names = inline.iter().map(|(name, _)| name);
            let module: Vec<_> = self.module.iter().chain(inline_names).cloned().collect();
            if !self.in_tests[i] && self.is(i, "mod") && self.is_ident(i + 1) {
                let name = self.text(i + 1).to_owned();
                names.insert(name.clone(), module.iter().chain([&name]).cloned().collect());
                if self.is(i + 2, "{") {
                    inline.push((name, self.after_group(i + 2)));
                }
            }
            let begins_path = self.is_ident(i) && self.is(i + 1, "::") && !self.is(i.wrapping_sub(1), "::");
            let base = match self.text(i) {
                _ if self.in_tests[i] || !begins_path => None,
                "crate" => Some(Vec::new()),
                "self" => Some(module),
                "super" => Some(parent(module)),
                name => names.get(name).cloned(),
            };
            let Some(base) = base else {
                i += 1;
                continue;
            };
            let in_use = self.is(i.wrapping_sub(1), "use");
            let is_public = in_use && ["pub", ")"].contains(&self.text(i.wrapping_sub(2)));
            let mut leaves = Vec::new();
            let end = self.tree(i + 2, base, &mut leaves);
            for (path, name) in leaves {
                let is_below = path.starts_with(&self.module) && path.len() > self.module.len() + 1;
                let is_reexport = is_public && is_below && !name.is_empty();
                imports.push(Import { path, name, line: self.tokens[i].line, in_use, is_reexport });
            }
            i = end;
        }
        imports
    }

    /// Reads what follows `base::`: a path or a use tree. Returns the index after it.
    fn tree(&self, at: usize, mut base: Vec<String>, leaves: &mut Vec<(Vec<String>, String)>) -> usize {
        if self.is(at, "{") {
            let end = self.after_group(at);
            let mut i = at + 1;
            while i + 1 < end {
                i = self.tree(i, base.clone(), leaves).max(i + 1);
                i += usize::from(self.is(i, ","));
            }
            return end;
        }
        if !self.is_ident(at) {
            leaves.push((base, String::new())); // `*`, or the `<` of a turbofish.
            return at + usize::from(self.is(at, "*"));
        }
        match self.text(at) {
            "self" => {}
            "super" => base = parent(base),
            name => base.push(name.to_owned()),
        }
        if self.is(at + 1, "::") {
            return self.tree(at + 2, base, leaves);
        }
        if self.is(at + 1, "as") {
            leaves.push((base, self.text(at + 2).to_owned()));
            return at + 3;
        }
        let name = base.last().cloned().unwrap_or_default();
        leaves.push((base, name));
        at + 1
    }
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let line = tree.span().start().line;
        let mut push = |text: &str| tokens.push(Token { text: text.to_owned(), line });
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                push(open);
                flatten(group.stream(), tokens);
                tokens.push(Token { text: close.to_owned(), line });
            }
            TokenTree::Ident(ident) => push(&ident.to_string()),
            TokenTree::Literal(_) => push("\"\""),
            TokenTree::Punct(punct) if punct.as_char() == ':' => {
                let is_pair = matches!(trees.peek(), Some(TokenTree::Punct(next)) if next.as_char() == ':');
                push(if is_pair { "::" } else { ":" });
                if is_pair {
                    trees.next();
                }
            }
            TokenTree::Punct(punct) => push(&punct.as_char().to_string()),
        }
    }
}

fn parent(mut module: Vec<String>) -> Vec<String> {
    module.pop();
    module
}

/// A path and all it begins with, longest first, without the crate's root.
fn prefixes(path: &[String]) -> impl Iterator<Item = &[String]> {
    (1..=path.len()).rev().map(|len| &path[..len])
}

fn strs(module: &[String]) -> Vec<&str> {
    module.iter().map(String::as_str).collect()
}

// The checks, checked.

/// What the checks say of a made-up library in which `file` has this text.
fn violations(file: &str, text: &str) -> Vec<String> {
    let rest = [
        "src/lib.rs",
        "src/error.rs",
        "src/types.rs",
        "src/crypto/mod.rs",
        "src/engine/mod.rs",
        "src/kms/key_file.rs",
        "src/kms/local.rs",
        "src/kms/mod.rs",
        "src/kms/recipients.rs",
        "src/store/dir/mod.rs",
        "src/store/mod.rs",
        "src/upload/mod.rs",
    ];
    let mut sources: Vec<_> = rest.iter().filter(|name| **name != file).map(|name| Source::new(name, "")).collect();
    sources.push(Source::new(file, text));
    upward_imports(&sources)
}

#[test]
fn an_upward_import_is_found_however_it_is_written() {
    for (file, text) in [
        ("src/upload/mod.rs", "use crate::engine::Engine;"),
        ("src/upload/mod.rs", "use crate::{error::Error, engine};"),
        ("src/upload/mod.rs", "pub(crate) use crate::{types::{A, B}, store::{self, dir::{DirStore as D}}};"),
        ("src/upload/mod.rs", "use crate::store; fn f() { store::dir::DirStore::new() }"),
        ("src/upload/mod.rs", "fn f(_: crate::kms::local::Local) {}"),
        ("src/upload/mod.rs", "use super::engine::*;"),
        ("src/upload/mod.rs", "mod imp { use super::super::engine::Engine; }"),
        ("src/upload/table.rs", "use super::super::engine::Engine;"),
        ("src/upload/mod.rs", "#[cfg(not(test))] mod imp { use crate::engine::Engine; }"),
        ("src/upload/mod.rs", "#[cfg(test)] mod tests { } use crate::engine::Engine;"),
        ("src/crypto/mod.rs", "use crate::upload::Machine;"),
        ("src/error.rs", "use crate::crypto::DataKey;"),
        ("src/types.rs", "use crate::Error;"),
        ("src/kms/mod.rs", "mod local; use local::Local;"),
        ("src/kms/mod.rs", "mod local; pub use local::*;"),
        ("src/kms/recipients.rs", "use super::local::Local;"),
        ("src/kms/local.rs", "use super::key_file::KeyFile;"),
        ("src/kms/local.rs", "use crate::engine::Engine;"),
        ("src/store/dir/staging.rs", "use crate::kms::local::Local;"),
        ("src/engine/driver.rs", "use crate::store::dir::DirStore;"),
    ] {
        assert_eq!(violations(file, text).len(), 1, "{file}: {text}: {:?}", violations(file, text));
    }
}

#[test]
fn a_downward_import_is_no_violation() {
    for (file, text) in [
        ("src/lib.rs", "pub mod kms; pub use kms::local::Local; pub use engine::Engine;"),
        ("src/engine/mod.rs", "mod driver; use crate::upload::Machine; use driver::Driver; use crate::kms::Kms;"),
        ("src/engine/driver.rs", "use super::Engine; use crate::store::{self, MultipartStore}; use std::sync::Arc;"),
        ("src/upload/mod.rs", "use crate::types::PartNumber; fn f() { PartNumber::try_from(1); }"),
        (
            "src/upload/mod.rs",
            "// crate::engine::Engine\n/// [`crate::engine::Engine`]\nconst A: &str = \"crate::engine::Engine\";",
        ),
        ("src/upload/mod.rs", "#[cfg(test)] #[allow(dead_code)] mod tests { use crate::engine::Engine; }"),
        ("src/crypto/mod.rs", "use crate::store::Payload; use crate::kms::recipients::Recipient;"),
        ("src/types.rs", "use crate::error::Error; pub(crate) struct A;"),
        ("src/kms/mod.rs", "pub mod local; pub mod key_file; use crate::error::Result;"),
        ("src/kms/mod.rs", "mod local; mod key_file; pub use local::Local; pub(crate) use key_file::{A, B as C};"),
        ("src/store/dir/staging.rs", "use super::DirStore; use crate::store::dir; use super::super::Upload;"),
    ] {
        assert_eq!(violations(file, text), [""; 0], "{file}: {text}");
    }
}

#[test]
fn reexports_are_followed() {
    let tour = Source::new(
        "src/lib.rs",
        "mod error; mod store; mod upload; pub use error::Error; pub use store::DirStore; pub use upload::upload;",
    );
    let error = Source::new("src/error.rs", "");
    let ports = Source::new("src/store/mod.rs", "mod dir; pub use self::dir::Dir as DirStore;");
    let store = Source::new("src/store/dir.rs", "use crate::Error;");
    let upload =
        Source::new("src/upload/mod.rs", "use crate::Error; use crate::DirStore; use crate::store::DirStore as D;");
    let violations = upward_imports(&[tour, error, ports, store, upload]);
    assert_eq!(violations, ["src/upload/mod.rs:1: imports crate::store::dir::Dir, which is not below it"]);
}

#[test]
fn a_module_without_a_floor_is_found() {
    assert_eq!(violations("src/attic.rs", "").len(), 1);
}

#[test]
fn a_test_module_in_a_file_of_its_own_is_exempt() {
    let tests = Source::new("src/upload/tests.rs", "use crate::engine::Engine;");
    let declared = Source::new("src/upload/mod.rs", "#[cfg(test)] mod tests;");
    let engine = Source::new("src/engine/mod.rs", "");
    assert_eq!(upward_imports(&[tests, declared, engine]), [""; 0]);
}

#[test]
fn an_aead_crate_is_found_outside_the_backends() {
    let found = |file: &str, text: &str| aead_crates(&Source::new(file, text)).len();
    assert_eq!(found("src/engine/mod.rs", "use aws_lc_rs::aead;"), 1);
    assert_eq!(found("src/engine/mod.rs", "use ring as r; fn f() { ::aes_gcm::new() }"), 2);
    assert_eq!(found("src/engine/mod.rs", "#[cfg(test)] mod tests { use ring::aead; }"), 1);
    assert_eq!(found("src/crypto/mod.rs", "let ring = 1; let a = \"ring::aead\"; use self::backend::ring::Ring;"), 0);
    assert_eq!(found("src/crypto/backend/ring.rs", "use ring::aead;"), 0);
}

#[test]
fn unsafe_is_found_outside_its_two_files() {
    let found = |file: &str, text: &str| unsafe_code(&Source::new(file, text)).len();
    assert_eq!(found("src/lib.rs", "#![deny(unsafe_code)] // unsafe"), 0);
    assert_eq!(found("src/lib.rs", "#[cfg(test)] mod tests { fn f() { unsafe { g() } } }"), 1);
    assert_eq!(found("src/source/map.rs", "unsafe fn f() {}"), 0);
}
