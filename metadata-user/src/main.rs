//! The binary `metadatad`: everything is in the library, see `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    metadata_user::cli::main(std::env::args_os())
}
