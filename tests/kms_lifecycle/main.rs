//! The life of a CMK in the embedded key store: what each state allows, and what leads from one to another.

#![cfg(feature = "aws-lc-rs")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use sealift::format::Envelope;
use sealift::kms::Kms as _;
use sealift::kms::local::{
    CreateKey, KeyMetadata, KeyOrigin, LocalKms, RootKey, RootKeySource, WrappingAlgorithm, WrappingKeySpec,
};
use sealift::{DataKey, ErrorKind, KeyState, Result, WrappedKey};

#[allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#[path = "../support/keys.rs"]
mod keys;
mod model;

use keys::{Clock, DAY, World, encrypt, external, failure, generate, import, material, state, tree, unwrap};

/// What an operation does to a key in some state.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// It works, and leaves the key in this state.
    To(KeyState),
    /// The state forbids it.
    Forbidden,
    /// It is not for keys of this origin.
    WrongOrigin,
    /// There is no such key.
    Unknown,
}

/// A key in some state: how it came to be so, at which the test then looks after eight days.
type Setup = (&'static str, &'static [Step]);

enum Step {
    Local,
    External,
    /// For good.
    Import,
    /// Until tomorrow.
    ImportExpiring,
    DeleteMaterial,
    Disable,
    Delete(u16),
}

const SETUPS: [Setup; 12] = {
    use Step::{Delete, DeleteMaterial, Disable, External, Import, ImportExpiring, Local};
    [
        ("local, Enabled", &[Local]),
        ("local, Disabled", &[Local, Disable]),
        ("local, PendingDeletion", &[Local, Disable, Delete(30)]),
        ("local, past its deletion", &[Local, Delete(7)]),
        ("external, new", &[External]),
        ("external, Enabled", &[External, Import]),
        ("external, Disabled", &[External, Import, Disable]),
        ("external, its material deleted", &[External, Import, Disable, DeleteMaterial]),
        ("external, its material expired", &[External, ImportExpiring, Disable]),
        ("external, PendingDeletion", &[External, Import, Delete(30)]),
        ("external, PendingDeletion, expired", &[External, ImportExpiring, Delete(30)]),
        ("external, past its deletion", &[External, Import, Delete(7)]),
    ]
};

/// One line for each operation, one letter for each of [`SETUPS`]: the state that the key is in afterwards (`E`nabled,
/// `D`isabled, pending deletion `-`, pending `I`mport), or `x` forbidden, `o` wrong origin, `?` unknown key.
const TABLE: &str = "
                        local    external
    generate_data_key   E x x ?  x E x x x x x ?
    wrap                E x x ?  x E x x x x x ?
    unwrap              E x x ?  x E x x x x x ?
    describe_key        E D - ?  I E D I I - - ?
    list_keys           E D - ?  I E D I I - - ?
    rotate_key          E x x ?  o o o o o o o ?
    enable_key          E E x ?  x E E x x x x ?
    disable_key         D D x ?  x D D x x x x ?
    schedule_deletion   - - x ?  - - - - - x x ?
    cancel_deletion     x x E ?  x x x x x E I ?
    update_description  E D x ?  I E D I I x x ?
    tag_key             E D x ?  I E D I I x x ?
    untag_key           E D x ?  I E D I I x x ?
    create_alias        E D x ?  I E D I I x x ?
    update_alias        E D x ?  I E D I I x x ?
    delete_alias        E D - ?  I E D I I - - ?
    get_parameters      o o o ?  I E D I I x x ?
    import_material     o o o ?  E E D E E x x ?
    delete_material     o o o ?  I I I I I - - ?
";

