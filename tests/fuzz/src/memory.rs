//! Memory with a limit for a single piece: whoever asks for more because of a few thousand bytes of input has believed a length
//! that somebody wrote.

use std::alloc::{GlobalAlloc, Layout, System};

/// Bytes. The largest piece that anything here needs is that of a snapshot's sealer, 1 MiB.
const LARGEST: usize = 16 << 20;

/// The system's allocator, with the limit.
struct Limited;

#[global_allocator]
static ALLOCATOR: Limited = Limited;

// SAFETY: every call goes to the system's allocator unchanged, or returns null, which says that there is no memory.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LARGEST {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises about the layout are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from the system's allocator with this layout, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > LARGEST {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises about pointer, layout and size are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
