//! The fuzzer `etcd`.
#![cfg_attr(fuzzing, no_main)]

fuzz::program!(etcd);
