//! Who asks, what they may read, and what that answers.

use super::access::{Access, Resolution};
use super::error::Ended;
use super::exchange::Exchange;
use crate::api::{Answer, Effect, NovaPages, Reply};
use crate::origin::Want;
use crate::record::InstanceId;
use crate::store::Content;

/// What to do next about a request.
pub(super) enum Step {
    /// Answer it; `None`: the content is not there.
    Answer(Option<Answer>),
    /// Ask the controller first.
    Ask(InstanceId, Want),
    /// Wait for the content, or answer that it is not there.
    Wait,
}

/// Asks the content of whoever owns the connection now. Does not wait.
pub(super) fn route<C: Access>(exchange: &Exchange<C>) -> Result<Step, Ended> {
    let asked = exchange.asked();
    let instance = match owner(exchange)? {
        None => return Ok(Step::Wait),
        Some(Content::Rendered(instance)) => instance,
        Some(Content::NovaPages(pages)) => {
            return Ok(match pages.reply(&asked) {
                Reply::Answer(answer) => Step::Answer(Some(answer)),
                Reply::Missing(path) => Step::Ask(pages.uuid(), Want::Page(path)),
                Reply::Password { path, password } => Step::Ask(pages.uuid(), Want::Password { path, password }),
            });
        }
    };
    let answer = instance.answer(&asked);
    let Some(Effect::SetPassword(password)) = &answer.effect else {
        return Ok(Step::Answer(Some(answer)));
    };
    if exchange.shared.content.keep_password(instance.record().uuid, password.clone()) {
        return Ok(Step::Answer(Some(answer)));
    }
    // Another request was first: the answer is that of the changed instance.
    Ok(Step::Answer(match owner(exchange)? {
        Some(Content::Rendered(instance)) => Some(instance.answer(&asked)),
        Some(Content::NovaPages(_)) | None => None,
    }))
}

/// Returns the answer to a posted password that the controller answered with this status.
pub(super) fn posted<C: Access>(
    exchange: &Exchange<C>,
    instance: InstanceId,
    status: u16,
) -> Result<Option<Answer>, Ended> {
    let is_same = owner(exchange)?.is_some_and(|content| content.uuid() == instance);
    Ok(if is_same { NovaPages::posted(status, &exchange.asked()) } else { None })
}

/// Returns what the connection's owner may read now; `None`: its content is not there (yet).
fn owner<C: Access>(exchange: &Exchange<C>) -> Result<Option<Content>, Ended> {
    match exchange.shared.content.resolve() {
        Resolution::Ended => Err(Ended::Binding),
        Resolution::NotReady => Ok(None),
        Resolution::Ready(content) => Ok(Some(content)),
    }
}
