//! Bodies: of a request, read within bounds; of an answer, which notes when hyper has all of it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, HeaderMap};

use super::error::Ended;
use super::progress::Progress;

/// Reads a body, at most one byte more than it may have: whoever takes it refuses it by its length.
pub(super) async fn read(mut body: Incoming, announced: Option<u64>, most: usize) -> Result<Vec<u8>, Ended> {
    let limit = most + 1;
    let mut bytes = Vec::new();
    if announced.is_some_and(|length| length > most as u64) {
        return Ok(bytes);
    }
    while bytes.len() < limit {
        match body.frame().await {
            None => break,
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    bytes.extend_from_slice(data);
                }
            }
            // The guest left, or its chunks are no chunks.
            Some(Err(_)) => return Err(Ended::Request),
        }
    }
    bytes.truncate(limit);
    Ok(bytes)
}

/// Returns what a request says about its body's length.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A body that is ready. hyper drops it when it has taken all of it, or when the connection ends before that.
pub(super) struct AnswerBody {
    bytes: Full<Bytes>,
    progress: Arc<Progress>,
}

impl AnswerBody {
    pub(super) fn new(bytes: Full<Bytes>, progress: &Arc<Progress>) -> Self {
        Self { bytes, progress: Arc::clone(progress) }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
        Pin::new(&mut self.bytes).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.progress.answered();
    }
}