#[test]
fn each_operation_in_each_state_does_what_the_table_says() {
    let world = World::new();
    let keys = SETUPS.map(|(_, steps)| Key::new(&world, steps));
    world.clock.advance(8 * DAY);

    let mut tried = BTreeSet::new();
    for line in TABLE.lines().map(str::trim).filter(|line| !line.is_empty()).skip(1) {
        let mut words = line.split_whitespace();
        let operation = words.next().unwrap();
        let outcomes: Vec<_> = words.collect();
        assert_eq!(outcomes.len(), SETUPS.len(), "{line}");
        for ((setup, key), outcome) in SETUPS.iter().map(|(name, _)| name).zip(&keys).zip(outcomes) {
            let expected = match outcome {
                "E" => Outcome::To(KeyState::Enabled),
                "D" => Outcome::To(KeyState::Disabled),
                "-" => Outcome::To(KeyState::PendingDeletion),
                "I" => Outcome::To(KeyState::PendingImport),
                "x" => Outcome::Forbidden,
                "o" => Outcome::WrongOrigin,
                "?" => Outcome::Unknown,
                other => panic!("{other:?} in {line:?}"),
            };
            // A store of its own, since operations change keys.
            let copy = tempfile::tempdir().unwrap();
            copy_dir(&world.dir, copy.path());
            let kms = world.clock.open(copy.path());
            assert_eq!(key.try_it(&kms, operation), expected, "{operation} of a key that is: {setup}");
        }
        tried.insert(operation);
    }
    assert_eq!(tried.len(), 19);
}

struct Key {
    id: String,
    alias: String,
    wrapped: WrappedKey,
    data_key: Option<DataKey>,
}

impl Key {
    fn new(world: &World, steps: &[Step]) -> Self {
        let kms = &world.kms;
        let mut id = String::new();
        let mut wrapped = None;
        for step in steps {
            match step {
                Step::Local => id = kms.create_key(CreateKey::default()).unwrap().key_id,
                Step::External => id = kms.create_key(external()).unwrap().key_id,
                Step::Import => drop(import(kms, &id, &material(1), None).unwrap()),
                Step::ImportExpiring => {
                    drop(import(kms, &id, &material(1), Some(world.clock.after(DAY))).unwrap());
                }
                Step::DeleteMaterial => drop(kms.delete_key_material(&id).unwrap()),
                Step::Disable => drop(kms.disable_key(&id).unwrap()),
                Step::Delete(days) => drop(kms.schedule_key_deletion(&id, *days).unwrap()),
            }
            if wrapped.is_none() {
                wrapped = generate(kms, &id).ok();
            }
            if matches!(step, Step::Local | Step::External) {
                let tags = BTreeMap::from([("team".to_owned(), "red".to_owned())]);
                kms.tag_key(&id, tags).unwrap();
                kms.create_alias(&format!("alias/{id}"), &id).unwrap();
            }
        }
        let (data_key, wrapped) = match wrapped {
            Some((data_key, wrapped)) => (Some(data_key), wrapped),
            None => {
                let blob = generate(kms, "alias/default").unwrap().1;
                (None, WrappedKey { key: id.clone(), ..blob })
            }
        };
        Self { alias: format!("alias/{id}"), id, wrapped, data_key }
    }

    fn try_it(&self, kms: &LocalKms, operation: &str) -> Outcome {
        let before = kms.describe_key(&self.id).ok();
        let result = self.run(kms, operation);
        let after = kms.describe_key(&self.id).ok();
        match result {
            Ok(()) => Outcome::To(after.expect("no operation makes a key unknown").state),
            Err(error) => {
                assert_eq!(after, before, "what fails changes nothing");
                match error.kind() {
                    ErrorKind::InvalidInput => {
                        assert!(error.to_string().contains("origin"), "{error}");
                        assert_eq!(error.key_state(), None);
                        Outcome::WrongOrigin
                    }
                    ErrorKind::KeyUnavailable => match (error.key_state(), before) {
                        (Some(state), Some(before)) => {
                            assert_eq!(state, before.state);
                            for says in [&self.id, state.name()] {
                                assert!(error.to_string().contains(says), "{says:?} is not in: {error}");
                            }
                            Outcome::Forbidden
                        }
                        (None, None) => {
                            assert!(error.to_string().contains("no key"), "{error}");
                            Outcome::Unknown
                        }
                        other => panic!("{other:?}: {error}"),
                    },
                    _ => panic!("{error:?}"),
                }
            }
        }
    }

