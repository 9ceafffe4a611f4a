//! What a guest may ask beyond Nova's trees: entity tags and waiting for change on every path, a subtree as one document,
//! and paths of the service's own.
//!
//! Promises:
//! - nothing here is in a listing, and a request that does not ask for it is answered as without it;
//! - an entity tag is made of the answer's bytes alone, so equal answers have equal tags in every daemon and on every node;
//! - what policies tell apart from everything else (user data, password, identity) is in no subtree.
//!
//! Left out: who may ask, waiting itself, and HTTP's headers (`http`).

mod attributes;
mod capabilities;
mod etag;
mod notices;
pub mod proof;
mod query;
mod subtree;

use std::borrow::Cow;
use std::cell::Cell;

use bytes::Bytes;

pub use attributes::AttributePath;
pub use etag::ETag;
pub use query::{Known, Query, QueryError, Wait};

use super::error::Refusal;
use super::found::{self, Found};
use super::own::Own;
use super::{Answer, Content, JSON, PLAIN, Reply, Request, Status};
use crate::policy::Policy;
use crate::record::Attributes;

/// Returns the answer to a GET of one of the service's own paths, of an instance with this policy.
fn answer(
    own: Own,
    content: &Content,
    request: &Request<'_>,
    policy: &Policy,
    attributes: Option<&Attributes>,
) -> Answer {
    let notices = || content.notices();
    match own {
        Own::Capabilities => json(capabilities::render(policy).into()),
        Own::Events => json(notices::events(notices(), attributes).into()),
        Own::Tags => {
            let tag = notices::tag(notices(), request.target).map(|text| Found::new(PLAIN, text));
            found::answer(tag.ok_or(Refusal::NotFound), request)
        }
        // Where nothing is signed, and nothing written.
        Own::Token | Own::Dynamic | Own::Attributes | Own::Acknowledgement => {
            found::answer(Err(Refusal::NotFound), request)
        }
    }
}

/// Tells whether what is at such a path may change while somebody waits for that.
fn is_waited_for(own: Own) -> bool {
    match own {
        // The configuration's, which wakes nobody.
        Own::Capabilities => false,
        // Of proofs each is another; attributes are the guest's own.
        Own::Token | Own::Dynamic | Own::Attributes | Own::Acknowledgement => false,
        Own::Events | Own::Tags => true,
    }
}

/// What a look at an instance's content found.
#[derive(Debug)]
pub struct Look {
    /// What becomes of the request.
    pub reply: Reply,
    /// The tag of a document that was found; `None` if none was.
    pub etag: Option<ETag>,
    /// Whether the document can change while somebody waits for that.
    pub is_waited_for: bool,
}

impl Look {
    /// Looks at what a GET or HEAD request asks for, of an instance whose guest has written these attributes.
    #[must_use]
    pub fn at(
        content: &Content,
        request: &Request<'_>,
        own: Option<Own>,
        query: &Query,
        (policy, attributes): (&Policy, Option<&Attributes>),
    ) -> Self {
        if let Some(own) = own {
            let answer = answer(own, content, request, policy, attributes);
            let etag = (answer.status == Status::Ok).then(|| ETag::of(&answer.body, false));
            return Self { reply: Reply::Answer(answer), etag, is_waited_for: is_waited_for(own) };
        }
        let reply = |request: &Request<'_>| {
            let subtree = query.recursive.then(|| subtree::reply(content, request)).flatten();
            subtree.unwrap_or_else(|| content.reply(request))
        };
        let is_seeded = Cell::new(false);
        let seed = |seed: &mut [u8; 512]| {
            is_seeded.set(true);
            seed.fill(0);
        };
        let found = reply(&Request { seed: &seed, ..*request });
        let Reply::Answer(Answer { status: Status::Ok, body, .. }) = &found else {
            return Self { reply: found, etag: None, is_waited_for: false };
        };
        let etag = Some(ETag::of(body, is_seeded.get()));
        // A tag is of what stays equal; the answer has a fresh seed.
        let reply = if is_seeded.get() { reply(request) } else { found };
        Self { reply, etag, is_waited_for: true }
    }
}

impl Answer {
    /// Returns the answer to a request whose query cannot be.
    #[must_use]
    pub fn bad_query(error: QueryError, accept: Option<&str>) -> Self {
        Self::refusal(Refusal::Query(error), accept)
    }

    /// Returns the answer to a request that would wait for a change, where the instance's waits are too many.
    #[must_use]
    pub fn too_many_waits(accept: Option<&str>) -> Self {
        Self::refusal(Refusal::TooManyWaits, accept)
    }

    /// Returns the answer to a request for a signature, where the instance has got as many as it may.
    #[must_use]
    pub fn too_many_signatures(accept: Option<&str>) -> Self {
        Self::refusal(Refusal::TooManySignatures, accept)
    }

    /// Returns the answer to a request for a signature, where there is no key.
    #[must_use]
    pub fn no_key(accept: Option<&str>) -> Self {
        Self::refusal(Refusal::NoKey, accept)
    }

    /// Returns the answer to a request for a signature that a proxy forwards.
    #[must_use]
    pub fn forwarded_signature(accept: Option<&str>) -> Self {
        Self::refusal(Refusal::ForwardedSignature, accept)
    }

    /// Returns the answer to a request for attributes with another method than they have.
    #[must_use]
    pub fn attribute_method(accept: Option<&str>) -> Self {
        Self::refusal(Refusal::AttributeMethod, accept)
    }

    /// Returns the answer to a request for what is not there.
    #[must_use]
    pub fn not_found(accept: Option<&str>) -> Self {
        Self::refusal(Refusal::NotFound, accept)
    }

    /// Returns the answer that says that the client has the document already.
    #[must_use]
    pub fn not_modified() -> Self {
        Self { status: Status::NotModified, content_type: None, body: Bytes::new() }
    }
}

/// Returns an answer in JSON.
fn json(body: Bytes) -> Answer {
    Answer { status: Status::Ok, content_type: Some(Cow::Borrowed(JSON)), body }
}

#[cfg(test)]
mod tests;
