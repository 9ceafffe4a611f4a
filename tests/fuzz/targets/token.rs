//! The fuzzer `token`.
#![cfg_attr(fuzzing, no_main)]

fuzz::program!(token);
