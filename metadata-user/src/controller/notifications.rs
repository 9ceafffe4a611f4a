//! Notifications of Nova and Neutron, consumed from RabbitMQ.
