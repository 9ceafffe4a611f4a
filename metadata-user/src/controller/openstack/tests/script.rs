//! An OpenStack of a few lines: Keystone, Nova's two APIs and Neutron on one port, whose answers a test can change.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};

use crate::api::NOT_FOUND_TEXT;
use crate::config::controller::Controller;
use crate::controller::openstack::OpenStack;
use crate::controller::openstack::server::tests::SERVER;

/// A request.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken {
    pub(super) line: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

/// An answer: status, content type, body.
pub(super) type Said = (u16, &'static str, String);

/// What answers differently: `None` from it goes on as before, and status 0 hangs.
type Instead = Box<dyn Fn(&Taken) -> Option<Said> + Send>;

pub(super) const JSON: &str = "application/json";

/// What a test may change.
pub(super) struct Cloud {
    pub(super) secret: String,
    /// Tokens that were given; the last is valid.
    pub(super) tokens: usize,
    pub(super) token_life: i64,
    pub(super) server: Value,
    pub(super) migrations: Value,
    pub(super) ports: Value,
    pub(super) floating: Vec<&'static str>,
    pub(super) services: Vec<&'static str>,
    /// `meta_data.json`'s properties and name, as the metadata API still has them.
    pub(super) cached: Option<Value>,
    /// The project in which the metadata API knows the instance.
    pub(super) project: String,
    /// Takes precedence.
    pub(super) instead: Option<Instead>,
    pub(super) taken: Vec<Taken>,
}

/// A running one. Its threads end with the process.
#[derive(Clone)]
pub(super) struct Script {
    pub(super) address: String,
    cloud: Arc<Mutex<Cloud>>,
    directory: Arc<tempfile::TempDir>,
}

pub(super) const SERVICES: [&str; 2] = ["00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"];

impl Script {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("an address").to_string();
        let cloud = Cloud {
            secret: "s1".to_owned(),
            tokens: 0,
            token_life: 3600,
            server: serde_json::from_str(SERVER).expect("a server"),
            migrations: json!([]),
            ports: json!([port()]),
            floating: vec!["203.0.113.5"],
            services: SERVICES.to_vec(),
            cached: None,
            project: "p1".to_owned(),
            instead: None,
            taken: Vec::new(),
        };
        let directory = Arc::new(tempfile::tempdir().expect("a directory"));
        let script = Self { address, cloud: Arc::new(Mutex::new(cloud)), directory };
        script.write("credential", "s1");
        script.write("shared", "shared");
        let serving = script.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, script) = (stream.expect("a connection"), serving.clone());
                std::thread::spawn(move || script.serve(stream));
            }
        });
        script
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Cloud> {
        self.cloud.lock()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o600)).expect("a mode");
    }

    /// Answers differently what the function says, from now on.
    pub(super) fn instead(&self, answer: impl Fn(&Taken) -> Option<Said> + Send + 'static) {
        self.lock().instead = Some(Box::new(answer));
    }

    /// Returns the lines of the requests whose lines hold the text, and forgets all.
    pub(super) fn take(&self, text: &str) -> Vec<String> {
        let taken = std::mem::take(&mut self.lock().taken);
        taken.into_iter().map(|taken| taken.line).filter(|line| line.contains(text)).collect()
    }

    pub(super) fn settings(&self, further: &str) -> Controller {
        let Self { address, .. } = self;
        let (credential, shared) = (self.path("credential"), self.path("shared"));
        let text = format!(
            "[etcd]\nendpoints = ['http://a:1']\n[keystone]\nauth_url = 'http://{address}/identity'\nread_timeout = '2s'\n\
             application_credential_id = 'id1'\napplication_credential_secret_file = '{}'\n[metadata_api]\n\
             endpoints = ['http://{address}/md']\nshared_secret_file = '{}'\n{further}",
            credential.display(),
            shared.display(),
        );
        Controller::parse(Path::new("c.toml"), &text).expect("a configuration")
    }

    pub(super) fn openstack(&self) -> OpenStack {
        OpenStack::new(&self.settings("")).expect("an OpenStack")
    }

    fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        loop {
            let mut taken = Taken::default();
            if !stream.read_line(&mut taken.line).is_ok_and(|read| read > 0) {
                return;
            }
            taken.line = taken.line.trim().trim_end_matches(" HTTP/1.1").to_owned();
            let mut header = String::new();
            while stream.read_line(&mut header).is_ok_and(|read| read > 2) {
                if let Some((name, value)) = header.split_once(':') {
                    taken.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
                }
                header.clear();
            }
            let length = taken.headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            let mut body = vec![0; length];
            if stream.read_exact(&mut body).is_err() {
                return;
            }
            taken.body = String::from_utf8_lossy(&body).into_owned();
            let (status, kind, body, token) = {
                let mut cloud = self.lock();
                let said = cloud.instead.as_ref().and_then(|instead| instead(&taken));
                let (status, kind, body) = said.unwrap_or_else(|| cloud.answer(&taken, &self.address));
                cloud.taken.push(taken);
                (status, kind, body, cloud.tokens)
            };
            if status == 0 {
                // As a service that hangs: until the client gives up.
                let _ = stream.read_line(&mut String::new());
                return;
            }
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nX-Subject-Token: t{token}\r\nOpenStack-API-Version: compute 2.79\r\n\
                 Content-Length: {}\r\n\r\n",
                body.len()
            );
            if stream.get_mut().write_all((head + &body).as_bytes()).is_err() {
                return;
            }
        }
    }
}

