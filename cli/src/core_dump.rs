//! Keys in memory stay out of core dumps.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// No core is dumped of this process, and no other process of the same user can read its memory.
///
/// Where one of the two is refused, the other does: the limit is not for cores that go to a program, and a process that may not be dumped
/// becomes one that may when its user changes.
pub(crate) fn disable() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn nothing_is_dumped_to_a_file_or_to_a_program() {
        use rustix::process::{DumpableBehavior, dumpable_behavior};
        disable();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
    }
}
