//! A page that is kept beside an instance's facts: an answer that is given as it is.

use std::fmt;

use bytes::Bytes;

/// An answer that comes before what would be rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRecord {
    /// The path: segments joined by single slashes, without a leading or trailing one, and without `ec2/`.
    pub path: Box<str>,
    /// What is answered; `None`: there is no such path (404).
    pub answer: Option<PageAnswer>,
}

/// An answer with status 200. `Debug` leaves the body out.
#[derive(Clone, PartialEq, Eq)]
pub struct PageAnswer {
    /// The `Content-Type` header.
    pub content_type: Option<Box<str>>,
    /// The body. A `random_seed` in it is replaced in every answer.
    pub body: Bytes,
}

impl fmt::Debug for PageAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageAnswer").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}