    fn run(&self, kms: &LocalKms, operation: &str) -> Result<()> {
        let id = self.id.as_str();
        let changed = |metadata: KeyMetadata| assert_eq!(kms.describe_key(id).unwrap(), metadata);
        match operation {
            "generate_data_key" => {
                let (data_key, wrapped) = generate(kms, id)?;
                assert_eq!(unwrap(kms, &wrapped)?, data_key);
            }
            "wrap" => {
                let (data_key, context) = (DataKey::random().unwrap(), Default::default());
                let wrapped = kms.wrap(&self.alias, &data_key, &context).now_or_never().unwrap()?;
                assert_eq!(unwrap(kms, &wrapped)?, data_key);
            }
            "unwrap" => assert_eq!(Some(unwrap(kms, &self.wrapped)?), self.data_key),
            "describe_key" => drop(kms.describe_key(&self.alias)?),
            "list_keys" => {
                let listed = kms.list_keys()?.into_iter().find(|key| key.key_id == id);
                let aliased = kms.list_aliases()?.get(&self.alias).cloned();
                assert_eq!(aliased.as_deref(), listed.as_ref().map(|key| key.key_id.as_str()));
                assert_eq!(listed.as_ref(), kms.describe_key(id).ok().as_ref());
                kms.describe_key(id)?;
            }
            "rotate_key" => changed(kms.rotate_key(id)?),
            "enable_key" => changed(kms.enable_key(&self.alias)?),
            "disable_key" => changed(kms.disable_key(id)?),
            "schedule_deletion" => changed(kms.schedule_key_deletion(id, 7)?),
            "cancel_deletion" => changed(kms.cancel_key_deletion(id)?),
            "update_description" => changed(kms.update_description(id, "other")?),
            "tag_key" => changed(kms.tag_key(id, BTreeMap::from([("a".to_owned(), "b".to_owned())]))?),
            "untag_key" => changed(kms.untag_key(id, &["team".to_owned()])?),
            "create_alias" => kms.create_alias("alias/new", id)?,
            "update_alias" => kms.update_alias(LocalKms::DEFAULT_ALIAS, id)?,
            "delete_alias" => drop(kms.delete_alias(&self.alias)?),
            "get_parameters" => {
                drop(kms.get_parameters_for_import(id, WrappingAlgorithm::default(), WrappingKeySpec::Rsa2048)?);
            }
            "import_material" => {
                // A state forbids it before anybody looks at what is imported.
                let token = kms.get_parameters_for_import(id, WrappingAlgorithm::default(), WrappingKeySpec::Rsa2048);
                changed(match token {
                    Ok(token) => {
                        let encrypted = encrypt(WrappingAlgorithm::default(), &token.public_key, &material(1));
                        kms.import_key_material(id, &encrypted, &token.import_token, None)?
                    }
                    Err(_) => kms.import_key_material(id, b"anything", b"anything", None)?,
                });
            }
            "delete_material" => changed(kms.delete_key_material(id)?),
            other => panic!("{other}"),
        }
        Ok(())
    }
}

fn copy_dir(from: &Path, to: &Path) {
    for (path, content) in tree(from) {
        let to = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(&to, content).unwrap();
        fs::set_permissions(&to, fs::metadata(path).unwrap().permissions()).unwrap();
    }
}

