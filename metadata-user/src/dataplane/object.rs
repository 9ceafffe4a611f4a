//! The eBPF object, embedded by `build.rs`.

/// The programs and maps of the kernel half, as an ELF file; empty if this was built without
/// `cargo xtask build`.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/metadata.o"));
