//! What a request asks for beyond Nova's answers: an entity tag, a wait for a change, a subtree, or a path of the service's own.
//!
//! Promises: a request that asks for none of it costs a look for a question mark and for one header, and is answered as
//! without this; a document is looked at anew for each answer, so nobody is told of a change that is undone.

use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderValue, IF_NONE_MATCH};
use tokio::time::Instant;

use super::access::Access;
use super::exchange::{Change, Exchange};
use super::{signed, target};
use crate::api::{Answer, Content, Known, Look, Own, Query, QueryError, Reply};

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asks {
    own: Option<Own>,
    query: Query,
    /// Whether it names tags that its client has.
    is_conditional: bool,
}

/// Returns what a request asks for; `None`: nothing.
///
/// # Errors
/// [`QueryError`] if that cannot be.
pub(super) fn asks<C: Access>(exchange: &Exchange<C>) -> Result<Option<Asks>, QueryError> {
    let (method, target) = (exchange.method(), target::of(exchange.method(), exchange.uri()));
    let (own, is_conditional) = (exchange.about().own, exchange.headers().contains_key(IF_NONE_MATCH));
    let may_ask = own.is_some() || is_conditional || target.contains('?');
    if !may_ask || !matches!(*method, Method::GET | Method::HEAD) {
        return Ok(None);
    }
    let policy = exchange.shared.content.caller().policy;
    if !policy.extensions.enabled {
        return Ok(None);
    }
    let own = own.filter(|own| signed::is_there(*own, target, &policy));
    let query = Query::of(target)?;
    let asks_something = own.is_some() || is_conditional || !query.is_empty();
    Ok(asks_something.then_some(Asks { own, query, is_conditional }))
}

/// Looks at the content. Returns what becomes of the request; `None`: it waits for a change.
pub(super) fn look<C: Access>(exchange: &mut Exchange<C>, content: &Content, asks: Asks) -> Option<Reply> {
    if let Some(own) = asks.own.filter(|own| own.is_signed()) {
        return Some(Reply::Answer(signed::answer(exchange, content, own)));
    }
    let policy = exchange.shared.content.caller().policy.with(&content.policy());
    let wants_attributes = asks.own == Some(Own::Events);
    let attributes = wants_attributes.then(|| exchange.shared.content.attributes(content.uuid())).flatten();
    let beside = (&policy, attributes.as_deref());
    let Look { reply, etag, is_waited_for } = Look::at(content, &exchange.asked(), asks.own, &asks.query, beside);
    exchange.set_etag(etag);
    let Some(etag) = etag else { return Some(reply) };
    if let Some(wait) = asks.query.wait.filter(|_| is_waited_for) {
        let known = exchange.change.map_or(wait.known, |change| Known::Tag(change.known));
        let is_current = match known {
            Known::Current => true,
            Known::Tag(known) => known == etag,
            Known::Other => false,
        };
        let change = exchange.change.get_or_insert_with(|| {
            let longest = policy.extensions.longest_wait;
            let time = wait.time.unwrap_or(longest).min(longest);
            Change { known: etag, until: Instant::now() + time, is_over: time == Duration::ZERO }
        });
        if is_current && !change.is_over {
            return None;
        }
    }
    let names = |header: &HeaderValue| header.to_str().is_ok_and(|header| etag.is_in(header));
    let has_it = asks.is_conditional && exchange.headers().get_all(IF_NONE_MATCH).iter().any(names);
    Some(if has_it { Reply::Answer(Answer::not_modified()) } else { reply })
}