#[test]
fn a_key_is_what_it_was_created_to_be() {
    let world = World::new();
    let tags = BTreeMap::from([("team".to_owned(), "red".to_owned()), ("empty".to_owned(), String::new())]);
    let created =
        world.kms.create_key(CreateKey { description: "photos".into(), tags: tags.clone(), ..external() }).unwrap();
    assert_eq!((created.origin, created.state), (KeyOrigin::External, KeyState::PendingImport));
    assert_eq!((created.primary_version, created.versions), (0, 0));
    assert_eq!((created.description.as_str(), &created.tags), ("photos", &tags));
    assert_eq!((created.material_expires, created.deletion), (None, None));
    assert_eq!(created.created, world.clock.now());
    assert_eq!(world.clock.open(&world.dir).describe_key(&created.key_id).unwrap(), created);

    let changed = world.kms.update_description(&created.key_id, "videos").unwrap();
    assert_eq!(changed.description, "videos");
    let more = [("team", "blue"), ("more", "x")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let changed = world.kms.tag_key(&created.key_id, more.into()).unwrap();
    assert_eq!(
        changed.tags.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        ["empty=", "more=x", "team=blue"]
    );
    let names = ["team", "not there"].map(str::to_owned);
    let changed = world.kms.untag_key(&created.key_id, &names).unwrap();
    assert_eq!(changed.tags.into_keys().collect::<Vec<_>>(), ["empty", "more"]);
}

#[test]
fn what_is_too_long_or_too_much_is_refused_and_changes_nothing() {
    let world = World::new();
    let before = tree(&world.dir);
    let kms = &world.kms;
    let tag = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let many: BTreeMap<_, _> = (0..51).map(|i| (i.to_string(), String::new())).collect();
    let default = LocalKms::DEFAULT_ALIAS;
    for (result, kind) in [
        (kms.update_description(default, &"x".repeat(8193)), ErrorKind::InvalidInput),
        (kms.create_key(CreateKey { description: "x".repeat(8193), ..CreateKey::default() }), ErrorKind::InvalidInput),
        (kms.tag_key(default, tag("", "x")), ErrorKind::InvalidInput),
        (kms.tag_key(default, tag(&"x".repeat(129), "x")), ErrorKind::InvalidInput),
        (kms.tag_key(default, tag("x", &"x".repeat(257))), ErrorKind::InvalidInput),
        (kms.tag_key(default, many.clone()), ErrorKind::LimitExceeded),
        (kms.create_key(CreateKey { tags: many, ..CreateKey::default() }), ErrorKind::LimitExceeded),
        (kms.schedule_key_deletion(default, 6), ErrorKind::InvalidInput),
        (kms.schedule_key_deletion(default, 31), ErrorKind::InvalidInput),
    ] {
        assert_eq!(failure(result).kind(), kind);
    }
    assert_eq!(tree(&world.dir), before);
    assert_eq!("external".parse::<KeyOrigin>().unwrap().to_string(), "external");
    assert!(failure("aws".parse::<KeyOrigin>()).to_string().contains("local, external"));
}

#[test]
fn after_rotation_the_new_version_wraps_and_every_old_one_unwraps() {
    let world = World::new();
    let (kms, key) = (&world.kms, LocalKms::DEFAULT_ALIAS);
    let mut wrapped = vec![generate(kms, key).unwrap()];
    for version in 2..=6 {
        let rotated = kms.rotate_key(key).unwrap();
        assert_eq!((rotated.primary_version, rotated.versions), (version, version));
        assert_eq!(rotated.state, KeyState::Enabled);
        wrapped.push(generate(kms, key).unwrap());
    }
    for (data_key, wrapped) in &wrapped {
        assert_eq!(unwrap(&world.clock.open(&world.dir), wrapped).unwrap(), *data_key);
    }

    // Which version wrapped what: with the file of before, what came later does not open.
    let path = world.dir.join(format!("keys/{}.json", wrapped[0].1.key));
    let before = fs::read(&path).unwrap();
    kms.rotate_key(key).unwrap();
    let (_, newest) = generate(kms, key).unwrap();
    fs::write(&path, before).unwrap();
    assert_eq!(failure(unwrap(kms, &newest)).kind(), ErrorKind::Authentication);
    wrapped.iter().for_each(|(_, wrapped)| drop(unwrap(kms, wrapped).unwrap()));
}

#[test]
fn aliases_are_given_to_other_keys_and_taken_away() {
    let world = World::new();
    let kms = &world.kms;
    let [one, two] = [(); 2].map(|()| kms.create_key(CreateKey::default()).unwrap().key_id);
    kms.create_alias("alias/current", &one).unwrap();
    let (data_key, wrapped) = generate(kms, "alias/current").unwrap();
    kms.update_alias("alias/current", &two).unwrap();
    assert_eq!(generate(kms, "alias/current").unwrap().1.key, two);
    assert_eq!(unwrap(kms, &wrapped).unwrap(), data_key, "what is sealed names the key, not the alias");
    assert_eq!(kms.list_aliases().unwrap()["alias/current"], two);
    kms.update_alias("alias/current", "alias/default").unwrap();
    let default = kms.describe_key("alias/default").unwrap().key_id;
    assert_eq!(kms.delete_alias("alias/current").unwrap(), default);
    assert_eq!(kms.list_aliases().unwrap().into_keys().collect::<Vec<_>>(), ["alias/default"]);
    kms.describe_key(&two).unwrap();

    for refused in [
        kms.update_alias("alias/current", &one),
        kms.delete_alias("alias/current").map(drop),
        kms.update_alias("alias/default", "alias/none"),
        kms.delete_alias(&one).map(drop),
    ] {
        assert_eq!(failure(refused).kind(), ErrorKind::KeyUnavailable);
    }
    assert_eq!(failure(kms.create_alias("alias/default", &one)).kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_key_past_its_deletion_is_gone_at_once_and_its_files_with_the_next_write() {
    let world = World::new();
    let kms = &world.kms;
    let key = kms.create_key(CreateKey::default()).unwrap().key_id;
    kms.create_alias("alias/doomed", &key).unwrap();
    let scheduled = kms.schedule_key_deletion("alias/doomed", 7).unwrap();
    assert_eq!(scheduled.deletion, Some(world.clock.after(7 * DAY)));
    let file = world.dir.join(format!("keys/{key}.json"));

    world.clock.advance(7 * DAY - 1);
    kms.update_description("alias/default", "a write").unwrap();
    assert_eq!(state(kms, &key), KeyState::PendingDeletion);
    world.clock.advance(1);
    assert!(failure(kms.describe_key(&key)).to_string().contains("no key"));
    assert_eq!(failure(kms.cancel_key_deletion("alias/doomed")).key_state(), None);
    // That was a write.
    assert!(!file.exists());
    assert!(!fs::read_to_string(world.dir.join("store.json")).unwrap().contains(&key));
    kms.create_alias("alias/doomed", "alias/default").unwrap();
    assert_eq!(kms.list_keys().unwrap().len(), 1);
}

/// Were it set right later, the deletion would be due at once.
#[test]
fn deletion_is_not_scheduled_by_a_clock_that_is_far_behind() {
    let world = World::new();
    let key = world.kms.create_key(CreateKey::default()).unwrap().key_id;
    let kms = LocalKms::open(&world.dir, RootKeySource::File).unwrap().with_clock(|| SystemTime::UNIX_EPOCH);
    let error = failure(kms.schedule_key_deletion(&key, 30));
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("clock"), "{error}");
    assert_eq!(state(&world.kms, &key), KeyState::Enabled);
}

#[test]
fn a_crash_while_a_key_is_removed_is_made_good_by_the_next_write() {
    let world = World::new();
    let kms = &world.kms;
    let key = kms.create_key(CreateKey::default()).unwrap().key_id;
    kms.schedule_key_deletion(&key, 7).unwrap();
    world.clock.advance(7 * DAY);
    let file = world.dir.join(format!("keys/{key}.json"));
    let content = fs::read(&file).unwrap();
    kms.tag_key("alias/default", BTreeMap::new()).unwrap();
    assert!(!file.exists());

    // Between the entry in store.json and the file.
    fs::write(&file, content).unwrap();
    fs::write(world.dir.join(".new"), "{\"format\":\"sealift-kms-st").unwrap();
    assert_eq!(kms.list_keys().unwrap().len(), 1);
    assert!(failure(generate(kms, &key)).to_string().contains("no key"));
    kms.tag_key("alias/default", BTreeMap::new()).unwrap();
    assert!(!file.exists());
    assert_eq!(kms.list_keys().unwrap().len(), 1);
}

#[test]
fn a_damaged_key_is_not_in_the_way_of_another_and_is_never_removed_or_replaced() {
    let world = World::new();
    let kms = &world.kms;
    let key = kms.create_key(CreateKey::default()).unwrap().key_id;
    kms.schedule_key_deletion(&key, 7).unwrap();
    let file = world.dir.join(format!("keys/{key}.json"));
    let damaged = fs::read_to_string(&file).unwrap().replace("\"deletion\":18", "\"deletion\":17");
    fs::write(&file, &damaged).unwrap();

    kms.rotate_key("alias/default").unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), damaged);
    for refused in [kms.cancel_key_deletion(&key), kms.describe_key(&key), kms.enable_key(&key)] {
        assert_eq!(failure(refused).kind(), ErrorKind::Malformed);
    }
    for (member, value) in [("disabled", "true"), ("description", "\"x\""), ("imported", "{}")] {
        let altered = damaged.replace("\"deletion\":", &format!("\"{member}\":{value},\"deletion\":"));
        fs::write(&file, altered).unwrap();
        assert_eq!(failure(kms.describe_key(&key)).kind(), ErrorKind::Malformed);
    }
}

