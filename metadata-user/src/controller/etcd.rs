//! The controller's side of etcd: the election, fenced writes, and the back channel.
