//! stub

pub mod golden;
