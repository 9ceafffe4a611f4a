//! What proves what an instance is, before it is signed: the claims of a token, and EC2's instance identity document.
//!
//! Promises: every claim about the instance is the controller's or the node's; of what the guest sends, the audience and the
//! nonce are in it, and nothing else. A token says nothing without an audience, which the guest has to name. A document has the
//! same bytes whenever it is asked for, until the instance changes.
//!
//! Left out: signing, the time, and random numbers (`http`); EC2's signatures in PKCS #7.

use serde::Serialize;

use super::super::own::{DYNAMIC, INSTANCE_IDENTITY};
use super::super::{Content, PLAIN, Page, ec2, route};
use super::query::QueryError;
use crate::record::{InstanceId, PortId};

/// Longest audience, in bytes.
pub const LONGEST_AUDIENCE: usize = 256;
/// Longest nonce, in bytes.
pub const LONGEST_NONCE: usize = 128;

/// What a guest asks a token for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    audience: String,
    nonce: Option<String>,
}

impl TokenRequest {
    /// Reads the query of a request for a token. Names that it does not know mean nothing.
    ///
    /// # Errors
    /// [`QueryError::Audience`] or [`QueryError::Nonce`] for what is missing, empty, too long, not printable ASCII, or there
    /// more than once: whoever verifies must be able to rely on them.
    pub fn of(target: &str) -> Result<Self, QueryError> {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let (mut audience, mut nonce) = (None, None);
        for pair in query.split('#').next().unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (place, longest, error) = match name {
                "audience" => (&mut audience, LONGEST_AUDIENCE, QueryError::Audience),
                "nonce" => (&mut nonce, LONGEST_NONCE, QueryError::Nonce),
                _ => continue,
            };
            let value = printable(value, longest).ok_or(error)?;
            if place.replace(value).is_some() {
                return Err(error);
            }
        }
        Ok(Self { audience: audience.ok_or(QueryError::Audience)?, nonce })
    }
}

/// Returns a value of a query that is printable ASCII without spaces.
fn printable(value: &str, longest: usize) -> Option<String> {
    // Three bytes of the query at most are one of the value.
    let value = (value.len() <= 3 * longest).then(|| route::percent_decoded(value.as_bytes()))?;
    let is_possible = (1..=longest).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    is_possible.then(|| String::from_utf8(value).ok()).flatten()
}

/// What a token says beside who asked and what they asked for.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// Who signs.
    pub issuer: &'a str,
    /// The node that the instance is on.
    pub node: &'a str,
    /// The port that it is asked for at.
    pub port: Option<PortId>,
    /// The time, in seconds of Unix time.
    pub now: u64,
    /// How long it is valid, in seconds.
    pub lifetime: u64,
    /// A name of the token that no other has.
    pub id: &'a str,
}

/// The claims of a token (RFC 7519, section 4.1), in the order in which they are written.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: String,
    aud: &'a str,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    openstack: Facts<'a>,
}

/// What is known of the instance. What is not known is left out.
#[derive(Serialize)]
struct Facts<'a> {
    instance_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    project_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port_id: Option<String>,
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flavor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    availability_zone: Option<&'a str>,
}

/// Facts of either kind of content.
struct Known<'a> {
    instance: InstanceId,
    project: Option<&'a str>,
    image: Option<&'a str>,
    flavor: Option<&'a str>,
    zone: Option<&'a str>,
}

impl<'a> Known<'a> {
    fn of(content: &'a Content) -> Self {
        let (instance, project) = (content.uuid(), content.project().map(|project| project.as_str()));
        match content {
            Content::Rendered(rendered) => {
                let record = rendered.record();
                let image = record.image_ref.as_deref().filter(|image| !image.is_empty());
                let (flavor, zone) = (record.flavor.as_deref(), record.availability_zone.as_deref());
                Self { instance, project, image, flavor, zone }
            }
            // Nova's pages name the image as EC2 would, and so no image of OpenStack's.
            Content::NovaPages(pages) => {
                let page = |path: &str| pages.page(path).filter(|page| page.is_found()).and_then(Page::text);
                let flavor = page("latest/meta-data/instance-type");
                let zone = page("latest/meta-data/placement/availability-zone");
                Self { instance, project, image: None, flavor, zone }
            }
        }
    }
}

