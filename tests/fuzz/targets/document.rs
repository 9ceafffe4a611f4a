//! The fuzzer `document`.
#![cfg_attr(fuzzing, no_main)]

fuzz::program!(document);
