//! The fuzzer `packet`.
#![cfg_attr(fuzzing, no_main)]

fuzz::program!(packet);
