//! `kms`: the whole life of a key, in every state.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::key_store::{FILES, KeyStore, is_time};
use crate::support::noise;

#[test]
fn create_key_makes_the_key_store_and_says_so() {
    let store = KeyStore::new();
    let run = store.kms(&["create-key"]).expect(0);
    let id = run.stdout().trim().to_owned();
    assert_eq!((id.len(), run.stdout().lines().count()), (36, 1), "the id alone is on stdout: {}", run.stdout());
    for part in ["home/kms", "alias/default", "BACK IT UP", "sealift kms export-backup FILE"] {
        assert!(run.stderr().contains(part), "{part} is not in\n{}", run.stderr());
    }
    let run = store.kms(&["create-key", "--origin", "external"]).expect(0);
    assert!(!run.stderr().contains("BACK IT UP"));
    let next = format!("sealift kms get-parameters-for-import {}", run.stdout().trim());
    assert!(run.stderr().contains(&next), "{}", run.stderr());

    assert_eq!(store.json(&["list-keys"]).as_array().unwrap().len(), 3, "the first key, and two more");
    store.put(&id, "obj").expect(0);
    store.opens("obj");
}

#[test]
fn the_other_commands_make_no_key_store() {
    let store = KeyStore::new();
    for command in [
        &["describe-key", "alias/default"][..],
        &["list-keys"],
        &["list-aliases"],
        &["disable-key", "alias/default"],
        &["create-alias", "alias/a", "alias/default"],
        &["get-parameters-for-import", "alias/default"],
    ] {
        store.kms(command).expect_error(5, "no key store");
    }
    assert!(!store.sandbox.exists("home"));
}

/// The names and values that scripts rely on.
#[test]
fn a_key_is_one_flat_object() {
    let store = KeyStore::new();
    let key = store.json(&["create-key", "--description", "of web1", "--tag", "team=web", "--tag", "empty="]);
    let names: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "aliases",
        "creation_date",
        "delete_date",
        "description",
        "key_id",
        "key_state",
        "material_expire_time",
        "origin",
        "primary_key_version",
        "tags",
    ];
    assert_eq!(BTreeSet::from_iter(names), BTreeSet::from(expected));
    let id = key["key_id"].as_str().unwrap();
    assert_eq!((&key["key_state"], &key["origin"]), (&Value::from("Enabled"), &Value::from("local")));
    assert_eq!((&key["description"], &key["primary_key_version"]), (&Value::from("of web1"), &Value::from(1)));
    assert_eq!(key["tags"], serde_json::json!({"team": "web", "empty": ""}));
    assert_eq!(key["aliases"], serde_json::json!([]));
    assert!(key["material_expire_time"].is_null() && key["delete_date"].is_null());
    is_time(&key["creation_date"]);

    assert_eq!(store.json(&["describe-key", id]), key);
    assert!(store.json(&["list-keys"]).as_array().unwrap().contains(&key));
    let external = store.json(&["create-key", "--origin", "external"]);
    assert_eq!(
        (&external["key_state"], &external["origin"]),
        (&Value::from("PendingImport"), &Value::from("external"))
    );
    assert!(external["primary_key_version"].is_null());

    // What changes a key prints what it is then.
    for (command, name, value) in [
        (&["update-description", id, "of web2"][..], "description", Value::from("of web2")),
        (&["tag-key", id, "team=db", "a=b=c"], "tags", serde_json::json!({"team": "db", "empty": "", "a": "b=c"})),
        (&["untag-key", id, "team", "empty"], "tags", serde_json::json!({"a": "b=c"})),
        (&["rotate-key", id], "primary_key_version", Value::from(2)),
        (&["disable-key", id], "key_state", Value::from("Disabled")),
        (&["enable-key", id], "key_state", Value::from("Enabled")),
        (&["schedule-key-deletion", id, "--days", "7"], "key_state", Value::from("PendingDeletion")),
        (&["cancel-key-deletion", id], "delete_date", Value::Null),
    ] {
        let changed = store.json(command);
        assert_eq!((&changed["key_id"], &changed[name]), (&key["key_id"], &value), "{command:?}");
        assert_eq!(store.json(&["describe-key", id]), changed, "{command:?}");
    }
    is_time(&store.json(&["schedule-key-deletion", id])["delete_date"]);
}

