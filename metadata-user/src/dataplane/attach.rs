//! Putting programs on interfaces: tcx where the kernel has it, clsact elsewhere or where the operator says so.
//!
//! - tcx (Linux 6.6): ordered first, the link pinned; a new program replaces the old one in the link without a gap.
//! - clsact (Linux 4.5): a fixed priority and handle, so that a new program replaces the old one in the filter. Of taps,
//!   the filter lies in the qdisc `ingress`, which is clsact's half for what comes in.
//!
//! Both live on the device itself: what is found there after a restart proves that the device is the same one.

use std::io;

use aya::{
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        links::{FdLink, LinkError, PinnedLink},
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
    },
    util::KernelVersion,
};

use super::{
    Dataplane, DataplaneError, IfIndex,
    link::Place,
    pins::{Pins, unpin},
    qdisc,
};
use crate::config::AttachMode;

impl AttachMode {
    /// Returns the mode that this kernel makes of `Auto`.
    #[must_use]
    pub fn resolve(self) -> Self {
        match self {
            Self::Auto if KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(6, 6, 0)) => {
                Self::Tcx
            }
            Self::Auto => Self::Clsact,
            other => other,
        }
    }
}

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachKind {
    /// A pinned tcx link.
    Tcx,
    /// A filter of clsact; on a tap, of the qdisc `ingress`.
    Clsact,
}

