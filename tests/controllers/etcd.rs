//! The `etcd` source, with a real etcd.
