//! The fuzzer `snapshot`.
#![cfg_attr(fuzzing, no_main)]

fuzz::program!(snapshot);
