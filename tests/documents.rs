//! What the repository's documents say and can be checked: links lead to files that exist, code is the code that is tested.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn relative_links_resolve() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    for document in documents(root) {
        let text = fs::read_to_string(&document).expect("a document");
        let dir = document.parent().expect("a file's directory");
        for (line, link) in links(&text) {
            if is_relative(&link) && !dir.join(path_of(&link)).exists() {
                broken.push(format!("{}:{line}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links to nothing:\n{}", broken.join("\n"));
}

/// The example is a file, so that it is compiled and its documentation test run.
#[test]
fn the_example_in_the_readme_is_the_tested_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path| fs::read_to_string(root.join(path)).expect("a file of the repository");
    let (readme, example) = (read("README.md"), read("examples/put_and_get.rs"));
    let blocks: Vec<_> = readme.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks, [example]);
}

/// What the library's sources include from elsewhere is in its package; without, the package does not compile.
#[test]
fn what_the_library_includes_is_packaged() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &Path| fs::read_to_string(path).expect("a file of the repository");
    let manifest = read(&root.join("Cargo.toml"));
    let packaged = manifest.lines().find(|line| line.starts_with("include = ")).expect("a list of what is packaged");
    let mut found = 0;
    // Tests are not compiled by whoever uses the package.
    let is_test = |path: &Path| {
        path.strip_prefix(root).is_ok_and(|path| path.components().any(|part| part.as_os_str() == "tests"))
    };
    for source in files(&root.join("src"), ".rs").into_iter().filter(|source| !is_test(source)) {
        let text = read(&source);
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for included in text.split("include_str!(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let path = source.parent().expect("a file's directory").join(included);
            let path = path.canonicalize().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let path = path.strip_prefix(root.canonicalize().expect("the root")).expect("a path below the root");
            let is_packaged = path.starts_with("src") || packaged.contains(&format!("\"/{}\"", path.display()));
            assert!(is_packaged, "{} includes {}, which is not in {packaged}", source.display(), path.display());
            found += 1;
        }
    }
    assert!(found > 0, "the example in the documentation is included");
}

/// Scenarios are numbered, and tests that begin with `s` and the number are what shows that the engine survives them.
#[test]
fn every_scenario_has_tests_by_its_number() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = ["src", "tests", "cli/tests"].iter().flat_map(|dir| files(&root.join(dir), ".rs"));
    let sources: String = sources.map(|path| fs::read_to_string(path).expect("a source")).collect();
    let numbers = (1..=28).map(|n| format!("{n:02}")).chain(["11b".to_owned(), "11c".to_owned()]);
    let missing: Vec<_> = numbers.filter(|number| !sources.contains(&format!("fn s{number}_"))).collect();
    assert!(missing.is_empty(), "no tests are named for the scenarios {missing:?}");
}

fn documents(root: &Path) -> Vec<PathBuf> {
    files(root, ".md")
}

fn files(root: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("a directory's entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && !name.starts_with('.') && !["target", "corpus", "artifacts"].contains(&&*name) {
                dirs.push(path);
            } else if name.ends_with(ending) {
                files.push(path);
            }
        }
    }
    files
}

/// The targets of `[text](target)` and `[label]: target`, each with its line, outside of code.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut in_code = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code || line.starts_with("    ") {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for after in prose.split("](").skip(1) {
            links.push((number, after.split([')', ' ']).next().unwrap_or_default().to_owned()));
        }
        if let Some((_, target)) = prose.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
            links.push((number, target.split(' ').next().unwrap_or_default().to_owned()));
        }
    }
    links
}

fn is_relative(link: &str) -> bool {
    !link.contains("://") && !link.starts_with("mailto:") && !link.starts_with('#')
}

fn path_of(link: &str) -> &str {
    link.split('#').next().unwrap_or_default()
}

#[test]
fn links_are_found_in_prose_and_not_in_code() {
    let text = "[a](A.md#x), `[b](B.md)` and [`c`](C.md \"title\")\n```\n[d](D.md)\n```\n[e]: E.md\n    [f](F.md)\n";
    let links: Vec<_> = links(text).into_iter().map(|(line, link)| format!("{line} {link}")).collect();
    assert_eq!(links, ["1 A.md#x", "1 C.md", "5 E.md"]);
    assert_eq!(path_of("A.md#x"), "A.md");
    assert!(is_relative("A.md") && !is_relative("https://example.org/A.md") && !is_relative("#x"));
}
