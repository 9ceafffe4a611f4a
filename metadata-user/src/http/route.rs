//! Who asks, what their policy lets them read, and what that answers.

use hyper::Method;

use super::access::{Access, Resolution};
use super::admission;
use super::error::Ended;
use super::exchange::Exchange;
use super::{attributes, extended};
use crate::api::{About, Answer, Content, Reply, Status, Subject, Write, Written};
use crate::identity::Tag;
use crate::on_demand::Member;
use crate::record::InstanceId;

/// What to do next about a request.
pub(super) enum Step {
    /// Answer it; `None`: the content is not there.
    Answer(Option<Answer>),
    /// Keep what the guest wrote, then answer.
    Keep(InstanceId, Write),
    /// Let the controller read this path, then look again.
    Fetch(InstanceId, String),
    /// Ask the services that are asked when a guest reads, then answer with this and with what they answer.
    Ask(InstanceId, Answer),
    /// Wait for the content, or answer that it is not there.
    Wait,
    /// Wait a moment and count the request again: the instance asks too much.
    TooMany,
    /// Wait until the content of this instance changes, then look again.
    Change(InstanceId),
}

/// Asks the content of whoever owns the connection now, if their policy lets the request pass. Does not wait.
pub(super) fn route<C: Access>(exchange: &mut Exchange<C>) -> Result<Step, Ended> {
    let owner = owner(exchange)?;
    Ok(ask(exchange, owner))
}

/// As [`route`], for a request that has not been counted yet.
pub(super) fn count_and_route<C: Access>(exchange: &mut Exchange<C>) -> Result<Step, Ended> {
    let owner = owner(exchange)?;
    let (shared, tag) = (&exchange.shared, Tag(exchange.shared.content.name()));
    let may_ask = shared.terms.rates.as_ref().is_none_or(|rates| rates.count(tag, owner.as_ref()));
    Ok(if may_ask { ask(exchange, owner) } else { Step::TooMany })
}

fn ask<C: Access>(exchange: &mut Exchange<C>, owner: Option<Content>) -> Step {
    let Some(content) = owner else { return Step::Wait };
    if let Some(answer) = admission::check(exchange, &content) {
        return Step::Answer(answer);
    }
    if exchange.means_attributes() {
        return Step::Answer(Some(attributes::answer(exchange, &content)));
    }
    if exchange.acknowledges() {
        return Step::Answer(Some(attributes::acknowledge(exchange, &content)));
    }
    let asks = match extended::asks(exchange) {
        Ok(None) => None,
        Ok(Some(asks)) => Some(asks),
        Err(error) => return Step::Answer(Some(Answer::bad_query(error, exchange.asked().accept))),
    };
    let reply = match asks {
        None => content.reply(&exchange.asked()),
        Some(asks) => match extended::look(exchange, &content, asks) {
            Some(reply) => reply,
            None => return Step::Change(content.uuid()),
        },
    };
    match reply {
        Reply::Answer(answer) => {
            if is_user_data(exchange.about(), exchange.method().as_str(), &answer) {
                exchange.shared.content.note_user_data_read(content.uuid());
            }
            if is_asked_for(exchange, &answer) {
                // Each answer is another one.
                exchange.set_etag(None);
                return Step::Ask(content.uuid(), answer);
            }
            Step::Answer(Some(answer))
        }
        Reply::Keep(write) => Step::Keep(content.uuid(), write),
        Reply::Fetch(path) => Step::Fetch(content.uuid(), path),
    }
}

/// Tells whether an answer holds the instance's user data.
fn is_user_data(about: About, method: &str, answer: &Answer) -> bool {
    about.subject == Subject::UserData && answer.status == Status::Ok && method != "HEAD"
}

/// Tells whether an answer is dynamic vendor data, of which some is asked for when a guest reads it.
fn is_asked_for<C: Access>(exchange: &Exchange<C>, answer: &Answer) -> bool {
    let is_read = answer.status == Status::Ok && exchange.method() == Method::GET;
    is_read && exchange.shared.content.asks_on_demand() && exchange.about().is_dynamic_vendor_data()
}

/// Returns an answer with what the services answered for this instance, if it still asks.
pub(super) fn asked<C: Access>(
    exchange: &Exchange<C>,
    instance: InstanceId,
    answer: Answer,
    members: &[Member],
) -> Result<Option<Answer>, Ended> {
    let is_same = owner(exchange)?.is_some_and(|content| content.uuid() == instance);
    Ok(is_same.then(|| answer.with_members(members)))
}

/// Returns the answer to what a guest wrote, by what became of that.
pub(super) fn written<C: Access>(
    exchange: &Exchange<C>,
    instance: InstanceId,
    written: Written,
) -> Result<Option<Answer>, Ended> {
    let is_same = owner(exchange)?.is_some_and(|content| content.uuid() == instance);
    Ok(if is_same { written.answer(&exchange.asked()) } else { None })
}

/// Returns what the connection's owner may read now; `None`: its content is not there (yet).
fn owner<C: Access>(exchange: &Exchange<C>) -> Result<Option<Content>, Ended> {
    match exchange.shared.content.resolve() {
        Resolution::Ended => Err(Ended::Binding),
        Resolution::NotReady => Ok(None),
        Resolution::Ready(content) => Ok(Some(content)),
    }
}
