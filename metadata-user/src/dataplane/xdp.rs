//! The limits of a port at XDP: putting `from_guest_xdp` on a tap, beside `from_guest`.
//!
//! Promises: only in the driver itself, never in the kernel's generic XDP, which runs when the packet buffer exists, and would copy each
//! packet; a program of others is neither replaced nor joined; where it cannot be, the reason has a name, and `from_guest` limits as
//! it does anyway.
//!
//! The program is loaded at the start, where it is asked for. Minimum kernel version: 5.18.

use aya::programs::{
    ProgramError, Xdp, XdpMode,
    links::{FdLink, LinkError, PinnedLink},
    xdp::XdpLink,
};

use super::{
    Dataplane, DataplaneError, IfIndex,
    attach::{name_of, names},
    link::Place,
    program_error,
};

/// Name of the program.
pub(super) const PROGRAM: &str = "from_guest_xdp";

/// Why a tap's limits are not applied by XDP.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// Another program is there, in the driver or in generic XDP.
    #[error("another XDP program is on the tap: it has one place, so take that off")]
    Occupied,
    /// The driver has no XDP.
    #[error("the driver of the interface has no native XDP (tun and veth have)")]
    Unsupported,
    /// The packets would not fit.
    #[error("the MTU is larger than XDP can have on this interface: lower it")]
    Mtu,
    /// The program was refused at the start.
    #[error("the program could not be loaded at the start: see the log")]
    NotLoaded,
    /// The name belongs to another interface by now; its events follow.
    #[error("the interface has been renamed or replaced meanwhile")]
    Moved,
    /// The kernel refused otherwise.
    #[error("the kernel refuses to attach the program")]
    Program(#[source] Box<ProgramError>),
    /// The link could not be kept.
    #[error("the link cannot be kept")]
    Link(#[from] LinkError),
    /// The link could not be pinned.
    #[error("the link cannot be pinned")]
    Pin(#[from] aya::pin::PinError),
    /// The link could not be held open.
    #[error("the link cannot be held open")]
    Hold(#[source] std::io::Error),
    /// The program is not there, or a pin cannot be removed.
    #[error(transparent)]
    Dataplane(#[from] Box<DataplaneError>),
}

impl XdpError {
    /// Returns a name that does not change, for counts by reason.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Occupied => "occupied",
            Self::Unsupported => "unsupported",
            Self::Mtu => "mtu",
            Self::NotLoaded
            | Self::Moved
            | Self::Program(_)
            | Self::Link(_)
            | Self::Pin(_)
            | Self::Hold(_)
            | Self::Dataplane(_) => "error",
        }
    }
}

impl From<DataplaneError> for XdpError {
    fn from(error: DataplaneError) -> Self {
        Self::Dataplane(Box::new(error))
    }
}

impl From<ProgramError> for XdpError {
    fn from(error: ProgramError) -> Self {
        let code = match &error {
            ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
            _ => None,
        };
        match code.map(nix::errno::Errno::from_raw) {
            // EEXIST: one of the other kind, generic or native.
            Some(nix::errno::Errno::EBUSY | nix::errno::Errno::EEXIST) => Self::Occupied,
            Some(nix::errno::Errno::EOPNOTSUPP) => Self::Unsupported,
            Some(nix::errno::Errno::ERANGE) => Self::Mtu,
            _ => Self::Program(Box::new(error)),
        }
    }
}

impl Dataplane {
    /// Puts `from_guest_xdp` on a tap, or takes it off.
    ///
    /// # Errors
    /// See [`XdpError`]. The tap is limited by `from_guest` all the same.
    pub fn set_xdp(&mut self, ifindex: IfIndex, name: &str, on: bool) -> Result<(), XdpError> {
        if self.xdp.get(&ifindex) == Some(&on) {
            return Ok(());
        }
        if on {
            let pin = self.pins.place(Place::Xdp(ifindex));
            let program = xdp_program(&mut self.ebpf)?;
            if !replace_in_xdp_link(program, &pin)? {
                put_link(program, ifindex, name, &pin)?;
            }
            self.hold(Place::Xdp(ifindex)).map_err(XdpError::Hold)?;
        } else {
            self.remove_xdp(ifindex)?;
        }
        self.xdp.insert(ifindex, on);
        Ok(())
    }

    /// Tells whether a tap has `from_guest_xdp`, as far as is known here.
    #[must_use]
    pub fn has_xdp(&self, ifindex: IfIndex) -> bool {
        self.xdp.get(&ifindex) == Some(&true)
    }

    /// Notes that `from_guest_xdp` was detached from a tap: the next [`Self::set_xdp`] attaches it again.
    pub fn note_lost_xdp(&mut self, ifindex: IfIndex) {
        self.links.remove(&Place::Xdp(ifindex));
        self.xdp.remove(&ifindex);
    }

    /// Takes `from_guest_xdp` off a tap, if an earlier daemon or this one has put it there.
    pub(super) fn remove_xdp(&mut self, ifindex: IfIndex) -> Result<(), DataplaneError> {
        self.xdp.remove(&ifindex);
        self.remove_link(Place::Xdp(ifindex))
    }
}

/// Loads the program; before its maps are taken out of the object, as that would close some.
pub(super) fn load(ebpf: &mut aya::Ebpf) -> Result<(), DataplaneError> {
    find(ebpf)?.load().map_err(program_error(PROGRAM))
}

fn find(ebpf: &mut aya::Ebpf) -> Result<&mut Xdp, DataplaneError> {
    let program = ebpf.program_mut(PROGRAM).ok_or(DataplaneError::Missing(PROGRAM))?;
    program.try_into().map_err(program_error(PROGRAM))
}

/// Returns the program, if it is loaded.
pub(super) fn xdp_program(ebpf: &mut aya::Ebpf) -> Result<&mut Xdp, XdpError> {
    let program = find(ebpf)?;
    if program.fd().is_err() { Err(XdpError::NotLoaded) } else { Ok(program) }
}

/// Puts the program into the link pinned at `pin`. `false` if there is none, or it is on no device any more; then there is no
/// pin either.
pub(super) fn replace_in_xdp_link(program: &mut Xdp, pin: &std::path::Path) -> Result<bool, XdpError> {
    let Ok(pinned) = PinnedLink::from_pin(pin) else {
        return Ok(false);
    };
    let link = XdpLink::try_from(FdLink::from(pinned))?;
    match program.attach_to_link(link) {
        Ok(id) => {
            // Dropping our descriptor leaves the pinned link as it is.
            drop(program.take_link(id)?);
            Ok(true)
        }
        Err(_) => {
            let _ = std::fs::remove_file(pin);
            Ok(false)
        }
    }
}

/// Makes a link in the interface's driver, and pins it.
fn put_link(program: &mut Xdp, ifindex: IfIndex, name: &str, pin: &std::path::Path) -> Result<(), XdpError> {
    if !names(name, ifindex) {
        return Err(XdpError::Moved);
    }
    let id = program.attach_to_if_index(ifindex.0, XdpMode::Driver)?;
    // Dropping it, on any of the ways out, takes the program off again.
    let link = program.take_link(id)?;
    if name_of(ifindex).as_deref() != Some(name) {
        return Err(XdpError::Moved);
    }
    FdLink::try_from(link)?.pin(pin)?;
    Ok(())
}