/// Returns the claims of a token for the instance with this content, as JSON.
#[must_use]
pub fn claims(content: &Content, asked: &TokenRequest, signed: &Signed<'_>) -> Vec<u8> {
    let Signed { issuer, node, port, now, lifetime, id } = *signed;
    let Known { instance, project, image, flavor, zone } = Known::of(content);
    let claims = Claims {
        iss: issuer,
        sub: format!("urn:uuid:{instance}"),
        aud: &asked.audience,
        iat: now,
        nbf: now,
        exp: now.saturating_add(lifetime),
        jti: id,
        nonce: asked.nonce.as_deref(),
        openstack: Facts {
            instance_id: instance.to_string(),
            project_id: project,
            port_id: port.map(|port| port.to_string()),
            node,
            image_id: image,
            flavor,
            availability_zone: zone,
        },
    };
    serde_json::to_vec(&claims).unwrap_or_default()
}

/// EC2's document, with the members that it has there, in that order. What OpenStack has nothing for is null.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    account_id: Option<&'a str>,
    architecture: Option<&'a str>,
    availability_zone: Option<&'a str>,
    billing_products: Option<&'a str>,
    devpay_product_codes: Option<&'a str>,
    marketplace_product_codes: Option<&'a str>,
    image_id: Option<&'a str>,
    instance_id: Option<&'a str>,
    instance_type: Option<&'a str>,
    kernel_id: Option<&'a str>,
    pending_time: Option<&'a str>,
    private_ip: Option<&'a str>,
    ramdisk_id: Option<&'a str>,
    region: Option<&'a str>,
    version: &'a str,
    /// Not EC2's: the instance as OpenStack names it.
    openstack: DocumentFacts<'a>,
}

#[derive(Serialize)]
struct DocumentFacts<'a> {
    issuer: &'a str,
    instance_id: String,
    node: &'a str,
}

/// Returns EC2's document of the instance with this content, on this node, as `issuer` signs it.
#[must_use]
pub fn document(content: &Content, issuer: &str, node: &str) -> Vec<u8> {
    let Known { instance, project, image: _, flavor, zone } = Known::of(content);
    let page = |path: &str| match content {
        Content::Rendered(_) => None,
        Content::NovaPages(pages) => {
            let page = pages.page(&format!("latest/meta-data/{path}")).filter(|page| page.is_found());
            page.and_then(Page::text).filter(|text| !text.is_empty())
        }
    };
    let record = match content {
        Content::Rendered(rendered) => Some(rendered.record()),
        Content::NovaPages(_) => None,
    };
    let ids = record.map(|record| &record.ec2_ids);
    let document = Document {
        account_id: project,
        architecture: None,
        availability_zone: zone,
        billing_products: None,
        devpay_product_codes: None,
        marketplace_product_codes: None,
        image_id: ids.and_then(|ids| ids.ami_id.as_deref()).or_else(|| page("ami-id")),
        instance_id: ids.map(|ids| &*ids.instance_id).or_else(|| page("instance-id")),
        instance_type: flavor,
        kernel_id: ids.and_then(|ids| ids.kernel_id.as_deref()).or_else(|| page("kernel-id")),
        pending_time: None,
        private_ip: record.and_then(|record| record.local_ipv4.as_deref()).or_else(|| page("local-ipv4")),
        ramdisk_id: ids.and_then(|ids| ids.ramdisk_id.as_deref()).or_else(|| page("ramdisk-id")),
        region: None,
        version: "2017-09-30",
        openstack: DocumentFacts { issuer, instance_id: instance.to_string(), node },
    };
    serde_json::to_vec_pretty(&document).unwrap_or_default()
}