impl AttachKind {
    /// Returns the name that commands show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// Why a program could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The interface's name belongs to another interface by now; its events follow.
    #[error("the interface has been renamed or replaced meanwhile")]
    Moved,
    /// Another program's filter is in our place.
    #[error(
        "another program has a filter of priority {PRIORITY} there, as Open vSwitch's hw-offload may: switch that off, or \
         use Linux 6.6, which has tcx"
    )]
    Occupied(#[source] Box<ProgramError>),
    /// The kernel refused.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The link could not be handled.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// There is no qdisc to put the filter in, and none could be made.
    #[error(
        "the interface has no queueing discipline for filters, and none can be added: {made}: the kernel needs \
         CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF (modules sch_ingress and cls_bpf)"
    )]
    NoQdisc {
        /// Why none could be made.
        made: String,
        /// Why the filter could not be added.
        source: Box<ProgramError>,
    },
    /// There is a qdisc that has no filters of what goes out.
    #[error(
        "another program has made the queueing discipline `ingress` there, as Open vSwitch's policing does, which leaves no \
         place for a program at the tap's egress: switch that off, or use Linux 6.6, which has tcx"
    )]
    IngressOnly,
    /// The qdisc could not be made.
    #[error(transparent)]
    Qdisc(#[from] tc::TcError),
    /// The link could not be pinned.
    #[error(transparent)]
    Pin(#[from] aya::pin::PinError),
    /// The link could not be held open.
    #[error("the link cannot be held open")]
    Hold(#[source] io::Error),
}

/// Before every other filter but Open vSwitch's policing, which has 1, cannot be added where another kind of filter has
/// that, and lets pass on what it does not drop.
const PRIORITY: u16 = 2;
/// The one filter that is ours at that priority, in each direction. A number that nobody picks by chance: a filter with
/// this handle is taken to be an earlier daemon's.
const HANDLE: TcHandle = TcHandle::new(0, 0xa9fe);
/// The handle of our filters, as netlink tells it.
pub const FILTER_HANDLE: u32 = 0xa9fe;
/// Their priority, as netlink tells it.
pub const FILTER_PRIORITY: u32 = PRIORITY as u32;

/// What it takes to put a program somewhere.
struct Hook<'a> {
    place: Place,
    ifindex: IfIndex,
    name: &'a str,
    direction: TcAttachType,
    pin: std::path::PathBuf,
    qdisc: std::path::PathBuf,
    /// The qdisc that is made where there is none.
    kind: qdisc::Kind,
}

impl Dataplane {
    /// Puts `from_guest` on a tap. `true` if this very device already had it, from before this daemon's start; else
    /// whatever the maps knew of an earlier device with the same index is forgotten first. `guarded`: a guard may follow, which
    /// needs a qdisc of both directions where there is no tcx.
    ///
    /// # Errors
    /// [`DataplaneError::Attach`]; also when the name no longer belongs to the index.
    pub fn attach(&mut self, ifindex: IfIndex, name: &str, guarded: bool) -> Result<bool, DataplaneError> {
        let kind = if guarded { qdisc::Kind::Clsact } else { qdisc::Kind::Ingress };
        let hook = self.hook(Place::Tap(ifindex), name, kind);
        self.hold_unknown(ifindex)?;
        if let Some(kind) = self.take_over(&hook)? {
            self.attached.insert(ifindex, kind);
            return Ok(true);
        }
        self.forget(ifindex)?;
        let kind = self.put(&hook)?;
        if kind == AttachKind::Tcx && remove_filter(name, TcAttachType::Egress) {
            // A guard that an earlier daemon put into a filter kept the qdisc.
            qdisc::remove(ifindex, &self.pins.qdisc(ifindex));
        }
        self.attached.insert(ifindex, kind);
        Ok(false)
    }

    /// Attaches `from_guest` again to a tap from which it was detached; the maps keep what they know of the tap. The caller is certain
    /// that it is still the same device.
    ///
    /// # Errors
    /// As [`Self::attach`]; then the tap counts as not attached.
    pub fn attach_again(&mut self, ifindex: IfIndex, name: &str, guarded: bool) -> Result<(), DataplaneError> {
        self.attached.remove(&ifindex);
        // It may have gone with the qdisc.
        self.guards.remove(&ifindex);
        let kind = if guarded { qdisc::Kind::Clsact } else { qdisc::Kind::Ingress };
        let hook = self.hook(Place::Tap(ifindex), name, kind);
        let kind = match self.take_over(&hook)? {
            Some(kind) => kind,
            None => self.put(&hook)?,
        };
        self.attached.insert(ifindex, kind);
        Ok(())
    }

    fn hook<'a>(&self, place: Place, name: &'a str, kind: qdisc::Kind) -> Hook<'a> {
        let ifindex = place.tap().unwrap_or(self.constants.pair);
        let direction = place.direction().unwrap_or(TcAttachType::Ingress);
        Hook { place, ifindex, name, direction, pin: self.pins.place(place), qdisc: self.pins.qdisc(ifindex), kind }
    }

    /// Puts `from_network` on a tap that has `from_guest`, or takes it off.
    ///
    /// # Errors
    /// [`DataplaneError::Attach`], or that a pin cannot be removed.
    pub fn set_guard(&mut self, ifindex: IfIndex, name: &str, on: bool) -> Result<(), DataplaneError> {
        if self.guards.get(&ifindex) == Some(&on) {
            return Ok(());
        }
        if on {
            let hook = self.hook(Place::Guard(ifindex), name, qdisc::Kind::Clsact);
            if self.mode == AttachMode::Clsact && qdisc::kind_of(ifindex) == Some(qdisc::Kind::Ingress) {
                self.make_room_for_egress(&hook)?;
            }
            if self.take_over(&hook)?.is_none() {
                self.put(&hook)?;
            }
        } else {
            self.remove_guard(ifindex, Some(name))?;
        }
        self.guards.insert(ifindex, on);
        Ok(())
    }

    /// Makes a qdisc of both directions of one that was made here for `from_guest` alone. A guest's packets to the service go
    /// on to its network for the moment in between, as when others remove the qdisc.
    fn make_room_for_egress(&mut self, hook: &Hook<'_>) -> Result<(), DataplaneError> {
        let from_guest = self.hook(Place::Tap(hook.ifindex), hook.name, qdisc::Kind::Clsact);
        remove_filter(hook.name, TcAttachType::Ingress);
        qdisc::remove(hook.ifindex, &hook.qdisc);
        self.put(&from_guest)?;
        match qdisc::kind_of(hook.ifindex) {
            Some(qdisc::Kind::Ingress) => Err(hook.error(AttachError::IngressOnly)),
            _ => Ok(()),
        }
    }

    /// Tells whether a tap has `from_network`.
    #[must_use]
    pub fn is_guarded(&self, ifindex: IfIndex) -> bool {
        self.guards.get(&ifindex) == Some(&true)
    }

    fn remove_guard(&mut self, ifindex: IfIndex, name: Option<&str>) -> Result<(), DataplaneError> {
        self.guards.remove(&ifindex);
        if self.mode == AttachMode::Clsact
            && let Some(name) = name
        {
            remove_filter(name, TcAttachType::Egress);
        }
        self.remove_link(Place::Guard(ifindex))
    }

    /// Removes a link: the program goes off its interface.
    pub(super) fn remove_link(&mut self, place: Place) -> Result<(), DataplaneError> {
        self.links.remove(&place);
        unpin(&self.pins.place(place))
    }

    /// Puts `to_guest` and `from_host` on the pair.
    pub(super) fn attach_pair(&mut self, name: &str) -> Result<(), DataplaneError> {
        for place in [Place::FromHost, Place::ToGuest] {
            let hook = self.hook(place, name, qdisc::Kind::Clsact);
            if self.take_over(&hook)?.is_none() {
                self.put(&hook)?;
            }
        }
        Ok(())
    }

    /// Puts the programs of the pair in the place of those that another daemon has put there.
    ///
    /// # Errors
    /// [`DataplaneError::Attach`].
    pub fn retake_pair(&mut self) -> Result<(), DataplaneError> {
        name_of(self.constants.pair).map_or(Ok(()), |name| self.attach_pair(&name))
    }

    /// Tells how a tap's program is attached.
    #[must_use]
    pub fn attached(&self, ifindex: IfIndex) -> Option<AttachKind> {
        self.attached.get(&ifindex).copied()
    }

    /// Tells whether `from_guest` is still on the device that has this name: not, if the device was replaced.
    #[must_use]
    pub fn is_attached(&mut self, ifindex: IfIndex, name: &str) -> bool {
        let kind = self.attached(ifindex).filter(|_| names(name, ifindex));
        kind.is_some_and(|kind| self.is_at(Place::Tap(ifindex), name, kind))
    }

    /// Tells whether a tap that has `from_guest` has lost `from_network`.
    pub fn has_lost_guard(&mut self, ifindex: IfIndex, name: &str) -> bool {
        let kind = self.attached(ifindex).filter(|_| self.is_guarded(ifindex));
        kind.is_some_and(|kind| !self.is_at(Place::Guard(ifindex), name, kind))
    }

    /// Notes that `from_network` was detached from a tap: the next [`Self::set_guard`] attaches it again.
    pub fn note_lost_guard(&mut self, ifindex: IfIndex) {
        self.guards.remove(&ifindex);
    }

    /// Puts the programs of the pair back if others have taken one away; `true` if so.
    ///
    /// # Errors
    /// [`DataplaneError::Attach`].
    pub fn restore_pair(&mut self) -> Result<bool, DataplaneError> {
        let Some(name) = name_of(self.constants.pair) else {
            return Ok(false);
        };
        let kind = if self.mode == AttachMode::Clsact { AttachKind::Clsact } else { AttachKind::Tcx };
        if self.is_at(Place::FromHost, &name, kind) && self.is_at(Place::ToGuest, &name, kind) {
            return Ok(false);
        }
        self.attach_pair(&name).map(|()| true)
    }

    fn is_at(&mut self, place: Place, name: &str, kind: AttachKind) -> bool {
        match (kind, place.direction()) {
            // The filter goes with its device: replacing it finds out.
            (AttachKind::Clsact, Some(direction)) => self
                .program(place.program())
                .is_ok_and(|program| replace_in_filter(program, name, direction).unwrap_or(false)),
            _ => self.is_linked(place),
        }
    }

    /// Takes the programs off a tap; nothing to do if the tap is gone.
    ///
    /// # Errors
    /// If a link's pin cannot be removed.
    pub fn detach(&mut self, ifindex: IfIndex) -> Result<(), DataplaneError> {
        let mut name = None;
        if self.attached.remove(&ifindex) == Some(AttachKind::Clsact) {
            name = name_of(ifindex);
            if let Some(name) = &name {
                remove_filter(name, TcAttachType::Ingress);
            }
        }
        let guard = self.remove_guard(ifindex, name.as_deref()).and(self.remove_xdp(ifindex));
        qdisc::remove(ifindex, &self.pins.qdisc(ifindex));
        self.remove_link(Place::Tap(ifindex)).and(guard)
    }

    /// Returns the taps whose links an earlier daemon pinned.
    #[must_use]
    pub fn pinned_taps(&self) -> Vec<IfIndex> {
        self.pins.taps()
    }

    /// Replaces the program of an earlier daemon, if the device still has one of this mode.
    fn take_over(&mut self, hook: &Hook<'_>) -> Result<Option<AttachKind>, DataplaneError> {
        let mode = self.mode;
        let classifier = self.program(hook.place.program())?;
        match mode {
            AttachMode::Clsact => replace_in_filter(classifier, hook.name, hook.direction)
                .map(|there| there.then_some(AttachKind::Clsact)),
            AttachMode::Auto | AttachMode::Tcx => replace_in_link(classifier, &hook.pin)
                .and_then(|there| there.then(|| self.hold_link(hook.place)).transpose()),
        }
        .map_err(|source| hook.error(source))
    }

    fn hold_link(&mut self, place: Place) -> Result<AttachKind, AttachError> {
        self.hold(place).map(|()| AttachKind::Tcx).map_err(AttachError::Hold)
    }

    /// Makes a link or filter, and takes off what an earlier daemon of the other mode left.
    fn put(&mut self, hook: &Hook<'_>) -> Result<AttachKind, DataplaneError> {
        let mode = self.mode;
        // One that is on no interface any more.
        self.links.remove(&hook.place);
        let classifier = self.program(hook.place.program())?;
        match mode {
            AttachMode::Clsact => {
                let made = put_filter(classifier, hook);
                let _ = std::fs::remove_file(&hook.pin);
                made.map(|()| AttachKind::Clsact)
            }
            AttachMode::Auto | AttachMode::Tcx => {
                let made = put_link(classifier, hook);
                remove_filter(hook.name, hook.direction);
                qdisc::remove(hook.ifindex, &hook.qdisc);
                made.and_then(|()| self.hold_link(hook.place))
            }
        }
        .map_err(|source| hook.error(source))
    }
}

