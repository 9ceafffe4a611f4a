//! Requests that wait: for content that is not there yet, for the controller of an unchanged OpenStack, for a change of what is
//! there, or because there are too many of them.
//!
//! Promises: a request before its content waits as long as its client can ([`super::patience`]), and is woken by nothing but its own
//! instance's content; one for a path that was not prefetched, or for the POST of a password, waits no longer than a request may take.
//! Both are 503 then. One for what services answer on demand waits as long, and is answered without that then. One beyond its instance's rate waits [`super::rate::HOLD`]. One that asks to wait for a change
//! is woken by its own instance's changes, and answered with what there is when its time is over, the daemon ends, its connection's place
//! is needed, or its guest sends nothing more; it has neither a thread nor a timer of its own. Nothing else waits. If a guest leaves while its
//! request waits for content, its place is free at once: a reset ends the connection; after a half-close the answer is 503, which a guest
//! that has left refuses, and one that still reads can retry.

use std::sync::Arc;

use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::access::Access;
use super::error::Ended;
use super::exchange::Exchange;
use super::rate::HOLD;
use super::record::{self, WaitEnd};
use super::route::{Step, asked, count_and_route, route, written};
use crate::api::{Answer, Written};
use crate::record::InstanceId;

/// Waits until the content has arrived, and returns the next step; an answer without content after the time-out, a half-close by the
/// guest, or when the daemon ends. A client that gives up after a 503 gets no answer then: the next daemon accepts already, or soon.
pub(super) async fn for_content<C: Access>(exchange: &mut Exchange<C>) -> Result<Step, Ended> {
    let shared = Arc::clone(&exchange.shared);
    let wait = shared.terms.patience.of(exchange.headers());
    let deadline = Instant::now() + wait.time;
    record::waits(&shared.terms.counters);
    let _held = shared.progress.hold();
    loop {
        if Instant::now() >= deadline {
            return Ok(Step::Answer(None));
        }
        if shared.drain.is_closing() {
            return if wait.is_final { Err(Ended::Unanswered) } else { Ok(Step::Answer(None)) };
        }
        tokio::select! {
            () = sleep_until(deadline) => {}
            () = shared.drain.closes() => {}
            () = shared.content.ready() => {}
            () = shared.progress.guest_closed() => return Ok(Step::Answer(None)),
        }
        match route(exchange)? {
            Step::Wait => {}
            step => return Ok(step),
        }
    }
}

/// Waits until what the request asks for changes, and returns the next step: the answer, unless the content has gone.
pub(super) async fn for_change<C: Access>(exchange: &mut Exchange<C>, instance: InstanceId) -> Result<Step, Ended> {
    let shared = Arc::clone(&exchange.shared);
    let most = shared.content.caller().policy.extensions.waits_per_instance;
    let Some(_place) = shared.terms.waits.enter(instance, most) else {
        record::wait_refused(&shared.terms.counters);
        return Ok(Step::Answer(Some(Answer::too_many_waits(exchange.asked().accept))));
    };
    let mut recorded = record::Wait::begin(&shared.terms.counters);
    let until = exchange.change.map_or_else(Instant::now, |change| change.until);
    let waiting = shared.progress.wait(until);
    let _held = shared.progress.hold();
    loop {
        let mut is_closed = false;
        tokio::select! {
            () = shared.content.changed() => {}
            () = shared.progress.wait_may_be_over() => {}
            () = shared.drain.closes() => is_closed = true,
            () = shared.progress.guest_closed() => is_closed = true,
        }
        let end = if is_closed || shared.progress.must_leave() {
            Some(WaitEnd::Closed)
        } else {
            shared.progress.is_wait_over().then_some(WaitEnd::TimedOut)
        };
        if let Some(change) = &mut exchange.change {
            change.is_over = end.is_some();
        }
        match route(exchange)? {
            Step::Change(_) if end.is_none() => {}
            step => {
                recorded.ends(end.unwrap_or(WaitEnd::Changed));
                // What the answer takes counts from here on.
                drop(waiting);
                return Ok(step);
            }
        }
    }
}

/// Waits a moment, and returns the next step: the answer 429 if the instance still asks too much.
pub(super) async fn for_rate<C: Access>(exchange: &mut Exchange<C>) -> Result<Step, Ended> {
    let shared = Arc::clone(&exchange.shared);
    record::limited(&shared.terms.counters);
    tokio::select! {
        () = sleep(HOLD.min(shared.progress.patience())) => {}
        () = shared.drain.closes() => {}
    }
    Ok(match count_and_route(exchange)? {
        Step::TooMany => Step::Answer(Some(Answer::too_many_requests(exchange.asked().accept))),
        step => step,
    })
}

/// Asks the services that are asked when a guest reads, and returns the answer: without theirs, if there are none in the time that a request
/// may take.
pub(super) async fn for_services<C: Access>(
    exchange: &mut Exchange<C>,
    instance: InstanceId,
    answer: Answer,
) -> Result<Step, Ended> {
    let shared = Arc::clone(&exchange.shared);
    let deadline = Instant::now() + shared.progress.patience();
    let members = timeout_at(deadline, shared.content.on_demand(instance)).await.ok().flatten();
    Ok(Step::Answer(asked(exchange, instance, answer, &members.unwrap_or_default())?))
}

/// Does what must be done at the controller or in the store before the answer, each thing once. Who is asking is looked at
/// again after each.
pub(super) async fn for_controller<C: Access>(exchange: &mut Exchange<C>, mut step: Step) -> Result<Step, Ended> {
    let shared = Arc::clone(&exchange.shared);
    let deadline = Instant::now() + shared.progress.patience();
    if let Step::Fetch(instance, path) = step {
        // After the time as after a failure, what is in the store decides.
        let _ = timeout_at(deadline, shared.content.fetch(instance, path)).await;
        step = route(exchange)?;
    }
    match step {
        Step::Answer(_) | Step::Change(_) => Ok(step),
        Step::Keep(instance, write) => {
            let kept = timeout_at(deadline, shared.content.keep(instance, write)).await;
            Ok(Step::Answer(written(exchange, instance, kept.unwrap_or(Written::Unavailable))?))
        }
        Step::Ask(..) => Ok(step),
        Step::Fetch(..) | Step::Wait | Step::TooMany => Ok(Step::Answer(None)),
    }
}