pub(super) fn port() -> Value {
    json!({"id": "ce531f90-199f-48c0-816c-13e38010b442", "device_id": "0d1f4f1e-5d6c-4d60-9d5d-1f5d5b0f5a01",
        "device_owner": "compute:nova", "mac_address": "fa:16:3e:00:00:01", "fixed_ips": [{"ip_address": "10.0.0.5"}, {"ip_address": "fd00::5"}],
        "allowed_address_pairs": [], "port_security_enabled": true, "security_groups": ["g"], "network_id": "n",
        "binding:host_id": "cmp1", "binding:vnic_type": "normal", "binding:vif_type": "ovs"})
}

pub(super) fn not_found(id: &str) -> Said {
    let body = json!({"itemNotFound": {"code": 404, "message": format!("Instance {id} could not be found.")}});
    (404, JSON, body.to_string())
}

impl Cloud {
    fn answer(&mut self, taken: &Taken, address: &str) -> Said {
        let (method, target) = taken.line.split_once(' ').unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path.starts_with("/md/") {
            return self.page(taken, path.trim_start_matches("/md/"));
        }
        if method == "POST" && path == "/identity/v3/auth/tokens" {
            return self.token(taken, address);
        }
        if taken.headers.get("x-auth-token") != Some(&format!("t{}", self.tokens)) {
            return (401, JSON, json!({"error": {"code": 401, "message": "Unauthorized"}}).to_string());
        }
        let id = self.server["id"].as_str().unwrap_or_default().to_owned();
        let body = match path {
            "/compute/v2.1/os-services" => {
                let services: Vec<_> =
                    self.services.iter().map(|id| json!({"id": id, "binary": "nova-compute"})).collect();
                json!({"services": services})
            }
            "/compute/v2.1/servers/detail" => self.list(query),
            "/compute/v2.1/os-migrations" => json!({"migrations": self.migrations}),
            "/network/v2.0/floatingips" => {
                let all: Vec<_> = self.floating.iter().map(|address| json!({"floating_ip_address": address})).collect();
                json!({"floatingips": all})
            }
            "/network/v2.0/ports" => json!({"ports": self.ports}),
            _ if path == format!("/compute/v2.1/servers/{id}") => json!({"server": self.server}),
            _ => return not_found(path.rsplit('/').next().unwrap_or_default()),
        };
        (200, JSON, body.to_string())
    }

    fn token(&mut self, taken: &Taken, address: &str) -> Said {
        let asked: Value = serde_json::from_str(&taken.body).unwrap_or_default();
        let credential = &asked["auth"]["identity"]["application_credential"];
        if credential["id"] != "id1" || credential["secret"] != self.secret.as_str() {
            let message = "The request you have made requires authentication.";
            return (401, JSON, json!({"error": {"code": 401, "message": message}}).to_string());
        }
        self.tokens += 1;
        let endpoint =
            |path| json!([{"interface": "internal", "region_id": "r", "url": format!("http://{address}/{path}")}]);
        let issued = jiff::Timestamp::now();
        let expires = issued + jiff::SignedDuration::from_secs(self.token_life);
        let body = json!({"token": {"issued_at": issued.to_string(), "expires_at": expires.to_string(), "catalog": [
            {"type": "compute", "endpoints": endpoint("compute/v2.1")}, {"type": "network", "endpoints": endpoint("network")}]}});
        (201, JSON, body.to_string())
    }

    /// Lists the server three times, under three ids, two a page.
    pub(super) fn list(&self, query: &str) -> Value {
        let with_id = |number: u32| {
            let mut server = self.server.clone();
            server["id"] = format!("0d1f4f1e-5d6c-4d60-9d5d-1f5d5b0f5a0{number}").into();
            server
        };
        let next = json!([{"rel": "next", "href": "http://elsewhere/servers?marker=x"}]);
        if query.contains("marker=0d1f4f1e-5d6c-4d60-9d5d-1f5d5b0f5a02") {
            json!({"servers": [with_id(3)]})
        } else {
            json!({"servers": [with_id(1), with_id(2)], "servers_links": next})
        }
    }

    fn page(&self, taken: &Taken, path: &str) -> Said {
        if taken.headers.get("x-tenant-id") != Some(&self.project) {
            return (404, "text/plain", NOT_FOUND_TEXT.to_owned());
        }
        let now = json!({"meta": self.server["metadata"], "name": self.server["name"], "project_id": self.project});
        let text = |text: &str| (200, "text/plain", text.to_owned());
        match path {
            "" => text("1.0\n2009-04-04\nlatest"),
            "openstack" => text("2012-08-10\nlatest"),
            "openstack/latest" => text("meta_data.json\npassword\nnetwork_data.json"),
            "openstack/2012-08-10" => text("meta_data.json"),
            "openstack/latest/meta_data.json" | "openstack/2012-08-10/meta_data.json" => {
                (200, JSON, self.cached.as_ref().unwrap_or(&now).to_string())
            }
            "openstack/latest/network_data.json" => {
                (200, JSON, json!({"links": [{"ethernet_mac_address": "fa:16:3e:00:00:01"}]}).to_string())
            }
            "openstack/latest/password" if taken.line.starts_with("POST") => text(""),
            "openstack/latest/password" => text(""),
            "latest" | "2009-04-04" | "1.0" => text("meta-data/"),
            "latest/meta-data" | "2009-04-04/meta-data" => text("instance-type\nplacement/"),
            "1.0/meta-data" => text("placement/"),
            _ if path.ends_with("/placement") => text("availability-zone"),
            "latest/meta-data/placement/availability-zone" => text("nova"),
            "latest/meta-data/instance-type" => text("m1.small"),
            _ => (404, "text/plain", NOT_FOUND_TEXT.to_owned()),
        }
    }
}
