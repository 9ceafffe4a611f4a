//! One connection, from its first byte to its end.
//!
//! Promises: when the binding has ended, whoever notices it first, nothing that is unsent leaves; the end is recorded once;
//! a connection keeps its place, and counts as the guest's, until the guest has acknowledged all that it was sent, or is cut.

use std::error::Error as _;
use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};

use super::error::Ended;
use super::exchange::Shared;
use super::progress::Progress;
use super::record::{self, End};
use super::service::{Access, Service};
use super::socket::Socket;
pub use super::stream::Cut;
use super::stream::Watched;
use super::terms::Terms;
use super::turns::Turn;
use super::{Counters, Times};
use crate::drain::Drain;
use crate::https::Https;
use crate::on_wake::OnWake;

/// Header fields that hyper has room for without an allocation.
const FIELDS: usize = 100;

/// A connection's place among others.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) progress: Arc<Progress>,
    /// Its turns on its thread; `None`: it has that for itself.
    pub(super) turn: Option<Turn>,
    pub(super) terms: Arc<Terms>,
}

impl Place {
    /// Returns the place of a connection that shares nothing.
    pub(super) fn alone(terms: Terms) -> Self {
        Self { progress: Arc::new(Progress::new(terms.times)), turn: None, terms: Arc::new(terms) }
    }
}

/// What others do to a connection.
enum Outside {
    BindingEnded,
    Drain,
}

/// What a connection has reached.
enum Limit {
    /// Another needs its place.
    Place,
    /// A time-out.
    Time,
    /// It has been kept for as long as it may.
    Age,
}

/// Serves a connection that no other needs the place of, that shares its thread with nobody, and whose requests are not
/// counted.
pub async fn serve<S, C>(stream: S, content: C, times: Times, counters: &Arc<Counters>, drain: &Drain)
where
    S: AsyncRead + AsyncWrite + Cut + Unpin + Send + 'static,
    C: Access,
{
    serve_placed(stream, content, Place::alone(Terms::alone(times, Arc::clone(counters))), drain.clone()).await;
}

/// Serves a connection until either side ends it, the binding ends, it is too slow, it has to give its place to another,
/// or the daemon drains. hyper answers what is not HTTP by itself: 400, or 431 for a head that is too large.
pub(super) async fn serve_placed<S, C>(stream: S, content: C, place: Place, drain: Drain)
where
    S: AsyncRead + AsyncWrite + Cut + Unpin + Send + 'static,
    C: Access,
{
    let Place { progress, turn, terms } = place;
    let heads = terms.heads;
    let shared = Arc::new(Shared { content, progress, terms, drain });
    let Shared { content, progress, terms, drain } = &*shared;
    let mut builder = http1::Builder::new();
    if heads.fields != FIELDS {
        builder.max_headers(heads.fields);
    }
    let mut connection = builder
        .keep_alive(true)
        .half_close(true)
        // Nova's answers have no date, and its headers have this case.
        .auto_date_header(false)
        .title_case_headers(true)
        // `progress` watches the time.
        .header_read_timeout(None)
        .max_buf_size(heads.bytes)
        .serve_connection(
            TokioIo::new(Watched::new(stream, Arc::clone(progress), turn)),
            Service::new(Arc::clone(&shared)),
        );
    let end = match at_once(&mut connection, progress).await {
        Some(result) => end_of(&result, progress.must_leave()),
        // In a place of its own: most connections need none of it, and a task is copied when it is spawned.
        None => Box::pin(watch(&mut connection, content, progress, drain)).await,
    };
    let watched = connection.into_parts().io.into_inner();
    let end = match end {
        End::BindingEnded => end,
        // What it has not acknowledged by now, it will not.
        End::TimedOut => {
            if watched.has_unacknowledged() {
                progress.cut();
            }
            end
        }
        End::Closed | End::GaveWay | End::Malformed | End::HandshakeFailed => {
            if content.has_ended() {
                End::BindingEnded
            } else if watched.has_unacknowledged() {
                Box::pin(wait_for_acknowledgement(&watched, content, progress, drain, end)).await
            } else {
                end
            }
        }
    };
    if end == End::BindingEnded {
        progress.cut();
    }
    drop(watched);
    content.note_kept(progress.is_kept());
    record::ended(&terms.counters, content, end);
}

/// What hyper drives.
type Connection<S, C> = http1::Connection<TokioIo<Watched<S>>, Service<C>>;

