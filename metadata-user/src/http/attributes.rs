//! What a guest writes about itself for its operator: `PUT`, `DELETE`, and reading it back; and that it acknowledges an event, which is
//! kept with that.
//!
//! Promises: a value is kept whole or not at all; an instance has no more of them, and writes no faster, than its node allows;
//! who writes none costs nothing.
//!
//! Left out: whether the guest may ask at all, which is decided before (`admission`).

use hyper::Method;
use hyper::header::{ALLOW, HeaderValue};

use super::access::Access;
use super::exchange::Exchange;
use super::{record, target};
use crate::api::{Answer, AttributePath, Content, acknowledged_event};
use crate::record::{AttributeError, LONGEST_ATTRIBUTE};

/// Answers a request for attributes.
pub(super) fn answer<C: Access>(exchange: &mut Exchange<C>, content: &Content) -> Answer {
    let (instance, target) = (content.uuid(), target::of(exchange.method(), exchange.uri()));
    let guest = &exchange.shared.content;
    let accept = exchange.asked().accept;
    let Some(path) = AttributePath::of(target) else { return Answer::not_found(accept) };
    let value = match (exchange.method(), &path) {
        (&Method::GET | &Method::HEAD, _) => return path.read(guest.attributes(instance).as_deref(), accept),
        (&Method::PUT, AttributePath::Value(..)) => text(exchange).map(Some),
        (&Method::DELETE, AttributePath::Value(..)) => Ok(None),
        _ => {
            let answer = Answer::attribute_method(accept);
            exchange.add_header(ALLOW, HeaderValue::from_static("GET, HEAD, PUT, DELETE"));
            return answer;
        }
    };
    let AttributePath::Value(space, key) = &path else { return Answer::not_found(accept) };
    let kept = value.and_then(|value| guest.write_attribute(instance, (space, key), value.as_deref()));
    answered(exchange, kept)
}

/// Answers a request that acknowledges an event.
pub(super) fn acknowledge<C: Access>(exchange: &Exchange<C>, content: &Content) -> Answer {
    let (accept, target) = (exchange.asked().accept, target::of(exchange.method(), exchange.uri()));
    let event = acknowledged_event(target);
    let (Some(id), Some(notices)) = (event, content.notices()) else { return Answer::not_found(accept) };
    if !notices.event(&id).is_some_and(|event| event.acknowledge) {
        return Answer::not_found(accept);
    }
    let is_current = |id: &str| notices.event(id).is_some();
    answered(exchange, exchange.shared.content.acknowledge(content.uuid(), &id, &is_current))
}

/// Answers, and counts, by what became of it.
fn answered<C: Access>(exchange: &Exchange<C>, kept: Result<bool, AttributeError>) -> Answer {
    match kept {
        Ok(_) => {
            record::attribute_written(&exchange.shared.terms.counters);
            Answer::attribute_kept()
        }
        Err(error) => {
            record::attribute_refused(&exchange.shared.terms.counters);
            Answer::attribute_refused(error, exchange.asked().accept)
        }
    }
}

/// Returns the value that a request brings.
fn text<C: Access>(exchange: &Exchange<C>) -> Result<String, AttributeError> {
    let asked = exchange.asked();
    let announced = asked.content_length.unwrap_or(0);
    if announced > LONGEST_ATTRIBUTE as u64 || asked.body.len() > LONGEST_ATTRIBUTE {
        return Err(AttributeError::TooLong);
    }
    let text = std::str::from_utf8(asked.body).map_err(|_| AttributeError::NoText)?;
    if text.contains('\0') { Err(AttributeError::NoText) } else { Ok(text.to_owned()) }
}