#[test]
fn people_read_text() {
    let store = KeyStore::new();
    let id = store.create("local");
    store.kms(&["create-alias", "alias/web", &id]).expect(0);
    store.kms(&["update-description", "alias/web", "of web1\u{1b}[2J"]).expect(0);
    store.kms(&["tag-key", "alias/web", "team=web"]).expect(0);
    let text = store.kms(&["describe-key", "alias/web"]).expect(0).stdout();
    for part in [&id, "Enabled", "local", "alias/web", r"of web1\u{1b}[2J", "team=web"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let list = store.kms(&["list-keys"]).expect(0).stdout();
    let line = list.lines().find(|line| line.starts_with(&id)).unwrap();
    assert!(line.contains("Enabled") && line.contains("alias/web") && !line.contains('\u{1b}'), "{line}");

    let said = store.kms(&["disable-key", "alias/web"]).expect(0).stdout();
    assert!(said.starts_with(&format!("{id}: disabled")), "{said}");
    assert_eq!(store.kms(&["enable-key", "alias/web", "--quiet"]).expect(0).stdout(), "");
    let said = store.kms(&["schedule-key-deletion", "alias/web"]).expect(0).stdout();
    assert!(said.contains(&format!("sealift kms cancel-key-deletion {id}")), "{said}");
}

#[test]
fn aliases_stand_for_keys() {
    let store = KeyStore::new();
    let (one, two) = (store.create("local"), store.create("local"));
    let alias = |name: &str, id: &str| serde_json::json!({"alias": name, "key_id": id});
    assert_eq!(store.json(&["create-alias", "alias/a", &one]), alias("alias/a", &one));
    store.put("alias/a", "first").expect(0);

    let run = store.kms(&["create-alias", "alias/a", &two]).expect_error(1, "exists");
    assert!(run.stderr().contains(&format!("sealift kms update-alias alias/a {two}")), "{}", run.stderr());
    assert_eq!(store.json(&["update-alias", "alias/a", &two]), alias("alias/a", &two));
    let listed = store.json(&["list-aliases"]);
    assert_eq!(listed[0], alias("alias/a", &two));
    assert_eq!(listed[1]["alias"], "alias/default");
    assert_eq!(store.json(&["describe-key", &two])["aliases"], serde_json::json!(["alias/a"]));
    assert_eq!(store.json(&["describe-key", &one])["aliases"], serde_json::json!([]));

    store.put("alias/a", "second").expect(0);
    for (object, key) in [("first", &one), ("second", &two)] {
        let stat = store.sandbox.run(&["stat", object, "--json"]).expect(0).json();
        assert_eq!(stat["data_keys"][0]["key"].as_str(), Some(key.as_str()), "objects name ids");
    }
    assert_eq!(store.json(&["delete-alias", "alias/a"]), alias("alias/a", &two));
    store.opens("first");
    store.opens("second");
    store.put("alias/a", "third").expect_error(5, "alias/a");
    store.kms(&["describe-key", "alias/a"]).expect_error(5, "alias/a");

    store.kms(&["create-alias", "a", &one]).expect_error(2, "alias/");
    store.kms(&["create-alias", "alias/b", "alias/none"]).expect_error(5, "alias/none");
}

#[test]
fn rotation_keeps_what_was_sealed_before() {
    let store = KeyStore::new();
    let id = store.create("local");
    for round in 1..4 {
        store.put(&id, &format!("obj{round}")).expect(0);
        let said = store.kms(&["rotate-key", &id]).expect(0).stdout();
        assert!(said.contains(&format!("version {}", round + 1)), "{said}");
    }
    for round in 1..4 {
        store.opens(&format!("obj{round}"));
    }
}

#[test]
fn wrong_arguments_are_2() {
    let store = KeyStore::new();
    let id = store.create("local");
    for command in [
        &["create-key", "--origin", "EXTERNAL"][..],
        &["create-key", "--tag", "novalue"],
        &["describe-key"],
        &["schedule-key-deletion", &id, "--days", "6"],
        &["schedule-key-deletion", &id, "--days", "31"],
        &["tag-key", &id],
        &["tag-key", &id, "novalue"],
        &["untag-key", &id],
        &["create-alias", "alias/x"],
        &["get-parameters-for-import", &id, "--wrapping-algorithm", "RSA"],
        &["get-parameters-for-import", &id, "--wrapping-key-spec", "RSA_1024"],
        &["import-key-material", &id, "--import-token", "src"],
        &["get-parameters-for-import", &id],
    ] {
        let run = store.kms(command).expect(2);
        assert!(run.stdout().is_empty() && run.stderr().contains("error: "), "{command:?}: {}", run.stderr());
    }
    assert_eq!(store.state(&id), "Enabled");
    for key in ["alias/none", "none", "00000000-0000-4000-8000-000000000000"] {
        for command in ["describe-key", "enable-key", "disable-key", "rotate-key", "schedule-key-deletion"] {
            let run = store.kms(&[command, key]).expect_error(5, key);
            assert!(run.stderr().contains("sealift kms list-keys"), "{}", run.stderr());
        }
    }
}

#[test]
fn the_table_of_operations_and_states_is_true() {
    const DOCUMENT: &str = include_str!("../../../docs/keys.md");
    let section = DOCUMENT.split("\n### local\n").nth(1).unwrap().split("\n### ").next().unwrap();
    let rows: Vec<Vec<_>> = section
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let (states, rows) = (&rows[0][1..], &rows[2..]);
    assert_eq!(states, ["Enabled", "Disabled", "PendingImport", "PendingDeletion"]);
    assert!(rows.len() > 12);
    let store = KeyStore::new();
    let mut wrong = Vec::new();
    for row in rows {
        for operation in row[0].split('`').skip(1).step_by(2) {
            for (state, cell) in states.iter().zip(&row[1..]) {
                let external = row[0].contains("origin external") || *state == "PendingImport";
                if *cell != "–"
                    && let Err(why) = check_cell(&store, operation, external, state, cell)
                {
                    wrong.push(format!("{operation} ({}) in {state}, documented as {cell:?}: {why}", row[0]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether `operation` on a key in `state` ends as `cell` has it.
fn check_cell(store: &KeyStore, operation: &str, external: bool, state: &str, cell: &str) -> Result<(), String> {
    let id = store.create(if external { "external" } else { "local" });
    if external {
        store.import(&id, &noise(32));
    }
    store.put(&id, "obj").expect(0);
    if operation.starts_with("rewrap") {
        store.put("alias/default", "own").expect(0);
        store.sandbox.run(&["put", "src", "both", "--kms-key", "alias/default", "--kms-key", &id]).expect(0);
    }
    let (alias, another) = (format!("alias/{id}"), format!("alias/another-{id}"));
    store.kms(&["create-alias", &alias, &id]).expect(0);
    store.kms(&["create-alias", "alias/moving", "alias/default"]);
    match state {
        "Disabled" => drop(store.kms(&["disable-key", &id]).expect(0)),
        "PendingImport" => drop(store.kms(&["delete-key-material", &id]).expect(0)),
        "PendingDeletion" => drop(store.kms(&["schedule-key-deletion", &id]).expect(0)),
        _ => {}
    }
    assert_eq!(store.state(&id), state);

    let run = match operation {
        "put" => store.put(&id, "other"),
        "get" => store.sandbox.run(&["get", "obj", "out", "--force"]),
        "verify" => store.sandbox.run(&["verify", "obj"]),
        "rewrap --kms-key" => store.sandbox.run(&["rewrap", "own", "--kms-key", &id]),
        "rewrap --remove" => store.sandbox.run(&["rewrap", "both", "--remove", &id]),
        "list-keys" => store.kms(&["list-keys"]),
        "update-description" => store.kms(&["update-description", &id, "text"]),
        "tag-key" => store.kms(&["tag-key", &id, "a=b"]),
        "untag-key" => store.kms(&["untag-key", &id, "a"]),
        "create-alias" => store.kms(&["create-alias", &another, &id]),
        "delete-alias" => store.kms(&["delete-alias", &alias]),
        "update-alias" => store.kms(&["update-alias", "alias/moving", &id]),
        "import-key-material" => store.kms(&[&["import-key-material", &id], &FILES[..]].concat()),
        _ => store.kms(&[operation, &id]),
    };
    store.kms(&["update-alias", "alias/moving", "alias/default"]).expect(0);
    let (code, now) = match cell.split_once(' ') {
        None if cell == "yes" => (0, state),
        Some(("→", now)) => (0, now),
        Some(("refused,", code)) => (code.parse().unwrap(), state),
        _ => panic!("{cell} is not how a cell is written"),
    };
    let (found, then) = (run.code(), store.state(&id));
    if found != Some(code) || then != now {
        return Err(format!("ended with {found:?}, then {then}: {}", run.stderr()));
    }
    if code == 5 && !(run.stderr().contains(state) && run.stderr().contains(&id)) {
        return Err(format!("does not name key and state: {}", run.stderr()));
    }
    Ok(())
}
