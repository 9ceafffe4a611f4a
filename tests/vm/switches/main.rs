//! What switches do to metadata, on a real kernel: `switches` runs its cases one after the other, and says of each whether
//! it holds. `tests/vm/kernels.rs` runs it inside machines, whose kernels have Open vSwitch's module and VLAN devices; a case
//! that needs neither runs anywhere.
//!
//! Left out: anything about the machine. Namespaces stand for guests here too.

mod bridges;
mod openvswitch;
mod policing;
mod trunks;
mod userspace;
mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

/// A promise, and what proves it.
type Case = (&'static str, fn() -> Result<()>);

/// In the order in which they run.
const CASES: &[Case] = &[
    ("open_vswitch_sees_no_metadata", openvswitch::sees_no_metadata),
    ("open_vswitch_sees_no_metadata_with_clsact", openvswitch::sees_no_metadata_with_clsact),
    ("plugging_takes_nothing_away", policing::plugging_takes_nothing_away),
    ("policing_that_comes_later_takes_nothing_away", policing::comes_later),
    ("policing_that_was_there_takes_nothing_away", policing::was_there),
    ("a_removed_program_is_put_back", policing::removed_program_is_put_back),
    ("a_bridge_sees_no_metadata", bridges::plain),
    ("a_bridge_with_vlan_filtering_sees_no_metadata", bridges::vlan_filtering),
    ("a_tagged_interface_is_answered_with_its_tag", trunks::tagged),
    ("a_frame_with_two_tags_passes_untouched", trunks::two_tags),
    ("the_userspace_datapath_sees_requests_and_no_answers", userspace::sees_requests),
    ("flows_keep_requests_off_the_userspace_datapath", userspace::flows_drop_requests),
];

fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    let mut failed = 0;
    for (name, case) in CASES.iter().filter(|(name, _)| wanted(name)) {
        let started = Instant::now();
        // A panic has said what it is on standard error.
        let outcome = catch_unwind(AssertUnwindSafe(case)).unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked")));
        let seconds = started.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => println!("case {name}: holds ({seconds:.1} s)"),
            Err(error) => {
                failed += 1;
                println!("{error:#}\ncase {name}: fails ({seconds:.1} s)");
            }
        }
    }
    println!("cases: {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
