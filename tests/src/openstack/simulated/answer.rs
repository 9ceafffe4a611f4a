//! The answers of the simulated services: Keystone, Nova's compute API and Neutron, as far as the controller asks them.
//!
//! Promises: what is not known here is 404 in the service's own words; a request without a valid token is 401.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::counts::Kind;
use super::server::{Server, floating};
use super::shape::uuid;

/// The token that is valid.
const TOKEN: &str = "simulated-token";
/// The credential that is valid.
pub(super) const CREDENTIAL: (&str, &str) = ("simulated", "simulated-secret");

/// A request, as far as answers depend on it.
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

pub(super) type Answer = Response<Full<Bytes>>;

/// All that the services know.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) servers: BTreeMap<Uuid, Server>,
    /// Which server a port is of.
    pub(super) ports: BTreeMap<Uuid, Uuid>,
    pub(super) nodes: Vec<String>,
}

impl Contents {
    pub(super) fn add(&mut self, server: Server) {
        let id = server.record.uuid.0;
        self.ports.extend(server.port_ids().map(|port| (port, id)));
        self.servers.insert(id, server);
    }

    pub(super) fn remove(&mut self, id: Uuid) {
        if let Some(server) = self.servers.remove(&id) {
            for port in server.port_ids() {
                self.ports.remove(&port);
            }
        }
    }

    /// Answers a request whose path begins with the service: `identity`, `compute` or `network`.
    pub(super) fn answer(&self, asked: &Asked<'_>, address: &str) -> (Kind, Answer) {
        if asked.path == "/identity/v3/auth/tokens" && asked.method == Method::POST {
            return (Kind::Token, token(asked.body, address));
        }
        if asked.headers.get("x-auth-token").is_none_or(|token| token != TOKEN) {
            let body = json!({"error": {"code": 401, "message": "The request you have made requires authentication."}});
            return (Kind::Other, json_answer(StatusCode::UNAUTHORIZED, &body));
        }
        if let Some(path) = asked.path.strip_prefix("/compute/v2.1/") {
            let (kind, mut answer) = self.compute(path, asked.query);
            let version = HeaderValue::from_static("compute 2.79");
            answer.headers_mut().insert(HeaderName::from_static("openstack-api-version"), version);
            return (kind, answer);
        }
        match asked.path.strip_prefix("/network/v2.0/") {
            Some("ports") => (Kind::Ports, self.ports_of(asked.query)),
            Some("floatingips") => (Kind::FloatingIps, self.floating_ips(asked.query)),
            Some(path) if path.starts_with("ports/") => (Kind::Ports, self.port(path.trim_start_matches("ports/"))),
            _ => (Kind::Other, json_answer(StatusCode::NOT_FOUND, &json!({}))),
        }
    }

    fn compute(&self, path: &str, query: &str) -> (Kind, Answer) {
        let of_server = |id: &str| id.parse::<Uuid>().ok().and_then(|id| self.servers.get(&id));
        match path {
            "os-services" => (Kind::Services, ok(&json!({"services": self.services()}))),
            "servers/detail" => (Kind::List, self.list(query)),
            "os-migrations" => {
                let id = values(query, "instance_uuid").next().unwrap_or_default();
                (Kind::Moves, ok(&json!({"migrations": of_server(id).map(Server::moves).unwrap_or_default()})))
            }
            _ => match path.strip_prefix("servers/") {
                Some(id) => (
                    Kind::Server,
                    of_server(id).map_or_else(|| no_server(id), |server| ok(&json!({"server": server.of_nova()}))),
                ),
                None => (Kind::Other, json_answer(StatusCode::NOT_FOUND, &json!({}))),
            },
        }
    }

    fn services(&self) -> Vec<Value> {
        let service = |number: u32, binary: &str, host: &str| {
            json!({"id": uuid("service", number), "binary": binary, "host": host, "zone": "nova", "status": "enabled",
                "state": "up", "updated_at": "2026-11-01T10:00:00.000000", "disabled_reason": null, "forced_down": false})
        };
        let computes = (1..).zip(&self.nodes).map(|(number, node)| service(number, "nova-compute", node));
        [service(0, "nova-conductor", "control-1")].into_iter().chain(computes).collect()
    }

