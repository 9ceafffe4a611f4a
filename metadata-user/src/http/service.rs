//! A request, as a list of steps.
//!
//! 1. receive: the head, and the body of a POST, at most as much as a password may have (`body`);
//! 2. count: whether their instance asks too much (`rate`);
//! 3. route: who owns the connection now, what their policy forbids (`admission`, which asks `switches`, `privileged` and
//!    `session`), and what their content answers (`route`,
//!    `target`; `extended` where more is asked than Nova answers);
//! 4. wait: for content that is not there yet, for the controller, or for a change (`wait`);
//! 5. respond: the answer as HTTP (`respond`);
//! 6. record: what became of the request, however it ended (`record`).
//!
//! Promises: the owner of the connection is looked at for every request, and again after each wait; where the body is
//! rendered already, answering allocates nothing (the response takes over the request's header table), and the answer is
//! there before hyper polls again.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Body, Incoming};
use hyper::{Request, Response};

pub use super::access::{Access, Resolution};
use super::body::AnswerBody;
use super::error::Ended;
use super::exchange::{Exchange, Shared};
use super::route::{Step, count_and_route};
use super::wait;
use crate::api::Answer;

/// The service of one connection, as hyper drives it.
#[derive(Debug)]
pub(super) struct Service<C> {
    shared: Arc<Shared<C>>,
}

impl<C: Access> Service<C> {
    pub(super) fn new(shared: Arc<Shared<C>>) -> Self {
        Self { shared }
    }
}

type Answered = Result<Response<AnswerBody>, Ended>;

/// An answer that is there at once, or after something was waited for.
pub(super) enum Answering {
    Now(Option<Answered>),
    Later(Pin<Box<dyn Future<Output = Answered> + Send>>),
}

impl Future for Answering {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        match self.get_mut() {
            // hyper does not poll again after that.
            Self::Now(answer) => answer.take().map_or(Poll::Pending, Poll::Ready),
            Self::Later(answer) => answer.as_mut().poll(cx),
        }
    }
}

impl<C: Access> hyper::service::Service<Request<Incoming>> for Service<C> {
    type Response = Response<AnswerBody>;
    type Error = Ended;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let (parts, body) = request.into_parts();
        self.shared.progress.begin(body.size_hint().exact());
        let mut exchange = Exchange::new(Arc::clone(&self.shared), parts);
        if exchange.wants_body() && !body.is_end_stream() {
            return Answering::Later(Box::pin(async move {
                exchange.read(body).await?;
                let step = begin(&mut exchange)?;
                finish(exchange, step).await
            }));
        }
        match begin(&mut exchange) {
            Ok(Step::Answer(answer)) => Answering::Now(Some(Ok(exchange.respond(answer)))),
            Ok(step) => Answering::Later(Box::pin(finish(exchange, step))),
            Err(ended) => Answering::Now(Some(Err(ended))),
        }
    }
}

/// The steps of a complete request that wait for nothing.
fn begin<C: Access>(exchange: &mut Exchange<C>) -> Result<Step, Ended> {
    exchange.received();
    if exchange.is_target_too_long() {
        return Ok(Step::Answer(Some(Answer::target_too_long(exchange.asked().accept))));
    }
    count_and_route(exchange)
}

/// The steps that are left.
async fn finish<C: Access>(mut exchange: Exchange<C>, mut step: Step) -> Answered {
    loop {
        step = match step {
            Step::TooMany => wait::for_rate(&mut exchange).await?,
            Step::Wait => wait::for_content(&mut exchange).await?,
            Step::Change(instance) => wait::for_change(&mut exchange, instance).await?,
            Step::Ask(instance, answer) => wait::for_services(&mut exchange, instance, answer).await?,
            step @ (Step::Fetch(..) | Step::Keep(..)) => wait::for_controller(&mut exchange, step).await?,
            Step::Answer(answer) => return Ok(exchange.respond(answer)),
        };
    }
}
