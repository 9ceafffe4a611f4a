//! Whether the programs' maps are pinned, can be read, and are of this version.

use super::super::evidence::Evidence;
use super::super::finding::Finding;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let pins = evidence.settings.pin_dir.display();
    let kernel = match &evidence.kernel {
        Ok(kernel) => kernel,
        Err(error) => return vec![Finding::note(format!("the kernel was not checked: {error}"))],
    };
    if let Some(error) = &kernel.maps_error {
        let what = format!("the maps under {pins} cannot be read ({error})");
        return vec![Finding::problem(what, "`systemctl restart metadatad` creates what is missing")];
    }
    if !kernel.is_pinned {
        let what =
            format!("nothing is pinned under {pins}: the programs are gone, or the BPF file system is not mounted");
        return vec![Finding::problem(
            what,
            "`systemctl restart metadatad` mounts it, and loads and attaches the programs",
        )];
    }
    if !kernel.is_of_this_version {
        let what = format!("the maps under {pins} are those of another version of metadatad");
        return vec![Finding::problem(what, "`systemctl restart metadatad` starts the installed version")];
    }
    vec![Finding::passed(format!("the maps under {pins} are readable"))]
}
