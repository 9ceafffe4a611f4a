//! Which subnet names which name server.
//!
//! Nova lists all name servers once, in the order of the subnets that name them, and says of a subnet with DHCP no more than
//! that. Here each subnet is given some, so that the list comes out as it was.

use crate::record::Address;

/// Most steps of the search. Real instances take a few.
const STEPS: usize = 20_000;

/// Most subnets that are looked at.
const MOST: usize = 256;

/// A subnet, in Nova's order.
#[derive(Clone, Debug)]
pub(super) struct Subnet {
    pub(super) is_ipv4: bool,
    /// What it names, if that is known.
    pub(super) servers: Option<Vec<Address>>,
}

/// Returns the servers of each subnet; `None`: no way was found in which the list comes out like this.
pub(super) fn assign(subnets: &[Subnet], list: &[Address]) -> Option<Vec<Vec<Address>>> {
    if subnets.len() > MOST {
        return None;
    }
    let mut search = Search { subnets, list, taken: Vec::with_capacity(subnets.len()), steps: STEPS };
    search.find(0).then(|| {
        let mut from = 0;
        let assigned = subnets.iter().zip(search.taken).map(|(subnet, taken)| {
            let part = &list[from..from + taken];
            from += taken;
            subnet.servers.clone().unwrap_or_else(|| part.to_vec())
        });
        assigned.collect()
    })
}

struct Search<'a> {
    subnets: &'a [Subnet],
    list: &'a [Address],
    /// How many entries of the list each subnet has added.
    taken: Vec<usize>,
    steps: usize,
}

impl Search<'_> {
    /// Gives the subnets that have none yet their parts of the list from a place on.
    fn find(&mut self, from: usize) -> bool {
        let number = self.taken.len();
        let Some(subnet) = self.subnets.get(number) else { return from == self.list.len() };
        let rest = &self.list[from..];
        let choices: Vec<usize> = match &subnet.servers {
            Some(servers) => {
                let new: Vec<&Address> = servers.iter().filter(|server| !self.is_named(number, from, server)).collect();
                let is_next =
                    rest.len() >= new.len() && rest.iter().zip(&new).all(|(listed, server)| listed == *server);
                if is_next { vec![new.len()] } else { Vec::new() }
            }
            None => {
                // What was named before cannot come again.
                let most = rest.iter().position(|server| self.is_named(number, from, server)).unwrap_or(rest.len());
                let is_of_family = |server: &&Address| server.ip().is_ipv4() == subnet.is_ipv4;
                let later = |server: &Address| {
                    let known = self.subnets[number..].iter().filter_map(|subnet| subnet.servers.as_ref());
                    known.flatten().any(|known| known == server)
                };
                // Most likely those of its own IP version, up to one that a later subnet is known to name.
                let likely = rest[..most].iter().take_while(|server| is_of_family(server) && !later(server)).count();
                std::iter::once(likely).chain((0..=most).rev().filter(|count| *count != likely)).collect()
            }
        };
        for count in choices {
            if self.steps == 0 {
                return false;
            }
            self.steps -= 1;
            self.taken.push(count);
            if self.find(from + count) {
                return true;
            }
            self.taken.pop();
        }
        false
    }

    /// Tells whether a subnet before this one names a server.
    fn is_named(&self, number: usize, from: usize, server: &Address) -> bool {
        let known = self.subnets[..number].iter().filter_map(|subnet| subnet.servers.as_ref());
        self.list[..from].contains(server) || known.flatten().any(|known| known == server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<Address> {
        text.split_whitespace().map(|text| text.parse().unwrap()).collect()
    }

    /// Checks what each subnet gets: `4` and `6` are unknown ones of that IP version.
    fn check(subnets: &[&str], list: &str, expected: Option<&[&str]>) {
        let subnets: Vec<Subnet> = subnets
            .iter()
            .map(|text| Subnet {
                is_ipv4: *text != "6",
                servers: if matches!(*text, "4" | "6") { None } else { Some(addresses(text)) },
            })
            .collect();
        let expected = expected.map(|parts| parts.iter().map(|part| addresses(part)).collect::<Vec<_>>());
        assert_eq!(assign(&subnets, &addresses(list)), expected, "{subnets:?} {list}");
    }

    #[test]
    fn the_list_comes_out_as_it_was() {
        check(&[], "", Some(&[]));
        check(&[], "1.1.1.1", None);
        check(&["4", "6"], "1.1.1.1 2.2.2.2 ::1", Some(&["1.1.1.1 2.2.2.2", "::1"]));
        check(&["4", "4"], "1.1.1.1 2.2.2.2", Some(&["1.1.1.1 2.2.2.2", ""]));
        check(&["6"], "1.1.1.1 1.1.1.1", Some(&["1.1.1.1 1.1.1.1"]));
        // The second names one of its own, and one that the first has named.
        check(&["1.1.1.1", "4"], "1.1.1.1 2.2.2.2", Some(&["1.1.1.1", "2.2.2.2"]));
        check(&["4", "1.1.1.1 3.3.3.3"], "2.2.2.2 1.1.1.1 3.3.3.3", Some(&["2.2.2.2", "1.1.1.1 3.3.3.3"]));
        check(&["4", "1.1.1.1", "4"], "1.1.1.1 2.2.2.2", Some(&["", "1.1.1.1", "2.2.2.2"]));
        check(&["1.1.1.1"], "2.2.2.2", None);
    }

    #[test]
    fn a_search_without_end_is_given_up() {
        let mut subnets = vec![Subnet { is_ipv4: true, servers: None }; 40];
        subnets.push(Subnet { is_ipv4: true, servers: Some(addresses("9.9.9.9")) });
        let list: Vec<Address> = (0..40).map(|n| format!("10.0.0.{n}").parse().unwrap()).collect();
        assert_eq!(assign(&subnets, &list), None);
    }
}
