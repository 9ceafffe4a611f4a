//! Proof of what an instance is: tokens, and EC2's document, signed with the node's key.
//!
//! Promises: a proof is about the instance that the connection's port is bound to at that moment; an instance gets no more of
//! them per second than it may; a request that a proxy forwards gets none, and each refusal is counted by its reason. Who gets
//! none of it costs nothing.
//!
//! Left out: whether the guest may ask at all, which is decided before (`admission`): root-only reading and session tokens
//! apply as elsewhere.

use std::sync::Arc;

use super::access::Access;
use super::exchange::Exchange;
use super::issuer::Issuer;
use super::session::FORWARDED_FOR;
use super::{record, target};
use crate::api::{Answer, Content, InDynamic, Own, QueryError, Signed, Status, TokenRequest, proof};
use crate::clock;
use crate::policy::Policy;
use crate::secret::jwt;

/// The content type of a token (RFC 7519, section 10.3.1).
const JWT: &str = "application/jwt";

/// Why nothing is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Query(QueryError),
    Forwarded,
    TooMany,
    NoKey,
}

impl Refused {
    /// Returns the reason by which it is counted.
    const fn reason(self) -> &'static str {
        match self {
            Self::Query(QueryError::Nonce) => "nonce",
            Self::Query(_) => "audience",
            Self::Forwarded => "forwarded",
            Self::TooMany => "limit",
            Self::NoKey => "no_key",
        }
    }

    fn answer(self, accept: Option<&str>) -> Answer {
        match self {
            Self::Query(error) => Answer::bad_query(error, accept),
            Self::Forwarded => Answer::forwarded_signature(accept),
            Self::TooMany => Answer::too_many_signatures(accept),
            Self::NoKey => Answer::no_key(accept),
        }
    }
}

/// Tells whether a path of the service's own is there for requests of this policy.
pub(super) fn is_there(own: Own, target: &str, policy: &Policy) -> bool {
    match own {
        Own::Token => policy.identity.enabled,
        Own::Dynamic => policy.identity.enabled && InDynamic::of(target).is_some(),
        Own::Capabilities | Own::Events | Own::Tags => true,
        // Where guests have them, they are answered before (`attributes`).
        Own::Attributes | Own::Acknowledgement => false,
    }
}

/// Answers a request for what is signed.
pub(super) fn answer<C: Access>(exchange: &mut Exchange<C>, content: &Content, own: Own) -> Answer {
    let answer = match own {
        Own::Token => token(exchange, content),
        _ => dynamic(exchange, content),
    };
    answer.unwrap_or_else(|refused| {
        record::signature_refused(&exchange.shared.terms.counters, refused.reason());
        refused.answer(exchange.asked().accept)
    })
}

fn token<C: Access>(exchange: &mut Exchange<C>, content: &Content) -> Result<Answer, Refused> {
    let asked = TokenRequest::of(target::of(exchange.method(), exchange.uri())).map_err(Refused::Query)?;
    let issuer = admitted(exchange, content)?;
    let keys = issuer.keys().ok_or(Refused::NoKey)?;
    let id = jwt::random_id().map_err(|_| Refused::NoKey)?;
    let (signer, guest) = (issuer.signer(), &exchange.shared.content);
    let signed = Signed {
        issuer: &signer.issuer,
        node: &signer.node,
        port: guest.port(),
        now: clock::unix(),
        lifetime: guest.caller().policy.identity.lifetime.as_secs(),
        id: &id.to_string(),
    };
    let token = keys.token(&proof::claims(content, &asked, &signed)).map_err(|_| Refused::NoKey)?;
    record::token_signed(&exchange.shared.terms.counters);
    exchange.set_token_id(id);
    Ok(found(JWT, token))
}

fn dynamic<C: Access>(exchange: &Exchange<C>, content: &Content) -> Result<Answer, Refused> {
    let asked = exchange.asked();
    let Some(at) = InDynamic::of(asked.target) else { return Ok(Answer::not_found(asked.accept)) };
    if let InDynamic::Listing(text) = at {
        return Ok(found(InDynamic::CONTENT_TYPE, text.to_owned()));
    }
    let issuer = admitted(exchange, content)?;
    let signer = issuer.signer();
    let document = proof::document(content, &signer.issuer, &signer.node);
    if at == InDynamic::Document {
        let body = document.into();
        return Ok(Answer { status: Status::Ok, content_type: Some(InDynamic::CONTENT_TYPE.into()), body });
    }
    let keys = issuer.keys().ok_or(Refused::NoKey)?;
    let signature = keys.signature(&document).map_err(|_| Refused::NoKey)?;
    record::document_signed(&exchange.shared.terms.counters);
    Ok(found(InDynamic::CONTENT_TYPE, signature))
}

/// Returns what signs, for a request that may have something signed.
fn admitted<C: Access>(exchange: &Exchange<C>, content: &Content) -> Result<Arc<Issuer>, Refused> {
    if exchange.headers().contains_key(FORWARDED_FOR) {
        return Err(Refused::Forwarded);
    }
    let issuer = exchange.shared.terms.issuer.clone().ok_or(Refused::NoKey)?;
    if !issuer.admits(content.uuid()) {
        return Err(Refused::TooMany);
    }
    Ok(issuer)
}

fn found(content_type: &'static str, text: String) -> Answer {
    Answer { status: Status::Ok, content_type: Some(content_type.into()), body: text.into() }
}
