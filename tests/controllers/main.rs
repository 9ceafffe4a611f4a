//! Real controllers, and what becomes of guests when they change, fail, lie or come back; a real Prometheus, and the haproxy that guests
//! move away from.
#![allow(clippy::unwrap_used, reason = "tests end where something is not as they need it")]

mod commands;
mod controller;
mod etcd;
mod facts;
mod fleet;
mod leader;
mod nova;
mod openstack;
mod prometheus;
mod rabbitmq;
mod reads;
mod rollout;
mod snapshot;
