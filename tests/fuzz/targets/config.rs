//! The fuzzer `config`.
#![cfg_attr(fuzzing, no_main)]

fuzz::program!(config);
