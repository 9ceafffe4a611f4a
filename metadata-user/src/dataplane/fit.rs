//! Making a port's allowed sources fit into the kernel's map, which has [`MAX_SOURCES`] places for each port.
//!
//! Promises:
//! - what fits stays as it is;
//! - of what does not fit, prefixes of one MAC that lie closest together are merged into the shortest prefix that covers
//!   them, until the rest fits: no address that was allowed is lost, and as few as possible are added;
//! - only where there are more MACs than places some get none, never the port's own;
//! - the caller learns that it did not fit.
//!
//! Wider sources put no data at risk: which instance's data is read is decided by the tap that a packet comes from. They
//! only let the guest use more source addresses for its own metadata.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use metadata_ebpf::abi::MAX_SOURCES;

use crate::record::MacAddress;

/// What did not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// How many pairs of MAC and prefix there are.
    count: usize,
    /// MACs for which there was no place, ascending.
    left_out: Vec<MacAddress>,
}

/// MACs that a message names.
const NAMED: usize = 3;

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, left_out } = self;
        write!(
            f,
            "{count} allowed (MAC, prefix) pairs are more than the {MAX_SOURCES} of a port in the kernel: the closest \
             prefixes are merged, so the guest may use more source addresses than documented"
        )?;
        if let [first, others @ ..] = &left_out[..] {
            write!(f, ", and no address with {first}")?;
            others.iter().take(NAMED - 1).try_for_each(|mac| write!(f, ", {mac}"))?;
            if let Some(more) = left_out.len().checked_sub(NAMED).filter(|more| *more > 0) {
                write!(f, " and {more} more MACs")?;
            }
        }
        f.write_str("; use fewer, wider prefixes in allowed_address_pairs")
    }
}

/// Makes joined sources fit, those of the port's own MAC first. Time: proportional to n log n.
#[must_use]
pub fn fit_sources(own: MacAddress, sources: Vec<(MacAddress, IpNet)>) -> (Vec<(MacAddress, IpNet)>, Option<Unfit>) {
    let count = sources.len();
    if count <= MAX_SOURCES {
        return (sources, None);
    }
    let mut by_mac: BTreeMap<(bool, MacAddress, bool), Vec<IpNet>> = BTreeMap::new();
    for (mac, prefix) in sources {
        by_mac.entry((mac != own, mac, prefix.addr().is_ipv6())).or_default().push(prefix);
    }
    let mut groups: Vec<_> = by_mac.into_iter().map(|((_, mac, _), prefixes)| (mac, prefixes)).collect();
    let mut left_out: Vec<_> = groups.drain(MAX_SOURCES.min(groups.len())..).map(|(mac, _)| mac).collect();
    left_out.dedup();
    let mut gaps = Vec::new();
    for (group, (_, prefixes)) in groups.iter_mut().enumerate() {
        prefixes.sort_unstable();
        gaps.extend(
            prefixes.windows(2).enumerate().map(|(place, pair)| (width(cover(pair[0], pair[1])), group, place)),
        );
    }
    gaps.sort_unstable();
    let places: usize = groups.iter().map(|(_, prefixes)| prefixes.len()).sum();
    gaps.truncate(places.saturating_sub(MAX_SOURCES));
    gaps.sort_unstable_by_key(|(_, group, place)| (*group, *place));
    let mut merged = gaps.into_iter().map(|(_, group, place)| (group, place)).peekable();
    let fitted = groups.into_iter().enumerate().flat_map(|(group, (mac, prefixes))| {
        let mut covers: Vec<IpNet> = Vec::new();
        for (place, prefix) in prefixes.into_iter().enumerate() {
            let with_former = place > 0 && merged.next_if_eq(&(group, place - 1)).is_some();
            match covers.last_mut().filter(|_| with_former) {
                Some(last) => *last = cover(*last, prefix),
                None => covers.push(prefix),
            }
        }
        // A cover may reach over a neighbour that lies as close.
        IpNet::aggregate(&covers).into_iter().map(move |prefix| (mac, prefix))
    });
    (fitted.collect(), Some(Unfit { count, left_out }))
}

