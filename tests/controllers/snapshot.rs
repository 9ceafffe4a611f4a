//! What a node keeps on disk, and what it serves after a crash.