impl Hook<'_> {
    fn error(&self, source: AttachError) -> DataplaneError {
        let program = self.place.program();
        DataplaneError::Attach { program, name: self.name.to_owned(), ifindex: self.ifindex, source: Box::new(source) }
    }
}

/// Makes a link, ordered before all others, and pins it.
fn put_link(classifier: &mut SchedClassifier, hook: &Hook<'_>) -> Result<(), AttachError> {
    if !names(hook.name, hook.ifindex) {
        return Err(AttachError::Moved);
    }
    let id =
        classifier.attach_with_options(hook.name, hook.direction, TcAttachOptions::TcxOrder(LinkOrder::first()))?;
    let link = classifier.take_link(id)?;
    if !names(hook.name, hook.ifindex) {
        // Dropping the link takes the program off whatever it is on.
        return Err(AttachError::Moved);
    }
    FdLink::try_from(link)?.pin(&hook.pin)?;
    Ok(())
}

/// Puts the program into the link pinned at `pin`. `false` if there is none, or its device is gone; then there is no
/// pin either.
pub(super) fn replace_in_link(classifier: &mut SchedClassifier, pin: &std::path::Path) -> Result<bool, AttachError> {
    let Ok(pinned) = PinnedLink::from_pin(pin) else {
        return Ok(false);
    };
    let link = SchedClassifierLink::try_from(FdLink::from(pinned))?;
    match classifier.attach_to_link(link) {
        Ok(id) => {
            // Dropping our descriptor leaves the pinned link as it is.
            drop(classifier.take_link(id)?);
            Ok(true)
        }
        Err(_) => {
            let _ = std::fs::remove_file(pin);
            Ok(false)
        }
    }
}

