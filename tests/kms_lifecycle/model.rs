//! Any sequence of operations on a key, against a model of it.

use proptest::prelude::*;
use sealift::kms::local::{CreateKey, LocalKms, WrappingAlgorithm, WrappingKeySpec};
use sealift::{DataKey, ErrorKind, KeyState, WrappedKey};

use crate::keys::{HOUR, World, encrypt, external, generate, material, unwrap};

#[derive(Clone, Debug)]
enum Op {
    Wrap,
    Enable,
    Disable,
    Schedule(u16),
    Cancel,
    Rotate,
    /// One of two materials, that expires after so many hours.
    Import(u8, Option<u64>),
    DeleteMaterial,
    /// A write that is none of this key's business.
    Elsewhere,
    Hours(u64),
}

/// One key as a state machine that is told of each hour that passes.
struct Model {
    external: bool,
    /// `None` once it is gone.
    state: Option<KeyState>,
    material: bool,
    bound_to: Option<u8>,
    /// Hours left.
    expires: Option<u64>,
    deletion: Option<u64>,
    versions: u32,
}

impl Model {
    fn new(external: bool) -> Self {
        let state = if external { KeyState::PendingImport } else { KeyState::Enabled };
        Self {
            external,
            state: Some(state),
            material: !external,
            bound_to: None,
            expires: None,
            deletion: None,
            versions: u32::from(!external),
        }
    }

    fn hour(&mut self) {
        let count_down = |hours: &mut Option<u64>| {
            *hours = hours.map(|hours| hours - 1);
            *hours == Some(0)
        };
        if count_down(&mut self.expires) {
            self.expires = None;
            self.lose_material();
        }
        if count_down(&mut self.deletion) {
            (self.state, self.deletion) = (None, None);
        }
    }

    fn lose_material(&mut self) {
        (self.material, self.versions) = (false, 0);
        if self.state != Some(KeyState::PendingDeletion) {
            self.state = Some(KeyState::PendingImport);
        }
    }

    /// Whether it works.
    fn apply(&mut self, op: &Op) -> bool {
        use KeyState::{Disabled, Enabled, PendingDeletion, PendingImport};
        let Some(state) = self.state else { return false };
        let usable = matches!(state, Enabled | Disabled);
        match op {
            Op::Wrap => return state == Enabled,
            Op::Enable if usable => self.state = Some(Enabled),
            Op::Disable if usable => self.state = Some(Disabled),
            Op::Schedule(days) if state != PendingDeletion => {
                self.state = Some(PendingDeletion);
                self.deletion = Some(u64::from(*days) * 24);
            }
            Op::Cancel if state == PendingDeletion => {
                self.deletion = None;
                self.state = Some(if self.material { Enabled } else { PendingImport });
            }
            Op::Rotate if state == Enabled && !self.external => self.versions += 1,
            Op::Import(material, expires) if self.external && state != PendingDeletion => {
                if *self.bound_to.get_or_insert(*material) != *material {
                    return false;
                }
                (self.material, self.versions, self.expires) = (true, 1, *expires);
                if state == PendingImport {
                    self.state = Some(Enabled);
                }
            }
            Op::DeleteMaterial if self.external => {
                self.expires = None;
                self.lose_material();
            }
            _ => return false,
        }
        true
    }
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Wrap),
        2 => Just(Op::Enable),
        2 => Just(Op::Disable),
        1 => (7_u16..=30).prop_map(Op::Schedule),
        2 => Just(Op::Cancel),
        1 => Just(Op::Rotate),
        3 => (prop_oneof![4 => Just(1_u8), 1 => Just(2)], prop::option::of(1_u64..100))
            .prop_map(|(material, hours)| Op::Import(material, hours)),
        1 => Just(Op::DeleteMaterial),
        1 => Just(Op::Elsewhere),
        3 => prop_oneof![3 => 1_u64..30, 1 => 100_u64..400].prop_map(Op::Hours),
    ]
}

fn run(external_origin: bool, ops: &[Op]) {
    let world = World::new();
    let options = if external_origin { external() } else { CreateKey::default() };
    let key = world.kms.create_key(options).unwrap().key_id;
    let mut model = Model::new(external_origin);
    let mut wrapped = Vec::new();
    let mut parameters = None;
    for op in ops {
        // Another process each time: nothing is remembered but in files.
        let kms = world.clock.open(&world.dir);
        let expected = model.apply(op);
        let done = match op {
            Op::Wrap => generate(&kms, &key).map(|pair| wrapped.push(pair)),
            Op::Enable => kms.enable_key(&key).map(drop),
            Op::Disable => kms.disable_key(&key).map(drop),
            Op::Schedule(days) => kms.schedule_key_deletion(&key, *days).map(drop),
            Op::Cancel => kms.cancel_key_deletion(&key).map(drop),
            Op::Rotate => kms.rotate_key(&key).map(drop),
            Op::Import(byte, hours) => {
                let (algorithm, spec) = (WrappingAlgorithm::default(), WrappingKeySpec::Rsa2048);
                // RSA keys take a while to make, and can be used for a day.
                if parameters.as_ref().is_none_or(|(_, _, until)| *until <= world.clock.now()) {
                    let new = kms.get_parameters_for_import(&key, algorithm, spec);
                    parameters = new.ok().map(|new| (new.public_key, new.import_token, new.valid_until));
                }
                let expires = hours.map(|hours| world.clock.after(hours * HOUR));
                match &parameters {
                    Some((public_key, token, _)) => {
                        let encrypted = encrypt(algorithm, public_key, &material(*byte));
                        kms.import_key_material(&key, &encrypted, token, expires).map(drop)
                    }
                    None => kms.import_key_material(&key, b"", b"", expires).map(drop),
                }
            }
            Op::DeleteMaterial => kms.delete_key_material(&key).map(drop),
            Op::Elsewhere => {
                kms.rotate_key("alias/default").unwrap();
                continue;
            }
            Op::Hours(hours) => {
                for _ in 0..*hours {
                    world.clock.advance(HOUR);
                    model.hour();
                }
                continue;
            }
        };
        assert_eq!(done.is_ok(), expected, "{op:?} in {:?}: {done:?}", model.state);
        check(&world.kms, &key, &model, &wrapped);
    }
    check(&world.kms, &key, &model, &wrapped);
}

fn check(kms: &LocalKms, key: &str, model: &Model, wrapped: &[(DataKey, WrappedKey)]) {
    let described = kms.describe_key(key).ok();
    assert_eq!(described.as_ref().map(|key| key.state), model.state);
    assert_eq!(kms.list_keys().unwrap().len(), 1 + usize::from(model.state.is_some()));
    if let Some(described) = described {
        let expected = if model.material { model.versions } else { 0 };
        assert_eq!((described.versions, described.primary_version), (expected, expected));
        assert_eq!(described.deletion.is_some(), described.state == KeyState::PendingDeletion);
    }
    for (data_key, wrapped) in wrapped {
        match unwrap(kms, wrapped) {
            Ok(opened) => assert_eq!((&opened, model.state), (data_key, Some(KeyState::Enabled))),
            Err(error) => {
                assert_eq!((error.kind(), error.key_state()), (ErrorKind::KeyUnavailable, model.state), "{error}");
                assert_ne!(model.state, Some(KeyState::Enabled));
            }
        }
    }
}

fn cases() -> u32 {
    if std::env::var_os("SEALIFT_SOAK").is_some() { 2_000 } else { 40 }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn any_sequence_of_operations_does_what_the_model_says(
        external in prop::bool::weighted(0.7),
        ops in prop::collection::vec(any_op(), 0..40),
    ) {
        run(external, &ops);
    }
}