#[test]
fn s27_a_change_that_cannot_be_written_is_an_error_and_changes_nothing() {
    let world = World::new();
    let kms = &world.kms;
    let key = kms.create_key(external()).unwrap().key_id;
    import(kms, &key, &material(1), None).unwrap();
    let (_, wrapped) = generate(kms, &key).unwrap();
    let before = tree(&world.dir);
    // In the way of the file that is written first: as good as a full disk, and also refused to root.
    fs::create_dir(world.dir.join(".new")).unwrap();
    for refused in [
        kms.disable_key(&key),
        kms.rotate_key("alias/default"),
        kms.schedule_key_deletion(&key, 7),
        kms.delete_key_material(&key),
        kms.update_description(&key, "x"),
        import(kms, &key, &material(1), None),
        kms.create_key(external()),
    ] {
        assert_eq!(failure(refused).kind(), ErrorKind::Io);
    }
    assert_eq!(failure(kms.update_alias("alias/default", &key)).kind(), ErrorKind::Io);
    assert_eq!(failure(kms.delete_alias("alias/default")).kind(), ErrorKind::Io);
    assert_eq!(tree(&world.dir), before);
    unwrap(kms, &wrapped).unwrap();
    fs::remove_dir(world.dir.join(".new")).unwrap();
    kms.disable_key(&key).unwrap();
}

