//! Help, completions and man pages: made of one definition, so what one of them knows, all know.

use crate::support::Sandbox;

const COMMANDS: &[&[&str]] = &[
    &["put"],
    &["get"],
    &["cat"],
    &["stat"],
    &["verify"],
    &["ls"],
    &["rm"],
    &["cp"],
    &["mv"],
    &["rewrap"],
    &["uploads", "list"],
    &["uploads", "resume"],
    &["uploads", "abort"],
    &["data-key"],
    #[cfg(feature = "gateway")]
    &["serve"],
    &["kms", "create-key"],
    &["kms", "describe-key"],
    &["kms", "list-keys"],
    &["kms", "enable-key"],
    &["kms", "disable-key"],
    &["kms", "schedule-key-deletion"],
    &["kms", "cancel-key-deletion"],
    &["kms", "rotate-key"],
    &["kms", "update-description"],
    &["kms", "tag-key"],
    &["kms", "untag-key"],
    &["kms", "create-alias"],
    &["kms", "update-alias"],
    &["kms", "delete-alias"],
    &["kms", "list-aliases"],
    &["kms", "get-parameters-for-import"],
    &["kms", "import-key-material"],
    &["kms", "delete-key-material"],
    &["kms", "export-backup"],
    &["kms", "import-backup"],
    &["completions"],
];

fn help(sandbox: &Sandbox, command: &[&str]) -> String {
    sandbox.run(&[command, &["--help"]].concat()).expect(0).stdout()
}

#[test]
fn help_shows_commands_examples_and_what_to_back_up() {
    let sandbox = Sandbox::new();
    let text = help(&sandbox, &[]);
    for command in COMMANDS {
        assert!(text.contains(&format!("\n  {}", command[0])), "{command:?} is not in\n{text}");
        assert!(help(&sandbox, command).contains(&format!("Usage: sealift {}", command.join(" "))));
    }
    for part in ["Examples:", "back up", ".sealift", "SEALIFT_HOME", "SEALIFT_ROOT_KEY", "Exit codes:", "130"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn help_names_every_flag() {
    let sandbox = Sandbox::new();
    let put = [
        "--if-not-exists",
        "--part-size",
        "--memory-budget",
        "--threads",
        "--uniform-parts",
        "--spool-dir",
        "--checksum",
        "--kms-key",
        "--key-file",
        "--encryption-context",
        "--bind",
        "--metadata",
        "--abort-on-interrupt",
        "--read-mode",
        "--backend",
        "--json",
        "--quiet",
        "--verbose",
    ];
    let reader = ["--kms-key", "--key-file", "--encryption-context", "--bound"];
    let import = ["--import-token", "--encrypted-key-material", "--expires", "base64", "RFC 3339", "--json"];
    let parameters =
        ["--wrapping-algorithm", "--wrapping-key-spec", "--public-key-out", "--import-token-out", "RSA_4096", "--json"];
    let rewrap = [
        "--recursive",
        "--dry-run",
        "--kms-key",
        "--key-file",
        "--remove",
        "--only",
        "--open-with",
        "--open-with-key-file",
        "--encryption-context",
        "--bound",
        "--concurrency",
        "--json",
    ];
    let flags: &[(&[&str], &[&str])] = &[
        (&["put"], &put),
        (&["get"], &["--force", "--json", "--memory-budget", "--threads", "--backend"]),
        (&["cat"], &["--range"]),
        (&["verify"], &["--against"]),
        (&["cp"], &["--if-not-exists"]),
        (&["rewrap"], &rewrap),
        (&["uploads", "resume"], &["--key-file", "--abort-on-interrupt"]),
        (&["kms", "create-key"], &["--origin", "--description", "--tag", "--json"]),
        (&["kms", "schedule-key-deletion"], &["--days", "7 to 30", "--json"]),
        (&["kms", "get-parameters-for-import"], &parameters),
        (&["kms", "import-key-material"], &import),
        (&["kms", "export-backup"], &["--passphrase-file", "SEALIFT_BACKUP_PASSPHRASE"]),
        (&["man"], &["--out-dir"]),
    ];
    for (command, flags) in flags {
        let text = help(&sandbox, command);
        let missing: Vec<_> = flags.iter().filter(|flag| !text.contains(**flag)).collect();
        assert!(missing.is_empty(), "{missing:?} are not in\n{text}");
    }
    for command in ["get", "cat", "stat", "verify", "data-key"] {
        let text = help(&sandbox, &[command]);
        assert!(reader.iter().all(|flag| text.contains(flag)), "{command}:\n{text}");
    }
    assert!(help(&sandbox, &["put"]).contains("stored in the clear"));
}

/// Whatever a document shows at a prompt, or in backquotes, is a command there is.
#[test]
fn documents_name_commands_that_exist() {
    let sandbox = Sandbox::new();
    let mut named = std::collections::BTreeSet::new();
    for text in [
        include_str!("../../../README.md"),
        include_str!("../../../docs/performance.md"),
        include_str!("../../../docs/byok.md"),
        include_str!("../../../docs/keys.md"),
        include_str!("../../../docs/rotation.md"),
        #[cfg(feature = "gateway")]
        include_str!("../../../docs/gateway.md"),
    ] {
        for rest in text.split("sealift ").skip(1) {
            let words = |c: char| !(c.is_ascii_lowercase() || c == '-' || c == ' ');
            let mut words = rest.split(words).next().unwrap_or_default().split(' ').filter(|word| !word.is_empty());
            let Some(first) = words.next().filter(|word| !word.starts_with('-')) else { continue };
            let group = ["uploads", "kms"].contains(&first);
            named.insert([Some(first), words.next().filter(|_| group)].into_iter().flatten().collect::<Vec<_>>());
        }
    }
    assert!(named.len() > 10, "{named:?}");
    for command in named {
        help(&sandbox, &command);
    }
}

#[test]
fn completions_know_the_commands() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = sandbox.run(&["completions", shell]).expect(0).stdout();
        for word in ["export-backup", "if-not-exists", "data-key", "import-key-material", "wrapping-key-spec"] {
            assert!(text.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn man_pages_are_there_for_every_command() {
    let sandbox = Sandbox::new();
    let page = sandbox.run(&["man"]).expect(0).stdout();
    assert!(page.contains(".TH sealift 1") && page.contains("SEALIFT_HOME"), "{page}");
    sandbox.run(&["man", "--out-dir", "man"]).expect(0);
    let pages = sandbox.list("man");
    for command in COMMANDS {
        assert!(pages.contains(&format!("sealift-{}.1", command.join("-"))), "{command:?} is not in {pages:?}");
    }
    assert!(String::from_utf8(sandbox.read("man/sealift-put.1")).unwrap().contains("part\\-size"));
}

#[test]
fn the_version_is_that_of_the_package() {
    let text = Sandbox::new().run(&["--version"]).expect(0).stdout();
    assert_eq!(text.trim(), format!("sealift {}", env!("CARGO_PKG_VERSION")));
}
