//! The body of an answer, which notes when hyper has all of it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

use super::progress::Progress;

/// A body that is ready. hyper drops it when it has taken all of it, or when the connection ends before that.
#[derive(Debug)]
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
