//! Which instance is read next, and when: pure, without a clock or I/O.