#[test]
fn threads_that_change_one_key_lose_nothing_of_each_other() {
    let world = World::new();
    let (data_key, wrapped) = generate(&world.kms, "alias/default").unwrap();
    let doomed = world.kms.create_key(CreateKey::default()).unwrap().key_id;
    world.kms.schedule_key_deletion(&doomed, 7).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let world = &world;
            let (data_key, wrapped) = (&data_key, &wrapped);
            scope.spawn(move || {
                let kms = world.clock.open(&world.dir);
                for i in 0..5 {
                    kms.rotate_key("alias/default").unwrap();
                    let tag = (format!("{thread}-{i}"), String::new());
                    kms.tag_key("alias/default", BTreeMap::from([tag])).unwrap();
                    if (thread, i) == (1, 2) {
                        world.clock.advance(7 * DAY);
                    }
                    // Readers among the writers never see half of anything, not even while a key is removed.
                    assert!((1..=2).contains(&kms.list_keys().unwrap().len()));
                    assert_eq!(unwrap(&kms, wrapped).unwrap(), *data_key);
                }
            });
        }
    });
    let key = world.kms.describe_key("alias/default").unwrap();
    assert_eq!((key.versions, key.primary_version, key.tags.len()), (21, 21, 20));
    assert_eq!(world.kms.list_keys().unwrap().len(), 1);
}

