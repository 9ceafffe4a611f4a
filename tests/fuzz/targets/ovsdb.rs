//! The fuzzer `ovsdb`.
#![cfg_attr(fuzzing, no_main)]

fuzz::program!(ovsdb);
