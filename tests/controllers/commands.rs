//! Operators' commands on documents, in a folder and in etcd.