const CHILD_DIR: &str = "SEALIFT_TEST_KMS_DIR";

fn child(dir: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_process", "--ignored", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn processes_that_change_one_key_lose_nothing_of_each_other() {
    let world = World::new();
    let children: Vec<_> = (0..4).map(|_| child(&world.dir)).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let key = world.kms.describe_key("alias/default").unwrap();
    assert_eq!((key.versions, key.state), (41, KeyState::Enabled));
}

/// The kills are spread over the time in which the child rotates its key.
#[test]
fn s16_a_process_killed_at_any_time_leaves_keys_that_work() {
    let world = World::new();
    let (data_key, wrapped) = generate(&world.kms, "alias/default").unwrap();
    for step in 0..15 {
        let mut child = child(&world.dir);
        std::thread::sleep(Duration::from_millis(2) * step);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(unwrap(&world.kms, &wrapped).unwrap(), data_key);
        world.kms.enable_key("alias/default").unwrap();
        generate(&world.kms, "alias/default").unwrap();
    }
}

/// One of the processes above.
#[test]
#[ignore = "run by the tests that need processes"]
fn child_process() {
    let dir = std::env::var_os(CHILD_DIR).expect("the parent says where");
    let kms = LocalKms::open(PathBuf::from(dir), RootKeySource::File).unwrap();
    for i in 0..10 {
        kms.rotate_key("alias/default").unwrap();
        kms.tag_key("alias/default", BTreeMap::from([(i.to_string(), "x".to_owned())])).unwrap();
    }
}

/// `tests/vectors/keystore` was made by the program before keys had states.
#[test]
fn a_store_from_before_keys_had_states_opens_works_and_is_not_rewritten() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("kms");
    let vector = |file: &str| {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/keystore").join(file)).unwrap()
    };
    const KEY: &str = "c953e7ac-cfd5-4d8f-bf6b-58f5e4557da1";
    fs::create_dir_all(dir.join("keys")).unwrap();
    fs::write(dir.join("store.json"), vector("store.json")).unwrap();
    fs::write(dir.join(format!("keys/{KEY}.json")), vector(&format!("{KEY}.json"))).unwrap();
    let root_key = RootKeySource::Given(RootKey::from_base64(&vector("root.key")).unwrap());
    let kms = LocalKms::open(&dir, root_key).unwrap();

    let key = kms.describe_key("alias/default").unwrap();
    assert_eq!((key.key_id.as_str(), key.state, key.origin), (KEY, KeyState::Enabled, KeyOrigin::Local));
    assert_eq!((key.versions, key.primary_version, key.material_expires, key.deletion), (1, 1, None, None));
    let object: serde_json::Value = serde_json::from_str(&vector("object.json")).unwrap();
    let envelope = Envelope::from_metadata(&serde_json::from_value(object["metadata"].clone()).unwrap()).unwrap();
    let context = Envelope::kms_context(envelope.object_id(), envelope.context(), None);
    let wrapped = &envelope.data_keys()[0];
    let open = || kms.unwrap(wrapped, &context).now_or_never().unwrap();
    open().unwrap();
    assert_eq!(fs::read_to_string(dir.join(format!("keys/{KEY}.json"))).unwrap(), vector(&format!("{KEY}.json")));

    kms.rotate_key(KEY).unwrap();
    open().unwrap();
    kms.disable_key(KEY).unwrap();
    assert_eq!(failure(open()).key_state(), Some(KeyState::Disabled));
}

#[test]
fn a_clock_of_the_test_is_the_store_s() {
    let clock = Clock::new();
    let home = tempfile::tempdir().unwrap();
    let kms = clock.open(&home.path().join("kms"));
    clock.advance(DAY);
    assert_eq!(kms.create_key(CreateKey::default()).unwrap().created, clock.now());
}
