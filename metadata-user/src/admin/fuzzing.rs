//! A connection of the admin socket for fuzzers: in memory, from whom they say.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::peer::Peer;
use super::{Inspect, server};

/// Answers one request of a user in these groups, where the members of `readers` may read.
pub async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    inspect: Arc<dyn Inspect>,
    user: u32,
    groups: &[u32],
    readers: Option<u32>,
) {
    server::converse(stream, inspect, server::daemon::RESOURCES, &Peer::sample(user, groups), readers, || {}).await;
}
