//! Whether the kernel half can be looked at, and is there at all.

use super::super::evidence::Evidence;
use super::super::finding::Finding;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let pins = evidence.settings.pin_dir.display();
    let kernel = match &evidence.kernel {
        Ok(kernel) => kernel,
        Err(error) => return vec![Finding::note(format!("the kernel was not looked at: {error}"))],
    };
    if let Some(error) = &kernel.maps_error {
        let what = format!("the maps under {pins} cannot be read ({error})");
        return vec![Finding::problem(what, "`systemctl restart metadatad` makes what is missing")];
    }
    if !kernel.is_pinned {
        let what =
            format!("nothing is pinned under {pins}: the programs are gone, or the BPF file system is not mounted");
        return vec![Finding::problem(what, "`systemctl restart metadatad` mounts, loads and attaches")];
    }
    if !kernel.is_of_this_version {
        let what = format!("the maps under {pins} are of another version of metadatad than this program");
        return vec![Finding::problem(
            what,
            "`systemctl restart metadatad`, so that the daemon is of the installed version",
        )];
    }
    vec![Finding::passed(format!("the maps under {pins} can be read"))]
}
