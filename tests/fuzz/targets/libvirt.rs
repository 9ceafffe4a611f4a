//! The fuzzer `libvirt`.
#![cfg_attr(fuzzing, no_main)]

fuzz::program!(libvirt);
