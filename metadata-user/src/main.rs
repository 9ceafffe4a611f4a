//! The binary `metadatad`: everything is in the library, see `cli`.

use std::process::ExitCode;

use metadata_user::secret::heap::WipingHeap;

#[global_allocator]
static HEAP: WipingHeap = WipingHeap;

fn main() -> ExitCode {
    metadata_user::cli::main(std::env::args_os())
}
