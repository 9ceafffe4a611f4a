//! A heap that overwrites what it frees.
//!
//! Promises: memory of this allocator is overwritten when it is freed, or moved by growing. So every copy of metadata,
//! passwords, documents and clear text of the snapshot is erased, also in buffers of parsers, of HTTP connections and
//! of renderings, which no type of ours could reach. Only the binary uses it.
//!
//! Left out: stacks and registers; memory of C libraries (the crypto library overwrites its own); the kernel's
//! socket buffers and page cache; memory that is still in use, such as a connection's buffer until it is written again.

use std::alloc::{GlobalAlloc, Layout, System};
use std::arch::asm;

/// The system's allocator, with memory overwritten before it is freed.
#[derive(Clone, Copy, Debug, Default)]
pub struct WipingHeap;

/// Overwrites memory in a way that the compiler may not optimise away, although the memory is not read again.
///
/// # Safety
/// `pointer` must be valid for writes of `length` bytes.
unsafe fn wipe(pointer: *mut u8, length: usize) {
    // SAFETY: the caller's promise.
    unsafe { pointer.write_bytes(0, length) };
    // SAFETY: no instruction at all; the compiler must assume that it reads memory through the pointer.
    unsafe { asm!("/* {0} */", in(reg) pointer, options(nostack, preserves_flags, readonly)) };
}

// SAFETY: memory comes from the system's allocator and goes back to it with the layout it was asked for; in between only
// its own bytes are written. Nothing here allocates or panics.
unsafe impl GlobalAlloc for WipingHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises about the layout are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises about the layout are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller promises that the memory is of this layout, and no longer in use.
        unsafe {
            wipe(pointer, layout.size());
            System.dealloc(pointer, layout);
        }
    }

    // `realloc` is the default one: it allocates, copies, and frees through `dealloc` above. The system's own would leave
    // the old copy behind.
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wiped_memory_holds_nothing() {
        let mut bytes = vec![0xa5_u8; 4096];
        // SAFETY: the vector has as many bytes.
        unsafe { wipe(bytes.as_mut_ptr(), bytes.len()) };
        assert!(bytes.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn memory_grows_and_shrinks_with_its_content() {
        let layout = Layout::from_size_align(64, 8).unwrap();
        // SAFETY: the layout has a size; every pointer is used within its size, and given back with its layout.
        unsafe {
            let pointer = WipingHeap.alloc(layout);
            pointer.write_bytes(7, 64);
            let pointer = WipingHeap.realloc(pointer, layout, 100_000);
            assert!(std::slice::from_raw_parts(pointer, 64).iter().all(|byte| *byte == 7));
            let large = Layout::from_size_align(100_000, 8).unwrap();
            let pointer = WipingHeap.realloc(pointer, large, 16);
            assert!(std::slice::from_raw_parts(pointer, 16).iter().all(|byte| *byte == 7));
            WipingHeap.dealloc(pointer, Layout::from_size_align(16, 8).unwrap());
        }
    }
}