/// Serves a connection as long as nothing has to be waited for but a look whether its guest has closed it ([`super::recheck`]). Returns
/// how it ended; `None`: it goes on, and has to be watched. Whether its binding has ended is looked at for each request, and whatever
/// else may end it can wait for the look.
async fn at_once<S, C>(connection: &mut Connection<S, C>, progress: &Progress) -> Option<Result<(), hyper::Error>>
where
    S: AsyncRead + AsyncWrite + Cut + Unpin + Send + 'static,
    C: Access,
{
    poll_fn(|cx| match Pin::new(&mut *connection).poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending if progress.is_rechecked() => Poll::Pending,
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Serves a connection until one of its ends, of which this returns the first.
async fn watch<S, C>(connection: &mut Connection<S, C>, content: &C, progress: &Progress, drain: &Drain) -> End
where
    S: AsyncRead + AsyncWrite + Cut + Unpin + Send + 'static,
    C: Access,
{
    let (mut closing, mut leaving, mut draining) = (false, false, false);
    let (mut ended, mut closes) = (pin!(content.ended()), pin!(drain.closes()));
    let mut is_closing = false;
    let mut outside = OnWake::new(poll_fn(|cx| {
        if ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Outside::BindingEnded);
        }
        if !is_closing && closes.as_mut().poll(cx).is_ready() {
            is_closing = true;
            return Poll::Ready(Outside::Drain);
        }
        Poll::Pending
    }));
    let (mut leave, mut expired, mut aged) =
        (pin!(progress.leave_requested()), pin!(progress.expired()), pin!(progress.aged()));
    let (mut must_leave, mut is_aged) = (false, false);
    let mut limit = OnWake::new(poll_fn(|cx| {
        if !must_leave && leave.as_mut().poll(cx).is_ready() {
            must_leave = true;
            return Poll::Ready(Limit::Place);
        }
        if expired.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Limit::Time);
        }
        if !is_aged && aged.as_mut().poll(cx).is_ready() {
            is_aged = true;
            return Poll::Ready(Limit::Age);
        }
        Poll::Pending
    }));
    loop {
        let close = tokio::select! {
            biased;
            // First, so that a connection whose binding has ended is not polled again.
            event = &mut outside => match event {
                Outside::BindingEnded => break End::BindingEnded,
                Outside::Drain => {
                    progress.leave_quietly();
                    (leaving, draining) = (true, true);
                    false
                }
            },
            // Its last answer may have ended it before this loop saw that it must leave.
            result = &mut *connection => break end_of(&result, (leaving || progress.must_leave()) && !draining),
            event = &mut limit => match event {
                Limit::Time => break End::TimedOut,
                Limit::Age => {
                    progress.end_wait();
                    true
                }
                Limit::Place => {
                    leaving = true;
                    false
                }
            },
            // hyper has just read what had come, but for bytes that the runtime has not noticed yet: a request that
            // arrived before the connection had to leave is answered.
            () = tokio::task::yield_now(), if leaving && !closing => !progress.has_unread(),
            // hyper waits for the first request of a new connection, as it may be under way.
            () = progress.silent_for(UNDER_WAY), if draining && closing => break End::Closed,
        };
        if close && !closing {
            closing = true;
            Pin::new(&mut *connection).graceful_shutdown();
        }
    }
}

/// Returns what hyper's end of a connection was.
fn end_of(result: &Result<(), hyper::Error>, gave_way: bool) -> End {
    match result {
        Err(error) if is_of_ended_binding(error) => End::BindingEnded,
        Err(error) if error.is_parse() || error.is_parse_too_large() => End::Malformed,
        _ if gave_way => End::GaveWay,
        _ => End::Closed,
    }
}

/// How long a drain waits for what is under way of a new connection: its first request, or the rest of its handshake.
const UNDER_WAY: Duration = Duration::from_millis(250);

/// First pause before another look at what the guest has acknowledged; each is twice as long as the one before.
const FIRST_LOOK: Duration = Duration::from_millis(1);

/// Longest such pause.
const LAST_LOOK: Duration = Duration::from_millis(250);

/// How long the guest gets for that once another connection needs the place.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// Waits for the acknowledgement of what the kernel has of a connection that has ended like this. Returns how it has ended by then.
async fn wait_for_acknowledgement(
    stream: &Watched<impl Cut>,
    content: &impl Access,
    progress: &Progress,
    drain: &Drain,
    end: End,
) -> End {
    tokio::select! {
        biased;
        () = content.ended() => End::BindingEnded,
        // The kernel goes on sending, also when the daemon has ended.
        () = drain.closes() => end,
        arrived = all_arrived(stream, progress) => {
            if !arrived {
                progress.cut();
            }
            if arrived || end == End::GaveWay { end } else { End::TimedOut }
        }
    }
}

/// Waits until the guest has acknowledged everything, the end of the stream included. Otherwise the kernel would keep it
/// without a connection for minutes, counted nowhere. Returns whether it has, in time.
async fn all_arrived(stream: &Watched<impl Cut>, progress: &Progress) -> bool {
    let (mut deadline, mut pause) = (Instant::now() + progress.patience_for_end(), FIRST_LOOK);
    let mut leaving = progress.must_leave();
    if leaving {
        deadline = deadline.min(Instant::now() + LAST_CHANCE);
    }
    progress.ending();
    loop {
        tokio::select! {
            () = progress.leave_requested(), if !leaving => {
                leaving = true;
                deadline = deadline.min(Instant::now() + LAST_CHANCE);
            }
            () = sleep(pause) => {}
        }
        if !stream.has_unacknowledged() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        pause = (pause * 2).min(LAST_LOOK);
    }
}

/// Performs the handshake of TLS, within the time that a request's head may take, and serves the connection.
pub(super) async fn serve_tls<C: Access>(stream: Socket, https: &Https, content: C, place: Place, drain: Drain) {
    let (progress, terms) = (Arc::clone(&place.progress), Arc::clone(&place.terms));
    // From here on, as if a request had begun: the connection does not give way, and its time is limited.
    progress.read();
    let end = tokio::select! {
        biased;
        () = content.ended() => End::BindingEnded,
        () = progress.expired() => End::TimedOut,
        () = async {
            drain.closes().await;
            sleep(UNDER_WAY).await;
        } => End::Closed,
        stream = async {
            if let Some(turn) = &place.turn {
                turn.handshake().await;
            }
            https.accept(stream).await
        } => match stream {
            Ok(stream) => {
                progress.secured();
                return serve_placed(stream, content, place, drain).await;
            }
            Err(_) => End::HandshakeFailed,
        },
    };
    record::ended(&terms.counters, &content, end);
}

/// Tells whether a request found that the binding has ended.
fn is_of_ended_binding(error: &hyper::Error) -> bool {
    error.source().and_then(|source| source.downcast_ref()) == Some(&Ended::Binding)
}
