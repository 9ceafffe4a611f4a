//! What the pair and the namespace are to be like, and what is to be done where they are not: decided from what was seen alone.

use crate::metrics::Repair;

/// The largest MTU that a pair takes: packets of guests with any MTU fit, with 20 bytes more.
pub(super) const PAIR_MTU: u32 = 65535;

/// One end of the pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    pub(super) index: u32,
    pub(super) name: String,
    /// Index of its other end, in that end's namespace.
    pub(super) peer: Option<u32>,
    pub(super) is_up: bool,
    /// Whether it asks for MACs: it need not.
    pub(super) has_arp: bool,
    pub(super) mtu: u32,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The end in the node's namespace.
    pub(super) outer: Option<End>,
    /// Whether IPv6 is off there.
    pub(super) outer_without_ipv6: bool,
    /// The end in the responder's.
    pub(super) inner: Option<End>,
    /// Whether the inner end has its address, and the namespace its route and neighbour.
    pub(super) address: bool,
    pub(super) route: bool,
    pub(super) neighbour: bool,
    /// Settings of the namespace that are not as they are set up.
    pub(super) settings: Vec<String>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make the pair anew: there is none, or its ends are no pair.
    Make,
    /// Give the outer end its name back, or the inner one.
    NameOuter,
    NameInner,
    /// Set the outer end up.
    SetOuter,
    /// Configure the inner end and the namespace; this is missing.
    Configure(Vec<Missing>),
}

/// What the namespace lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Link,
    Address,
    Route,
    Neighbour,
    Settings(Vec<String>),
}

/// Says what is to be done, in this order, so that the pair's ends have these names.
pub(super) fn steps(seen: &Seen, outer_name: &str, inner_name: &str) -> Vec<Step> {
    let pair = seen.outer.as_ref().zip(seen.inner.as_ref());
    let pair = pair.filter(|(outer, inner)| outer.peer == Some(inner.index) && inner.peer == Some(outer.index));
    let Some((outer, inner)) = pair else {
        // What is configured on it comes with it.
        return vec![Step::Make];
    };
    let is_set = |end: &End| end.is_up && !end.has_arp && end.mtu == PAIR_MTU;
    let mut steps = Vec::new();
    if outer.name != outer_name {
        steps.push(Step::NameOuter);
    }
    if inner.name != inner_name {
        steps.push(Step::NameInner);
    }
    if !is_set(outer) || !seen.outer_without_ipv6 {
        steps.push(Step::SetOuter);
    }
    let mut missing = Vec::new();
    if inner.is_up && inner.mtu == PAIR_MTU {
        let present =
            [(seen.address, Missing::Address), (seen.route, Missing::Route), (seen.neighbour, Missing::Neighbour)];
        missing.extend(present.into_iter().filter(|(is_there, _)| !is_there).map(|(_, missing)| missing));
    } else {
        // An interface that goes down takes its addresses and routes with it.
        missing.push(Missing::Link);
    }
    if !seen.settings.is_empty() {
        missing.push(Missing::Settings(seen.settings.clone()));
    }
    if !missing.is_empty() {
        steps.push(Step::Configure(missing));
    }
    steps
}

impl Step {
    /// Returns what is counted once it is done, and what the log says was found.
    pub(super) fn repairs(&self) -> Vec<(Repair, String)> {
        let one = |repair, found: &str| vec![(repair, found.to_owned())];
        match self {
            Self::Make => one(Repair::Pair, "the pair of interfaces to the responder was gone"),
            Self::NameOuter => one(Repair::PairLink, "the pair was renamed"),
            Self::NameInner => one(Repair::PairLink, "the pair's end in the responder's namespace was renamed"),
            Self::SetOuter => one(Repair::PairLink, "the pair was down, or had another MTU, ARP or IPv6"),
            Self::Configure(missing) => missing.iter().map(Missing::repair).collect(),
        }
    }
}

impl Missing {
    fn repair(&self) -> (Repair, String) {
        match self {
            Self::Link => (Repair::PairLink, "the pair's end in the responder's namespace was down".to_owned()),
            Self::Address => (Repair::Address, "the responder's address was gone".to_owned()),
            Self::Route => (Repair::Route, "the responder's route to the guests was gone or changed".to_owned()),
            Self::Neighbour => (Repair::Neighbour, "the responder's neighbour entry was gone".to_owned()),
            Self::Settings(names) => {
                (Repair::Settings, format!("settings of the responder's namespace were changed: {}", names.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Seen {
        let end = |index, name: &str, peer| End {
            index,
            name: name.to_owned(),
            peer: Some(peer),
            is_up: true,
            has_arp: false,
            mtu: PAIR_MTU,
        };
        Seen {
            outer: Some(end(7, "md0", 2)),
            outer_without_ipv6: true,
            inner: Some(end(2, "guests", 7)),
            address: true,
            route: true,
            neighbour: true,
            settings: Vec::new(),
        }
    }

    fn steps_after(change: impl FnOnce(&mut Seen)) -> Vec<Step> {
        let mut seen = whole();
        change(&mut seen);
        steps(&seen, "md0", "guests")
    }

    fn outer(seen: &mut Seen) -> &mut End {
        seen.outer.as_mut().expect("there is one")
    }

    fn inner(seen: &mut Seen) -> &mut End {
        seen.inner.as_mut().expect("there is one")
    }

    #[test]
    fn what_is_as_it_should_be_is_left_alone() {
        assert_eq!(steps_after(|_| {}), []);
    }

    #[test]
    fn ends_that_are_no_pair_are_made_anew_whatever_else_is_wrong() {
        for change in [
            (|seen| seen.outer = None) as fn(&mut Seen),
            |seen| seen.inner = None,
            |seen| outer(seen).peer = Some(3),
            |seen| inner(seen).peer = None,
            |seen| (seen.inner, seen.address, seen.route) = (None, false, false),
        ] {
            assert_eq!(steps_after(change), [Step::Make]);
        }
    }

    #[test]
    fn each_change_is_undone_by_its_own_step() {
        for (change, expected) in [
            ((|seen| outer(seen).name = "x".to_owned()) as fn(&mut Seen), Step::NameOuter),
            (|seen| inner(seen).name = "x".to_owned(), Step::NameInner),
            (|seen| outer(seen).is_up = false, Step::SetOuter),
            (|seen| outer(seen).mtu = 1500, Step::SetOuter),
            (|seen| outer(seen).has_arp = true, Step::SetOuter),
            (|seen| seen.outer_without_ipv6 = false, Step::SetOuter),
            (|seen| inner(seen).mtu = 1500, Step::Configure(vec![Missing::Link])),
            (|seen| seen.address = false, Step::Configure(vec![Missing::Address])),
            (|seen| seen.route = false, Step::Configure(vec![Missing::Route])),
            (|seen| seen.neighbour = false, Step::Configure(vec![Missing::Neighbour])),
            (
                |seen| seen.settings = vec!["a".to_owned()],
                Step::Configure(vec![Missing::Settings(vec!["a".to_owned()])]),
            ),
        ] {
            let found = steps_after(change);
            assert_eq!(found, [expected]);
            assert_eq!(found[0].repairs().len(), 1);
        }
    }

    #[test]
    fn what_goes_with_an_interface_that_is_down_is_counted_as_that_alone() {
        let found = steps_after(|seen| {
            inner(seen).is_up = false;
            (seen.address, seen.route, seen.neighbour) = (false, false, false);
        });
        assert_eq!(found, [Step::Configure(vec![Missing::Link])]);
    }
}
