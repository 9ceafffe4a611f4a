//! `cargo xtask setup --prometheus`: the Prometheus that `tests/controllers` lets scrape a daemon, in `target/prometheus`.

use crate::fetch::Collection;

/// Prometheus, and promtool in the same package. Its web pages need further packages, which nothing here looks at.
pub(crate) const PROMETHEUS: Collection =
    Collection { name: "prometheus", what: "Prometheus and promtool", debian: &["prometheus"], pypi: &[], needed: &[] };
