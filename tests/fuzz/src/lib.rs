//! What the fuzzers run: for each thing that reads bytes of others, a function that hands it bytes and checks what must
//! hold whatever they are. docs/fuzzing.md says how to run them, and what they found.
//!
//! Promises: a function runs the daemon's own code, through its public functions or the modules called `fuzzing`; it keeps
//! nothing from one input to the next that could change what an input does; it panics if a promise is broken.
//!
//! Left out: the engine. The programs in `targets` have libFuzzer where they are built for fuzzing; the tests here run the
//! corpora without it.

pub mod admin;
pub mod config;
pub mod document;
pub mod etcd;
mod frame;
pub mod http;
mod input;
pub mod libvirt;
mod memory;
pub mod ovsdb;
pub mod packet;
pub mod snapshot;
mod stream;
pub mod token;

use std::fs;
use std::path::{Path, PathBuf};

#[cfg(fuzzing)]
#[doc(hidden)]
pub use libfuzzer_sys;

/// What a fuzzer does with an input.
pub type Run = fn(&[u8]);

/// All fuzzers, by name.
pub const TARGETS: [(&str, Run); 10] = [
    ("admin", admin::run),
    ("config", config::run),
    ("document", document::run),
    ("etcd", etcd::run),
    ("http", http::run),
    ("libvirt", libvirt::run),
    ("ovsdb", ovsdb::run),
    ("packet", packet::run),
    ("snapshot", snapshot::run),
    ("token", token::run),
];

/// Makes the program of one fuzzer: with libFuzzer where it is built for that, else one that runs files.
#[macro_export]
macro_rules! program {
    ($target:ident) => {
        #[cfg(fuzzing)]
        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $crate::$target::run(bytes));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            $crate::run_files($crate::$target::run, std::env::args_os().skip(1).map(Into::into))
        }
    };
}

/// Runs each of these files, or each file in these directories.
///
/// # Errors
/// If one cannot be read.
pub fn run_files(run: Run, paths: impl Iterator<Item = PathBuf>) -> std::io::Result<()> {
    for path in paths {
        for file in files(&path)? {
            println!("{}", file.display());
            run(&fs::read(&file)?);
        }
    }
    Ok(())
}

/// Returns a file, or the files in a directory, in order.
fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files: Vec<PathBuf> =
        fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a corpus, and says which input is at fault.
    fn replay(target: &str) {
        let (_, run) = TARGETS.into_iter().find(|(name, _)| *name == target).expect("a fuzzer");
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        let files = files(&corpus).expect("a corpus");
        assert!(!files.is_empty(), "{} is empty", corpus.display());
        for file in files {
            let bytes = fs::read(&file).expect("readable");
            if std::panic::catch_unwind(|| run(&bytes)).is_err() {
                panic!(
                    "{} breaks a promise: run it with `cargo run --bin {target} {}`",
                    file.display(),
                    file.display()
                );
            }
        }
    }

    macro_rules! replayed {
        ($($target:ident)*) => {
            $(#[test]
            fn $target() {
                replay(stringify!($target));
            })*

            #[test]
            fn each_fuzzers_corpus_is_run_here() {
                assert_eq!(TARGETS.map(|(name, _)| name), [$(stringify!($target)),*]);
            }
        };
    }

    replayed!(admin config document etcd http libvirt ovsdb packet snapshot token);
}
