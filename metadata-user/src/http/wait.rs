//! Requests that wait: for content that is not there yet, or for the controller of an unchanged OpenStack.
//!
//! Promises: a request before its content waits no longer than [`super::Times::ready`], since some clients ask but once or
//! twice; one for a path that was not prefetched, or for the POST of a password, no longer than a request may take. Both
//! are 503 then. Nothing else waits.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::access::Access;
use super::error::Ended;
use super::exchange::Exchange;
use super::record;
use super::route::{Step, posted, route};
use crate::api::Answer;
use crate::origin::{Outcome, Want};
use crate::record::InstanceId;

/// How often a request that waits looks for its content. Looking is cheap, and many may wait while thousands of documents
/// arrive, each of which would wake all of them.
const LOOK: Duration = Duration::from_millis(100);

/// Waits until the content is there, and returns the next step; an answer without content when the time is over or the
/// daemon ends.
pub(super) async fn for_content<C: Access>(exchange: &Exchange<C>) -> Result<Step, Ended> {
    let shared = &exchange.shared;
    let deadline = Instant::now() + shared.progress.patience_for_content();
    record::waits(&shared.counters);
    loop {
        let now = Instant::now();
        if now >= deadline || shared.drain.has_begun() {
            return Ok(Step::Answer(None));
        }
        tokio::select! {
            () = sleep_until(deadline.min(now + LOOK)) => {}
            () = shared.drain.begun() => {}
        }
        match route(exchange)? {
            Step::Wait => {}
            step => return Ok(step),
        }
    }
}

/// Waits for the controller, then answers. Who is asking is looked at again after it.
pub(super) async fn for_controller<C: Access>(
    exchange: &Exchange<C>,
    mut instance: InstanceId,
    mut want: Want,
) -> Result<Option<Answer>, Ended> {
    let shared = &exchange.shared;
    let deadline = Instant::now() + shared.progress.patience();
    loop {
        let was_page = matches!(want, Want::Page(_));
        let asked = timeout_at(deadline, shared.content.ask(instance, want));
        let outcome = asked.await.unwrap_or(Outcome::Unavailable);
        if let Outcome::Posted(status) = outcome {
            return posted(exchange, instance, status);
        }
        match route(exchange)? {
            Step::Answer(answer) => return Ok(answer),
            // The page was read first, to know whether there is a password.
            Step::Ask(next, password @ Want::Password { .. }) if was_page && outcome == Outcome::Kept => {
                (instance, want) = (next, password);
            }
            Step::Ask(..) | Step::Wait => return Ok(None),
        }
    }
}
