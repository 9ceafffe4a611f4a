//! The capabilities of the calling thread.

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};

/// Takes every capability but these from the bounding set, if the thread may: while it has `CAP_SETPCAP`.
pub(super) fn bound(needed: &[Capability]) -> Result<(), CapsError> {
    let needed: CapsHashSet = needed.iter().copied().collect();
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::runtime::thread_all_supported().difference(&needed) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    Ok(())
}

/// Gives up every capability but these, in every other set. Of these, none is gained.
pub(super) fn keep(needed: &[Capability]) -> Result<(), CapsError> {
    let needed: CapsHashSet = needed.iter().copied().collect();
    caps::clear(None, CapSet::Ambient)?;
    let kept: CapsHashSet = caps::read(None, CapSet::Permitted)?.intersection(&needed).copied().collect();
    // The effective set is always part of the permitted one.
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new())
}

/// Returns the names of the capabilities in a set as the kernel shows it, in the kernel's order. One that has no name here
/// is shown by its number.
pub(super) fn names(set: u64) -> Vec<String> {
    let known = caps::all();
    let named = |number: u8| {
        let found = known.iter().find(|capability| capability.index() == number);
        found.map_or_else(|| format!("CAP_{number}"), ToString::to_string)
    };
    (0..64).filter(|number| set & (1 << number) != 0).map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_shown_by_name_in_the_kernels_order() {
        assert!(names(0).is_empty());
        assert_eq!(names(1 << 63 | 1 << 39 | 1 << 12 | 1), ["CAP_CHOWN", "CAP_NET_ADMIN", "CAP_BPF", "CAP_63"]);
    }
}
