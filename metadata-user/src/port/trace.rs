//! Tracing a tap for an operator: one trace at a time, until its reader goes away.

use tokio::sync::{mpsc, oneshot};

use super::Ports;
use super::release::NotReleased;
use crate::config;
use crate::dataplane::IfIndex;
use crate::error_text;
use crate::hold::Hold;

/// Something that a command asks of the task.
#[derive(Debug)]
pub enum Request {
    /// Trace a tap.
    Trace(TraceRequest),
    /// Change nothing until another daemon has taken over, or has not.
    StandStill(Hold),
    /// From here on, limits and guards are those of this configuration.
    Rules(Box<config::Ports>),
    /// Leave new connections of every tap to its network from here on; those that there are go on.
    Leave(oneshot::Sender<()>),
    /// Take the programs off every tap, and take on no other until the daemon's next start. The answer: the taps that still have one.
    Release(oneshot::Sender<Vec<NotReleased>>),
}

/// Trace a tap until the receiver of the lines is gone.
#[derive(Debug)]
pub struct TraceRequest {
    /// The tap.
    pub ifindex: IfIndex,
    /// Where the lines go.
    pub lines: mpsc::Sender<String>,
    /// Whether it could be started; the reason if not.
    pub started: oneshot::Sender<Result<(), String>>,
}

impl Ports {
    /// Carries out a request. `trace_over` gets a message when its trace is to end.
    pub(super) fn request(&mut self, request: TraceRequest, trace_over: &mpsc::Sender<()>) {
        let TraceRequest { ifindex, lines, started } = request;
        if self.trace.is_some() {
            let _ = started.send(Err("another trace is running; only one can run at a time".into()));
            return;
        }
        match self.dataplane.trace(ifindex, lines.clone()) {
            Ok((trace, passing)) => {
                self.trace = Some(trace);
                let over = trace_over.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = lines.closed() => {}
                        _ = passing => {}
                    }
                    let _ = over.send(()).await;
                });
                let _ = started.send(Ok(()));
            }
            Err(error) => {
                let _ = started.send(Err(error_text::chain(&error)));
            }
        }
    }

    /// Takes on what may change while the task runs, and settles every tap anew where that differs.
    pub(super) fn set_rules(&mut self, new: &config::Ports) {
        let (limits, guard) = (new.limits, new.impersonation_guard);
        if (self.rules.limits, self.rules.impersonation_guard) == (limits, guard) {
            return;
        }
        (self.rules.limits, self.rules.impersonation_guard) = (limits, guard);
        for ifindex in self.taps.indexes().collect::<Vec<_>>() {
            self.settle(ifindex);
        }
    }

    /// Ends the running trace.
    pub(super) fn end_trace(&mut self) {
        if let Some(trace) = self.trace.take()
            && let Err(error) = self.dataplane.end_trace(trace)
        {
            // Somebody took the programs off; those that are put back do not trace.
            tracing::info!(
                error = error_text::chain(&error),
                "a program that traces was not there any more when the trace ended"
            );
        }
    }
}
