//! The `nova` source, with Nova's own metadata application.
//!
//! The source, the store and the guests' side run in this process, on facts that the test gives; Nova runs as it does in
//! an OpenStack. Guests' connections are pipes, so no namespace is needed.

mod cloud;
mod daemon;
mod golden;
mod outage;
mod password;
mod slow;
mod trust;