    /// A page of all servers, by id.
    fn list(&self, query: &str) -> Answer {
        let limit = values(query, "limit").next().and_then(|limit| limit.parse().ok()).unwrap_or(1000).min(1000);
        let from = match values(query, "marker").next() {
            None => Bound::Unbounded,
            Some(marker) => match marker.parse().ok().filter(|id| self.servers.contains_key(id)) {
                Some(id) => Bound::Excluded(id),
                None => {
                    let message = format!("marker [{marker}] not found");
                    let body = json!({"badRequest": {"code": 400, "message": message}});
                    return json_answer(StatusCode::BAD_REQUEST, &body);
                }
            },
        };
        let page: Vec<Value> =
            self.servers.range((from, Bound::Unbounded)).take(limit).map(|(_, server)| server.of_nova()).collect();
        let mut body = json!({});
        if page.len() == limit {
            let next = page.last().and_then(|last| last["id"].as_str()).unwrap_or_default();
            let href = format!("http://nova/v2.1/servers/detail?limit={limit}&marker={next}");
            body["servers_links"] = json!([{"rel": "next", "href": href}]);
        }
        body["servers"] = page.into();
        ok(&body)
    }

    fn ports_of(&self, query: &str) -> Answer {
        let servers: BTreeSet<Uuid> = values(query, "device_id").filter_map(|id| id.parse().ok()).collect();
        let found = servers.iter().filter_map(|id| self.servers.get(id));
        let of = |server: &Server| server.record.ports.iter().map(|port| server.port(port)).collect::<Vec<_>>();
        ok(&json!({"ports": found.flat_map(of).collect::<Vec<_>>()}))
    }

    fn port(&self, id: &str) -> Answer {
        let id = id.parse::<Uuid>().unwrap_or_default();
        let server = self.ports.get(&id).and_then(|server| self.servers.get(server));
        let port = server.and_then(|server| Some((server, server.record.ports.iter().find(|port| port.id.0 == id)?)));
        match port {
            Some((server, port)) => ok(&json!({"port": server.port(port)})),
            None => {
                let error =
                    json!({"type": "PortNotFound", "message": format!("Port {id} could not be found."), "detail": ""});
                json_answer(StatusCode::NOT_FOUND, &json!({"NeutronError": error}))
            }
        }
    }

    fn floating_ips(&self, query: &str) -> Answer {
        let ports: BTreeSet<Uuid> = values(query, "port_id").filter_map(|id| id.parse().ok()).collect();
        let servers: BTreeSet<Uuid> = ports.iter().filter_map(|port| self.ports.get(port)).copied().collect();
        let of_servers = servers.iter().filter_map(|id| self.servers.get(id)).flat_map(|server| &server.record.ports);
        let found = of_servers.filter(|port| ports.contains(&port.id.0)).flat_map(floating);
        let found: Vec<Value> = found.map(|address| json!({"floating_ip_address": address})).collect();
        ok(&json!({"floatingips": found}))
    }
}

fn token(body: &[u8], address: &str) -> Answer {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let credential = &asked["auth"]["identity"]["application_credential"];
    if credential["id"] != CREDENTIAL.0 || credential["secret"] != CREDENTIAL.1 {
        let body = json!({"error": {"code": 401, "message": "The request you have made requires authentication."}});
        return json_answer(StatusCode::UNAUTHORIZED, &body);
    }
    let endpoints = |path: &str| json!([{"interface": "public", "region_id": "simulated", "url": format!("http://{address}/{path}")}]);
    let issued = Timestamp::now();
    let body = json!({"token": {
        "issued_at": issued.to_string(),
        "expires_at": (issued + SignedDuration::from_hours(24)).to_string(),
        "catalog": [{"type": "compute", "endpoints": endpoints("compute/v2.1")},
            {"type": "network", "endpoints": endpoints("network")}],
    }});
    let mut answer = json_answer(StatusCode::CREATED, &body);
    answer.headers_mut().insert(HeaderName::from_static("x-subject-token"), HeaderValue::from_static(TOKEN));
    answer
}

/// Returns the values of a key of a query; ids and numbers need no decoding.
fn values<'a>(query: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(move |(name, _)| *name == key)
        .map(|(_, value)| value)
}

fn no_server(id: &str) -> Answer {
    let body = json!({"itemNotFound": {"code": 404, "message": format!("Instance {id} could not be found.")}});
    json_answer(StatusCode::NOT_FOUND, &body)
}

fn ok(body: &Value) -> Answer {
    json_answer(StatusCode::OK, body)
}

fn json_answer(status: StatusCode, body: &Value) -> Answer {
    self::answer(status, "application/json", body.to_string().into())
}

/// Makes an answer.
pub(super) fn answer(status: StatusCode, content_type: &str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    if let Ok(value) = HeaderValue::from_str(content_type) {
        answer.headers_mut().insert(CONTENT_TYPE, value);
    }
    answer
}
