//! Why a connection is refused or closed. The operator reads these; the guest sees a closed connection.

use std::net::SocketAddr;

/// Why a connection is closed before its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The address is not one that the kernel half writes.
    #[error("{0} is not an identity address")]
    Foreign(SocketAddr),
    /// The tag is of no binding, or of one that has ended.
    #[error("no binding has the tag {0}")]
    Unknown(u32),
    /// The port has as many connections as it may have.
    #[error("the port with tag {0} has too many connections")]
    PortLimit(u32),
    /// The port's instance has as many connections as it may have.
    #[error("the instance of the port with tag {0} has too many connections")]
    InstanceLimit(u32),
    /// There are as many connections as there may be.
    #[error("there are too many connections")]
    TotalLimit,
}

/// Why a request gets no answer, and its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ended {
    /// The connection's binding has ended.
    #[error("the binding has ended")]
    Binding,
    /// The daemon ends while the request waits, and its client would give up after a 503.
    #[error("the daemon ends, and the client asks again if it is not answered")]
    Unanswered,
    /// The request ended before it was complete.
    #[error("the request is not complete")]
    Request,
}