/// Makes a filter, before all others.
fn put_filter(classifier: &mut SchedClassifier, hook: &Hook<'_>) -> Result<(), AttachError> {
    if !names(hook.name, hook.ifindex) {
        return Err(AttachError::Moved);
    }
    let made = qdisc::make(hook.kind, hook.name, hook.ifindex, &hook.qdisc);
    // An earlier daemon's may have another priority.
    remove_filter(hook.name, hook.direction);
    let attached = classifier.attach_with_options(
        hook.name,
        hook.direction,
        TcAttachOptions::Netlink(NlOptions { priority: PRIORITY, handle: HANDLE, classid: None }),
    );
    // "Specified filter kind does not match existing one" is all that the kernel says.
    let id = attached.map_err(|error| match made {
        _ if error.to_string().contains("filter kind") => AttachError::Occupied(Box::new(error)),
        Err(made) => AttachError::NoQdisc { made, source: Box::new(error) },
        Ok(()) => error.into(),
    })?;
    let link = classifier.take_link(id)?;
    if !names(hook.name, hook.ifindex) {
        return Err(AttachError::Moved);
    }
    // Dropping it would take the filter off.
    std::mem::forget(link);
    Ok(())
}

/// Puts the program into our filter on an interface. `false` if there is none.
pub(super) fn replace_in_filter(
    classifier: &mut SchedClassifier,
    name: &str,
    direction: TcAttachType,
) -> Result<bool, AttachError> {
    let Ok(link) = SchedClassifierLink::attached(name, direction, PRIORITY, HANDLE, None) else {
        return Ok(false);
    };
    match classifier.attach_to_link(link) {
        Ok(id) => {
            std::mem::forget(classifier.take_link(id)?);
            Ok(true)
        }
        Err(_) => Ok(false),
    }
}

