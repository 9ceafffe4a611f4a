//! Local facts: a real ovsdb-server, and domain XML as libvirt writes it.
