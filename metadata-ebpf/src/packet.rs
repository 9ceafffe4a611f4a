//! Bounds-checked packet views.
