//! Which instance an operator means: by UUID, by the name of its tap, or by its host name.
//!
//! Promises: pure; a name that means several instances means none of them.

use crate::admin::preview::PreviewError;
use crate::api::Content;
use crate::port::{PortState, PortView};
use crate::record::InstanceId;

/// Returns the instance of this name.
pub(super) fn instance(
    name: &str,
    ports: &[PortView],
    served: impl FnOnce() -> Vec<Content>,
) -> Result<InstanceId, PreviewError> {
    let of_port = |port: &PortView| match &port.state {
        PortState::Bound(assignment) => Some(assignment.instance),
        _ => None,
    };
    let served = served();
    if let Ok(id) = name.parse::<InstanceId>() {
        let is_known =
            served.iter().any(|content| content.uuid() == id) || ports.iter().filter_map(of_port).any(|of| of == id);
        return is_known.then_some(id).ok_or_else(|| PreviewError::NoInstance(name.to_owned()));
    }
    let by_tap = ports.iter().filter(|port| port.name == name).filter_map(of_port);
    let by_name = served.iter().filter(|content| content.is_named(name)).map(Content::uuid);
    let mut found: Vec<_> = by_tap.chain(by_name).collect();
    found.sort_unstable();
    found.dedup();
    match found[..] {
        [] => Err(PreviewError::NoInstance(name.to_owned())),
        [instance] => Ok(instance),
        _ => Err(PreviewError::Ambiguous {
            name: name.to_owned(),
            instances: found.iter().map(ToString::to_string).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Cloud;
    use crate::app::view::ports::tests::bound;
    use crate::store::Store;
    use crate::store::tests::{id, record};

    #[test]
    fn a_name_means_one_instance_or_none() {
        let store = Store::new(Cloud { dhcp_domain: "cloud.test".to_owned(), ..Cloud::default() });
        for (number, host) in [(1, "web"), (2, "db"), (3, "db"), (4, "tap2")] {
            let mut record = record(number, "p", &[]);
            record.hostname = host.into();
            store.put(record);
        }
        let ports = [bound("tap1", id(1)), bound("tap2", id(2)), bound("tap9", id(9))];
        let ask = |name: &str| instance(name, &ports, || store.all());
        for (name, expected) in [
            (id(3).to_string(), 3),
            ("web".to_owned(), 1),
            ("web.cloud.test".to_owned(), 1),
            ("tap1".to_owned(), 1),
            ("tap9".to_owned(), 9),
            (id(9).to_string(), 9),
        ] {
            assert_eq!(ask(&name), Ok(id(expected)), "{name}");
        }
        for name in [id(5).to_string(), "tap3".to_owned(), "we".to_owned(), "web.other".to_owned()] {
            assert_eq!(ask(&name), Err(PreviewError::NoInstance(name)));
        }
        for (name, instances) in [("db", [2, 3]), ("tap2", [2, 4])] {
            let instances = instances.map(|number| id(number).to_string()).to_vec();
            assert_eq!(ask(name), Err(PreviewError::Ambiguous { name: name.to_owned(), instances }));
        }
    }
}
