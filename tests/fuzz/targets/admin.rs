//! The fuzzer `admin`.
#![cfg_attr(fuzzing, no_main)]

fuzz::program!(admin);