/// Returns the longest prefix that covers both, which are of one family.
fn cover(one: IpNet, other: IpNet) -> IpNet {
    let same_bits = match (one.network(), other.network()) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => 0,
    };
    let length = u8::try_from(same_bits).unwrap_or(u8::MAX).min(one.prefix_len()).min(other.prefix_len());
    IpNet::new(one.addr(), length).unwrap_or(one).trunc()
}

/// Returns how wide a prefix is: its host bits, of 128 in both families.
fn width(prefix: IpNet) -> u32 {
    u32::from(prefix.max_prefix_len() - prefix.prefix_len()) * 128 / u32::from(prefix.max_prefix_len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dataplane::join_sources;

    fn mac(last: u8) -> MacAddress {
        MacAddress([0xfa, 0x16, 0x3e, 0, 0, last])
    }

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    fn fit(sources: &[(MacAddress, IpNet)]) -> (Vec<(MacAddress, IpNet)>, Option<Unfit>) {
        fit_sources(mac(1), join_sources(sources))
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let sources: Vec<_> = (0..64).map(|last| (mac(1), net(&format!("10.0.{last}.1/32")))).collect();
        assert_eq!(fit(&sources), (sources, None));
    }

    #[test]
    fn the_closest_prefixes_are_merged_first() {
        let mut sources: Vec<_> = (0..63).map(|last| (mac(1), net(&format!("10.{last}.0.1/32")))).collect();
        sources.extend([
            (mac(1), net("192.0.2.1/32")),
            (mac(1), net("192.0.2.4/32")),
            (mac(2), net("2001:db8::1/128")),
        ]);
        let (fitted, unfit) = fit(&sources);
        assert!(fitted.contains(&(mac(1), net("192.0.2.0/29"))), "{fitted:?}");
        assert!(fitted.contains(&(mac(2), net("2001:db8::1/128"))), "{fitted:?}");
        // One pair of the others had to be merged too, and neighbours that are no closer were left alone.
        assert_eq!(fitted.iter().filter(|(_, prefix)| prefix.prefix_len() == 32).count(), 61, "{fitted:?}");
        let text = unfit.expect("66 do not fit").to_string();
        assert!(text.starts_with("66 allowed") && !text.contains("no address with"), "{text}");
    }

    #[test]
    fn with_more_macs_than_places_the_ports_own_keeps_its_own() {
        let sources: Vec<_> = (0..100).map(|last| (mac(last), net("10.0.0.5/32"))).collect();
        let (fitted, unfit) = fit(&sources);
        assert_eq!(fitted.len(), MAX_SOURCES);
        assert!(fitted.contains(&(mac(1), net("10.0.0.5/32"))));
        let text = unfit.expect("100 do not fit").to_string();
        assert!(text.contains("no address with fa:16:3e:00:00:40, fa:16:3e:00:00:41"), "{text}");
        assert!(text.contains("and 33 more MACs"), "{text}");
    }

    fn source() -> impl Strategy<Value = (MacAddress, IpNet)> {
        let v4 = (any::<u16>(), 20..=32_u8).prop_map(|(bits, length)| {
            IpNet::new(std::net::Ipv4Addr::from_bits(0x0a00_0000 | u32::from(bits)).into(), length).expect("a length")
        });
        let v6 = (any::<u128>(), 0..=128_u8).prop_map(|(bits, length)| {
            IpNet::new(std::net::Ipv6Addr::from_bits(bits).into(), length).expect("a length")
        });
        ((0..4_u8).prop_map(mac), prop_oneof![3 => v4, 1 => v6])
    }

    proptest! {
        #[test]
        fn everything_fits_and_no_allowed_address_is_lost(sources in proptest::collection::vec(source(), 0..300)) {
            let (fitted, unfit) = fit(&sources);
            prop_assert!(fitted.len() <= MAX_SOURCES);
            prop_assert_eq!(unfit.is_some(), join_sources(&sources).len() > MAX_SOURCES);
            for (mac, prefix) in &sources {
                let covered = fitted.iter().any(|(other, cover)| other == mac && cover.contains(prefix));
                prop_assert!(covered, "{mac} {prefix}: {fitted:?}");
            }
        }
    }
}
