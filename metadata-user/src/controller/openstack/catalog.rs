//! Where Keystone's catalogue says that the services are: pure.

use serde::Deserialize;

use crate::config::controller::Interface;
use crate::config::target::TargetUrl;

/// What Keystone answers to a request for a token (Identity API v3, `POST /v3/auth/tokens`).
#[derive(Debug, Deserialize)]
pub(super) struct TokenAnswer {
    pub(super) token: TokenFields,
}

#[derive(Debug, Deserialize)]
pub(super) struct TokenFields {
    pub(super) expires_at: String,
    pub(super) issued_at: String,
    #[serde(default)]
    pub(super) catalog: Catalog,
}

/// Keystone's catalogue.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Catalog(Vec<Entry>);

#[derive(Clone, Debug, Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Deserialize)]
struct Endpoint {
    interface: String,
    region_id: Option<String>,
    region: Option<String>,
    url: String,
}

impl Endpoint {
    fn region(&self) -> &str {
        self.region_id.as_deref().or(self.region.as_deref()).unwrap_or_default()
    }
}

impl Catalog {
    /// Returns the endpoint of a service, with `version` at the end of its path.
    ///
    /// # Errors
    /// What is wrong, in words: as what Keystone does.
    pub(super) fn endpoint(
        &self,
        kind: &str,
        version: &str,
        interface: Interface,
        region: Option<&str>,
    ) -> Result<TargetUrl, String> {
        let of_kind = || self.0.iter().filter(|entry| entry.kind == kind).flat_map(|entry| &entry.endpoints);
        if of_kind().next().is_none() {
            let key = if kind == "network" { "neutron.endpoint" } else { "nova.endpoint" };
            return Err(format!("has no service `{kind}` in its catalogue for this project: set {key}"));
        }
        let of_region = || of_kind().filter(|endpoint| region.is_none_or(|region| endpoint.region() == region));
        if of_region().next().is_none() {
            let known = names(of_kind().map(Endpoint::region));
            return Err(format!("has no endpoint of `{kind}` in this region: set keystone.region to one of {known}"));
        }
        let mut fitting = of_region().filter(|endpoint| endpoint.interface == interface.as_str());
        let Some(first) = fitting.next() else {
            let known = names(of_region().map(|endpoint| &*endpoint.interface));
            return Err(format!(
                "has no {} endpoint of `{kind}`: set keystone.interface to one of {known}",
                interface.as_str()
            ));
        };
        if fitting.any(|other| other.region() != first.region()) {
            let known = names(of_region().map(Endpoint::region));
            return Err(format!("has endpoints of `{kind}` in several regions: set keystone.region to one of {known}"));
        }
        let mut url = TargetUrl::parse(&first.url)
            .map_err(|problem| format!("has an endpoint of `{kind}` that cannot be used ({problem}): {}", first.url))?;
        url.path = versioned(&url.path, version);
        Ok(url)
    }
}

/// Returns a path that ends with the version, which may be there already (with a project behind it, as old catalogues have it).
pub(super) fn versioned(path: &str, version: &str) -> String {
    let path = path.split('?').next().unwrap_or_default().trim_end_matches('/');
    let mut segments: Vec<&str> = path.split('/').collect();
    match segments.iter().rposition(|segment| *segment == version) {
        Some(at) => {
            segments.truncate(at + 1);
            segments.join("/")
        }
        None => format!("{path}/{version}"),
    }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        let text = r#"[
            {"type": "compute", "name": "nova", "id": "1", "endpoints": [
                {"id": "a", "interface": "internal", "region": "one", "region_id": "one", "url": "http://nova:8774/v2.1"},
                {"id": "b", "interface": "public", "region": "one", "region_id": "one", "url": "https://api.example/compute/v2.1/abc/"},
                {"id": "c", "interface": "internal", "region": "two", "region_id": "two", "url": "http://nova2:8774"}]},
            {"type": "network", "name": "neutron", "id": "2", "endpoints": [
                {"id": "d", "interface": "public", "region": "one", "region_id": "one", "url": "http://neutron:9696"}]},
            {"type": "image", "name": "glance", "id": "3", "endpoints": []}]"#;
        serde_json::from_str(text).expect("a catalogue")
    }

    #[test]
    fn the_endpoint_of_region_and_interface_is_found_with_its_version() {
        for (kind, version, interface, region, expected) in [
            ("compute", "v2.1", Interface::Internal, Some("one"), "http://nova:8774/v2.1"),
            ("compute", "v2.1", Interface::Internal, Some("two"), "http://nova2:8774/v2.1"),
            ("compute", "v2.1", Interface::Public, None, "https://api.example/compute/v2.1"),
            ("network", "v2.0", Interface::Public, None, "http://neutron:9696/v2.0"),
        ] {
            let url = catalog().endpoint(kind, version, interface, region).expect(expected);
            assert_eq!(url.to_string(), expected);
        }
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        for (kind, interface, region, expected) in [
            ("compute", Interface::Internal, None, "several regions: set keystone.region to one of one, two"),
            (
                "compute",
                Interface::Internal,
                Some("three"),
                "no endpoint of `compute` in this region: set keystone.region to one of one, two",
            ),
            (
                "compute",
                Interface::Admin,
                Some("two"),
                "no admin endpoint of `compute`: set keystone.interface to one of internal",
            ),
            ("image", Interface::Internal, None, "no service `image`"),
        ] {
            let problem = catalog().endpoint(kind, "v2.1", interface, region).expect_err(expected);
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
