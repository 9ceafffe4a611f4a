//! From Nova's answers and Neutron's ports to a document that renders to the same answers.