/// What is at or below `dynamic` of a version of the EC2 tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InDynamic {
    /// A listing.
    Listing(&'static str),
    /// The document.
    Document,
    /// Its signature.
    Signature,
}

impl InDynamic {
    /// The content type of all of it.
    pub const CONTENT_TYPE: &'static str = PLAIN;

    /// Returns what the target of a request names; `None`: nothing.
    #[must_use]
    pub fn of(target: &str) -> Option<Self> {
        let path = route::path(target)?;
        let path = path.strip_prefix("ec2/").unwrap_or(&path);
        let (version, rest) = path.split_once('/')?;
        ec2::version(version)?;
        match rest.strip_prefix(DYNAMIC)?.strip_prefix('/') {
            None if rest.len() == DYNAMIC.len() => Some(Self::Listing("instance-identity/")),
            None => None,
            Some(rest) => match rest.strip_prefix(INSTANCE_IDENTITY)? {
                "" => Some(Self::Listing("document\nsignature")),
                "/document" => Some(Self::Document),
                "/signature" => Some(Self::Signature),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::api::{Cloud, NovaPages, RenderedInstance};
    use crate::record::InstanceRecord;
    use crate::store::tests::{id, record};

    fn asked(query: &str) -> Result<TokenRequest, QueryError> {
        TokenRequest::of(&format!("/openstack/latest/identity{query}"))
    }

    #[test]
    fn a_token_has_one_audience_and_at_most_one_nonce() {
        let request = |audience: &str, nonce: Option<&str>| {
            Ok(TokenRequest { audience: audience.to_owned(), nonce: nonce.map(str::to_owned) })
        };
        for (query, expected) in [
            ("?audience=a", request("a", None)),
            (
                "?audience=https://x.example/a%3Fb%26c&nonce=%7E1&format=full",
                request("https://x.example/a?b&c", Some("~1")),
            ),
            ("?nonce=1&audience=a+b#x", request("a+b", Some("1"))),
            ("", Err(QueryError::Audience)),
            ("?nonce=1", Err(QueryError::Audience)),
            ("?audience", Err(QueryError::Audience)),
            ("?audience=", Err(QueryError::Audience)),
            ("?audience=a&audience=a", Err(QueryError::Audience)),
            ("?audience=a%20b", Err(QueryError::Audience)),
            ("?audience=%c3%a4", Err(QueryError::Audience)),
            ("?audience=a%00", Err(QueryError::Audience)),
            ("?audience=a%", request("a", None)),
            ("?audience=a&nonce=", Err(QueryError::Nonce)),
            ("?audience=a&nonce=1&nonce=2", Err(QueryError::Nonce)),
            ("?audience=a&nonce=%0a", Err(QueryError::Nonce)),
        ] {
            assert_eq!(asked(query), expected, "{query}");
        }
        for (name, longest, error) in
            [("audience", LONGEST_AUDIENCE, QueryError::Audience), ("nonce", LONGEST_NONCE, QueryError::Nonce)]
        {
            let with =
                |value: &str| asked(&format!("?{}{name}={value}", if name == "nonce" { "audience=a&" } else { "" }));
            for value in ["x", "%78"] {
                assert!(with(&value.repeat(longest)).is_ok());
                assert_eq!(with(&value.repeat(longest + 1)), Err(error));
            }
        }
    }

    fn rendered() -> Content {
        let record = InstanceRecord {
            flavor: Some("m1.small".into()),
            image_ref: Some("155d900f-4e14-4e4c-a73d-069cbf4541e6".into()),
            availability_zone: Some("nova".into()),
            local_ipv4: Some("10.0.0.5".into()),
            ..record(1, "p", &["tap1"])
        };
        Content::Rendered(Arc::new(RenderedInstance::new(Arc::new(record), Arc::new(Cloud::default()))))
    }

    fn pages() -> Content {
        let page = |path: &str, text: &str| (path.to_owned(), Page::found(Some(PLAIN), text.to_owned().into()));
        let pages = [
            page("latest/meta-data/instance-type", "m1.small"),
            page("latest/meta-data/placement/availability-zone", "nova"),
            page("latest/meta-data/instance-id", "i-1"),
        ];
        Content::NovaPages(Arc::new(NovaPages::new(id(1), pages)))
    }

    const SIGNED: Signed<'_> =
        Signed { issuer: "https://issuer", node: "node-1", port: None, now: 1000, lifetime: 300, id: "unique" };

    fn claimed(content: &Content, signed: &Signed<'_>, query: &str) -> Value {
        serde_json::from_slice(&claims(content, &asked(query).expect("a request"), signed)).expect("JSON")
    }

    #[test]
    fn claims_are_the_controllers_and_the_nodes_but_for_audience_and_nonce() {
        let signed = Signed { port: Some(PortId(id(7).0)), ..SIGNED };
        let expected = json!({
            "iss": "https://issuer",
            "sub": format!("urn:uuid:{}", id(1)),
            "aud": "\"},x",
            "iat": 1000,
            "nbf": 1000,
            "exp": 1300,
            "jti": "unique",
            "nonce": "n",
            "openstack": {
                "instance_id": id(1).to_string(),
                "project_id": "p",
                "port_id": id(7).to_string(),
                "node": "node-1",
                "image_id": "155d900f-4e14-4e4c-a73d-069cbf4541e6",
                "flavor": "m1.small",
                "availability_zone": "nova",
            },
        });
        assert_eq!(claimed(&rendered(), &signed, "?audience=%22%7D,x&nonce=n&iss=me&openstack=x"), expected);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let claims = claimed(&pages(), &SIGNED, "?audience=a");
        assert!(claims.get("nonce").is_none());
        let expected = json!({
            "instance_id": id(1).to_string(), "node": "node-1", "flavor": "m1.small", "availability_zone": "nova",
        });
        assert_eq!(claims["openstack"], expected);
    }

    #[test]
    fn the_document_is_what_ec2_calls_it_and_always_the_same() {
        for content in [rendered(), pages()] {
            let bytes = document(&content, "https://issuer", "node-1");
            assert_eq!(bytes, document(&content, "https://issuer", "node-1"));
            let document: Value = serde_json::from_slice(&bytes).expect("JSON");
            assert_eq!(document.as_object().expect("an object").len(), 16);
            assert_eq!(
                (&document["instanceType"], &document["availabilityZone"]),
                (&json!("m1.small"), &json!("nova"))
            );
            assert!(document["instanceId"].as_str().expect("a text").starts_with("i-"), "{document}");
            let expected = json!({"issuer": "https://issuer", "instance_id": id(1).to_string(), "node": "node-1"});
            assert_eq!(document["openstack"], expected);
        }
    }

    #[test]
    fn the_documents_paths_are_those_of_ec2_in_every_version() {
        use InDynamic::{Document, Listing, Signature};
        for (target, expected) in [
            ("/latest/dynamic", Some(Listing("instance-identity/"))),
            ("/2009-04-04/dynamic/?x", Some(Listing("instance-identity/"))),
            ("/ec2/latest/dynamic/instance-identity", Some(Listing("document\nsignature"))),
            ("/latest//dynamic/instance-identity/document/", Some(Document)),
            ("/1.0/dynamic/instance-identity/signature", Some(Signature)),
            ("/latest/dynamic/instance-identity/pkcs7", None),
            ("/latest/dynamics", None),
            ("/latest/dynamic/fws", None),
            ("/2021-03-23/dynamic/instance-identity/document", None),
            ("/openstack/latest/dynamic", None),
        ] {
            assert_eq!(InDynamic::of(target), expected, "{target}");
        }
    }
}