/// Takes our filter off. `true` if there was one.
fn remove_filter(name: &str, direction: TcAttachType) -> bool {
    let programs = match direction {
        TcAttachType::Egress => ["from_host", "from_network"],
        _ => ["from_guest", "to_guest"],
    };
    programs.iter().any(|program| tc::qdisc_detach_program(name, direction, program).is_ok())
}

/// Takes our filters off every interface of this namespace. `true` if there were any.
pub(super) fn remove_filters(pins: &Pins) -> Result<bool, DataplaneError> {
    let mut any = false;
    for interface in nix::net::if_::if_nameindex()
        .map_err(|error| DataplaneError::Pin {
            doing: "list the interfaces for",
            path: pins.link(""),
            source: io::Error::from(error),
        })?
        .iter()
    {
        let name = interface.name().to_string_lossy();
        any |= remove_filter(&name, TcAttachType::Ingress);
        any |= remove_filter(&name, TcAttachType::Egress);
        let ifindex = IfIndex(interface.index());
        qdisc::remove(ifindex, &pins.qdisc(ifindex));
    }
    Ok(any)
}

/// Tells whether the name belongs to the index, now.
pub(super) fn names(name: &str, ifindex: IfIndex) -> bool {
    nix::net::if_::if_nametoindex(name).is_ok_and(|index| index == ifindex.0)
}

pub(super) fn name_of(ifindex: IfIndex) -> Option<String> {
    // Not by a list of all interfaces: a node's taps may all go at once.
    let name = nix::net::if_::if_indextoname(ifindex.0).ok()?;
    Some(name.to_string_lossy().into_owned())
}
