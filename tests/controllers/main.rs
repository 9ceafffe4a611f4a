//! Real controllers, and what becomes of guests when they change, fail, lie or come back.

mod commands;
mod etcd;
mod facts;
mod nova;
mod snapshot;
