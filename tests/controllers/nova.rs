//! The `nova` source, with Nova's own metadata application.
