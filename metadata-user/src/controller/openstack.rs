//! Reads of an OpenStack: Keystone, Nova and Neutron.
