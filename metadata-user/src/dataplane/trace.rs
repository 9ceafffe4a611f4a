//! Tracing one tap: programs that say what they do with its packets, in place of the ones that do not.
//!
//! The normal programs contain no tracing at all: the switch is a constant, and the verifier removes what it turns off.
//! So a trace costs other taps one comparison per metadata reply, and nothing once it is over.

use std::path::Path;

use aya::{
    Ebpf,
    programs::{SchedClassifier, TcAttachType},
};
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use metadata_ebpf::abi::DropReason;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
};

use super::{
    Dataplane, DataplaneError, IfIndex,
    attach::{AttachError, replace_in_filter, replace_in_link},
    link::Place,
    loader::load_object,
    xdp::{self, replace_in_xdp_link, xdp_program},
};

/// A trace that is running. Ends with [`Dataplane::end_trace`]; the programs go with it.
#[derive(Debug)]
pub struct Trace {
    ifindex: IfIndex,
    #[expect(dead_code, reason = "keeps the traced programs loaded")]
    ebpf: Ebpf,
}

/// Sends each line to the trace's reader; lines that find no room are lost.
#[derive(Debug)]
struct Lines(mpsc::Sender<String>);

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let _ = self.0.try_send(named(&record.args().to_string()));
    }

    fn flush(&self) {}
}

/// Puts a drop reason's name in place of its number, which is all that a program can report.
fn named(line: &str) -> String {
    match line.rsplit_once(" reason ") {
        Some((what, number)) => {
            let reason = number.parse().ok().and_then(DropReason::from_number);
            format!("{}: {}", what.trim_end_matches(','), reason.map_or(number, |reason| reason.name()))
        }
        None => line.to_owned(),
    }
}

impl Dataplane {
    /// Starts tracing a tap; returns the trace and a future that passes its lines on for as long as it is polled.
    ///
    /// # Errors
    /// If the programs cannot be loaded or attached, or the tap is not attached.
    pub fn trace(
        &mut self,
        ifindex: IfIndex,
        lines: mpsc::Sender<String>,
    ) -> Result<(Trace, impl Future<Output = std::io::Result<()>> + Send + use<>), DataplaneError> {
        if self.attached(ifindex).is_none() {
            let (program, name) = ("from_guest", super::attach::name_of(ifindex).unwrap_or_default());
            return Err(DataplaneError::Attach { program, name, ifindex, source: Box::new(AttachError::Moved) });
        }
        let mut ebpf = load_object(&self.pins, &self.constants, Some(ifindex))?;
        if self.has_xdp(ifindex) {
            xdp::load(&mut ebpf)?;
        }
        let logger = EbpfLogger::init_with_logger(&mut ebpf, Lines(lines))
            .map_err(|_| DataplaneError::Missing("map AYA_LOGS"))?;
        if let Err(error) = self.swap(ifindex, Some(&mut ebpf)) {
            // One of them may be in place, and would stay.
            let _ = self.swap(ifindex, None);
            return Err(error);
        }
        let passing = async move {
            // SAFETY: the logger owns its ring's descriptor, always returns the same one and keeps it open.
            let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }?;
            loop {
                let mut ready = logger.readable_mut().await?;
                ready.get_inner_mut().flush();
                ready.clear_ready();
            }
        };
        Ok((Trace { ifindex, ebpf }, passing))
    }

    /// Puts the normal programs back.
    ///
    /// # Errors
    /// If they cannot be attached; the traced ones then stay attached, and nobody reads what they report.
    pub fn end_trace(&mut self, trace: Trace) -> Result<(), DataplaneError> {
        self.swap(trace.ifindex, None)
    }

    /// Puts the programs of `other` (or our own) on the tap and on the pair: on each, whatever becomes of the others. The error is
    /// the first one's.
    fn swap(&mut self, ifindex: IfIndex, other: Option<&mut Ebpf>) -> Result<(), DataplaneError> {
        let [tap, to_guest, xdp] =
            [Place::Tap(ifindex), Place::ToGuest, Place::Xdp(ifindex)].map(|place| self.pins.place(place));
        let (pair, is_attached, has_xdp) =
            (self.constants.pair, self.attached(ifindex).is_some(), self.has_xdp(ifindex));
        let ebpf = match other {
            Some(ebpf) => ebpf,
            None => &mut self.ebpf,
        };
        // A tap that is gone has taken its program along.
        let on_tap = if is_attached { replace(ebpf, "from_guest", ifindex, &tap) } else { Ok(()) };
        let on_pair = replace(ebpf, "to_guest", pair, &to_guest);
        if has_xdp {
            // It may have been detached: then it drops nothing that would be missing here.
            let program = xdp_program(ebpf).map_err(|_| DataplaneError::Missing(xdp::PROGRAM))?;
            let _ = replace_in_xdp_link(program, &xdp);
        }
        on_tap.and(on_pair)
    }
}

/// Puts a program where another of ours is: in its link, or in its filter where there is no link.
fn replace(ebpf: &mut Ebpf, program: &'static str, at: IfIndex, pin: &Path) -> Result<(), DataplaneError> {
    let name = super::attach::name_of(at).unwrap_or_default();
    let classifier: &mut SchedClassifier = ebpf
        .program_mut(program)
        .ok_or(DataplaneError::Missing(program))?
        .try_into()
        .map_err(super::program_error(program))?;
    let replaced = match replace_in_link(classifier, pin) {
        Ok(false) => replace_in_filter(classifier, &name, TcAttachType::Ingress),
        other => other,
    };
    let refused = match replaced {
        Ok(true) => return Ok(()),
        Ok(false) => AttachError::Moved,
        Err(error) => error,
    };
    Err(DataplaneError::Attach { program, name, ifindex: at, source: Box::new(refused) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_names() {
        assert_eq!(named("from_guest: dropped, reason 7"), "from_guest: dropped: not_answered");
        assert_eq!(named("from_guest: dropped, reason 99"), "from_guest: dropped: 99");
        assert_eq!(named("to_guest: to the guest, bytes: 74"), "to_guest: to the guest, bytes: 74");
    }
}
