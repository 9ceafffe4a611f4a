//! What is repaired while the daemon runs, and what cannot be: the values of the label `what`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::labelled;

macro_rules! kinds {
    ($(#[$doc:meta])* $type:ident { $($(#[$kind_doc:meta])* $kind:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $type {
            $($(#[$kind_doc])* $kind,)*
        }

        impl $type {
            /// All of them.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// Their names, in the same order.
            pub const NAMES: &[&str] = &[$($name),*];

            /// Returns its name, which does not change.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// Something that was put back.
    Repair {
        /// The program on a tap's packets from the guest.
        FromGuest = "from_guest",
        /// The guard against impersonation on a tap.
        FromNetwork = "from_network",
        /// The limits of a tap at XDP.
        FromGuestXdp = "from_guest_xdp",
        /// A program on the responder's pair.
        PairProgram = "pair_program",
        /// A port's entries in the maps.
        Port = "port",
        /// A pin in the BPF file system.
        Pin = "pin",
        /// The pair of interfaces to the responder, made anew.
        Pair = "pair",
        /// An end of the pair that was down, renamed, or had another MTU.
        PairLink = "pair_link",
        /// The responder's address.
        Address = "address",
        /// The responder's route to the guests.
        Route = "route",
        /// The responder's neighbour entry.
        Neighbour = "neighbour",
        /// Settings of the responder's namespace (sysctl).
        Settings = "settings",
    }
}

kinds! {
    /// Something that is wrong, and that the daemon cannot repair.
    Fault {
        /// Other programs run before ours.
        Preceded = "preceded",
        /// Maps and links cannot be pinned.
        Pins = "pins",
        /// The pair to the responder, or the configuration of its namespace, cannot be put back.
        Responder = "responder",
        /// The responder's namespace has lost its name.
        Namespace = "namespace",
    }
}

impl Repair {
    /// Tells whether it is a program that was attached again.
    #[must_use]
    pub const fn is_program(self) -> bool {
        matches!(self, Self::FromGuest | Self::FromNetwork | Self::FromGuestXdp | Self::PairProgram)
    }
}

/// Counters of repairs. Cheap to clone; clones are the same counters.
#[derive(Clone, Debug)]
pub struct Repairs([Counter; Repair::ALL.len()]);

impl Repairs {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let help = "Repairs of what was changed or removed from outside, by what";
        let family = labelled(registry, "repairs", help);
        Self(Repair::ALL.map(|repair| family.get_or_create_owned(&[("what", repair.name())])))
    }

    /// Returns the counter of one kind.
    #[must_use]
    pub fn of(&self, repair: Repair) -> &Counter {
        // The kinds are numbered from 0 in the order of `ALL`.
        &self.0[repair as usize]
    }
}
