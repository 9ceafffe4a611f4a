//! What people do with a cloud: instances, their properties, ports, addresses, groups.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::api::Token;
use super::supervisor::tool;
use super::{ApplicationCredential, Cloud, Networks, PASSWORD, START, Service, USER};
use crate::command;
use crate::http::Response;
use crate::wait;

/// The image of `image.py`.
const IMAGE: &str = "c5f2b1a0-7a51-4f5e-9a3e-0d6b8f6f2d11";

impl Cloud {
    /// Runs the real client, as the administrator, and returns what it printed. It takes seconds to start.
    ///
    /// # Errors
    /// If it fails.
    pub fn openstack(&self, words: &[&str]) -> Result<String> {
        let mut client = Command::new(tool("openstack")?);
        client.env_clear().env("HOME", self.directory.path()).env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
        client.envs(self.environment());
        command::run(client.args(words), "")
    }

    /// Returns the variables with which the real client is the administrator.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let auth_url = self.auth_url();
        let all = [
            ("OS_AUTH_URL", auth_url.as_str()),
            ("OS_USERNAME", USER),
            ("OS_PASSWORD", PASSWORD),
            ("OS_USER_DOMAIN_NAME", "Default"),
            ("OS_PROJECT_NAME", "admin"),
            ("OS_PROJECT_DOMAIN_NAME", "Default"),
            ("OS_REGION_NAME", "RegionOne"),
            ("OS_IDENTITY_API_VERSION", "3"),
        ];
        all.map(|(name, value)| (name, value.to_owned())).into()
    }

    /// Calls an API as the administrator: `path` begins with the version, for example `/v2.1/servers`.
    ///
    /// # Errors
    /// If the answer is not 2xx; the error holds it.
    pub fn call(&self, service: &Service, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        self.api.call(self.port(service)?, method, path, body)
    }

    /// As [`Self::call`], with whatever is answered.
    ///
    /// # Errors
    /// If nothing is.
    pub fn answer(&self, service: &Service, method: &str, path: &str, body: Option<&Value>) -> Result<Response> {
        self.api.answer(self.port(service)?, method, path, body)
    }

    /// Returns the administrator's token.
    ///
    /// # Errors
    /// If Keystone gives none.
    pub fn token(&self) -> Result<Token> {
        self.api.token()
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// If Keystone refuses.
    pub fn revoke(&self, token: &str) -> Result<()> {
        let headers = format!("X-Auth-Token: {}\r\nX-Subject-Token: {token}\r\n", self.token()?.text);
        let answer = super::api::send(self.ports.keystone, "DELETE", "/v3/auth/tokens", &headers, None)?;
        anyhow::ensure!(answer.status == 204, "Keystone does not revoke a token: {}", answer.status);
        Ok(())
    }

    /// Makes an application credential of the administrator's.
    ///
    /// # Errors
    /// If Keystone refuses.
    pub fn application_credential(&self, name: &str) -> Result<ApplicationCredential> {
        let token = self.token()?;
        let user = text(&token.body["user"]["id"])?;
        let body = json!({"application_credential": {"name": name}});
        let path = format!("/v3/users/{user}/application_credentials");
        let made = &self.call(&Service::Keystone, "POST", &path, Some(&body))?["application_credential"];
        Ok(ApplicationCredential { id: text(&made["id"])?, secret: text(&made["secret"])? })
    }

    /// Returns the id of the network `private`, on which instances are.
    #[must_use]
    pub fn network(&self) -> &str {
        &self.networks.private
    }

    /// Creates an instance on a host, and waits until it is active. Returns its id.
    ///
    /// # Errors
    /// If it does not become so.
    pub fn create_server(&self, name: &str, host: &str) -> Result<String> {
        let id = self.begin_server(&json!({"name": name, "host": host}))?;
        self.wait_status(&id, "ACTIVE")?;
        Ok(id)
    }

    /// Begins to create an instance with these members of `server` beside image, flavor and network. Returns its id.
    ///
    /// # Errors
    /// If Nova refuses.
    pub fn begin_server(&self, members: &Value) -> Result<String> {
        let mut server = json!({"imageRef": IMAGE, "flavorRef": "1", "networks": [{"uuid": self.networks.private}]});
        for (name, value) in members.as_object().into_iter().flatten() {
            server[name] = value.clone();
        }
        let answer = self.call(&Service::Nova, "POST", "/v2.1/servers", Some(&json!({"server": server})))?;
        text(&answer["server"]["id"])
    }

    /// Returns what Nova says about an instance.
    ///
    /// # Errors
    /// If there is none.
    pub fn server(&self, id: &str) -> Result<Value> {
        Ok(self.call(&Service::Nova, "GET", &format!("/v2.1/servers/{id}"), None)?["server"].take())
    }

    /// Waits until an instance has this status and no task, and returns what Nova says about it.
    ///
    /// # Errors
    /// If it fails, or does not come there.
    pub fn wait_status(&self, id: &str, status: &str) -> Result<Value> {
        wait::until_within(START, &format!("instance {id} becomes {status}"), || {
            let server = self.server(id)?;
            if server["status"] == "ERROR" && status != "ERROR" {
                bail!("instance {id} failed: {}\n{}", server["fault"], self.complaints()?);
            }
            Ok((server["status"] == status && server["OS-EXT-STS:task_state"].is_null()).then_some(server))
        })
    }

    /// Returns the last warnings and errors in the logs of Nova's services.
    fn complaints(&self) -> Result<String> {
        let mut found = String::new();
        for file in std::fs::read_dir(self.path("nova"))? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
                // Filters say at INFO how many hosts they leave.
                let tells = |line: &&str| [" WARNING ", " ERROR ", " hosts"].iter().any(|word| line.contains(word));
                let last: Vec<&str> = log.lines().filter(tells).collect();
                let last = last[last.len().saturating_sub(40)..].join("\n");
                found.push_str(&format!("--- {}\n{last}\n", path.display()));
            }
        }
        Ok(found)
    }

    /// Sets a property, as `openstack server set --property` does.
    ///
    /// # Errors
    /// If Nova refuses.
    pub fn set_property(&self, id: &str, key: &str, value: &str) -> Result<()> {
        let body = json!({"metadata": {key: value}});
        self.call(&Service::Nova, "POST", &format!("/v2.1/servers/{id}/metadata"), Some(&body)).map(drop)
    }

    /// Removes a property.
    ///
    /// # Errors
    /// If there is none.
    pub fn unset_property(&self, id: &str, key: &str) -> Result<()> {
        self.call(&Service::Nova, "DELETE", &format!("/v2.1/servers/{id}/metadata/{key}"), None).map(drop)
    }

    /// Gives an instance another name.
    ///
    /// # Errors
    /// If Nova refuses.
    pub fn rename(&self, id: &str, name: &str) -> Result<()> {
        let body = json!({"server": {"name": name}});
        self.call(&Service::Nova, "PUT", &format!("/v2.1/servers/{id}"), Some(&body)).map(drop)
    }

    /// Does an action of Nova's, for example `{"rebuild": {…}}`, and does not wait for it.
    ///
    /// # Errors
    /// If Nova refuses.
    pub fn act(&self, id: &str, action: &Value) -> Result<()> {
        self.call(&Service::Nova, "POST", &format!("/v2.1/servers/{id}/action"), Some(action)).map(drop)
    }

    /// Rebuilds an instance from the same image, and waits until it is active.
    ///
    /// # Errors
    /// If it fails.
    pub fn rebuild(&self, id: &str) -> Result<()> {
        self.act(id, &json!({"rebuild": {"imageRef": IMAGE}}))?;
        self.wait_status(id, "ACTIVE").map(drop)
    }

    /// Moves an instance to a host while it runs, and waits until it is there.
    ///
    /// # Errors
    /// If it fails.
    pub fn live_migrate(&self, id: &str, host: &str) -> Result<()> {
        self.begin_live_migration(id, host)?;
        let server = self.wait_status(id, "ACTIVE")?;
        anyhow::ensure!(
            server["OS-EXT-SRV-ATTR:host"] == host,
            "instance {id} is on {}",
            server["OS-EXT-SRV-ATTR:host"]
        );
        Ok(())
    }

    /// Begins to move an instance; see [`Cloud::migrations_take`].
    ///
    /// # Errors
    /// If Nova refuses.
    pub fn begin_live_migration(&self, id: &str, host: &str) -> Result<()> {
        self.act(id, &json!({"os-migrateLive": {"host": host, "block_migration": "auto"}}))
    }

    /// Deletes an instance, and waits until it is gone.
    ///
    /// # Errors
    /// If Nova refuses.
    pub fn delete_server(&self, id: &str) -> Result<()> {
        let path = format!("/v2.1/servers/{id}");
        self.call(&Service::Nova, "DELETE", &path, None)?;
        wait::until("a deleted instance is gone", || {
            Ok((self.answer(&Service::Nova, "GET", &path, None)?.status == 404).then_some(()))
        })
    }

    /// Returns what Neutron says about the ports of an instance.
    ///
    /// # Errors
    /// If Neutron does not answer.
    pub fn ports_of(&self, id: &str) -> Result<Vec<Value>> {
        let answer = self.call(&Service::Neutron, "GET", &format!("/v2.0/ports?device_id={id}"), None)?;
        Ok(answer["ports"].as_array().cloned().unwrap_or_default())
    }

    /// Attaches one more port on `private` to an instance. Returns the port's id.
    ///
    /// # Errors
    /// If Nova refuses.
    pub fn attach_port(&self, id: &str) -> Result<String> {
        let body = json!({"interfaceAttachment": {"net_id": self.networks.private}});
        let path = format!("/v2.1/servers/{id}/os-interface");
        text(&self.call(&Service::Nova, "POST", &path, Some(&body))?["interfaceAttachment"]["port_id"])
    }

    /// Detaches a port, and waits until it is gone.
    ///
    /// # Errors
    /// If Nova refuses.
    pub fn detach_port(&self, id: &str, port: &str) -> Result<()> {
        self.call(&Service::Nova, "DELETE", &format!("/v2.1/servers/{id}/os-interface/{port}"), None)?;
        wait::until("a detached port is gone", || {
            let ports = self.ports_of(id)?;
            Ok(ports.iter().all(|found| found["id"] != port).then_some(()))
        })
    }

    /// Changes members of a port, for example `{"allowed_address_pairs": […]}`.
    ///
    /// # Errors
    /// If Neutron refuses.
    pub fn set_port(&self, port: &str, members: &Value) -> Result<()> {
        let body = json!({"port": members});
        self.call(&Service::Neutron, "PUT", &format!("/v2.0/ports/{port}"), Some(&body)).map(drop)
    }

    /// Gives a port a floating address. Returns the id of the floating IP and its address.
    ///
    /// # Errors
    /// If Neutron refuses.
    pub fn add_floating_ip(&self, port: &str) -> Result<(String, String)> {
        let body = json!({"floatingip": {"floating_network_id": self.networks.public, "port_id": port}});
        let made = &self.call(&Service::Neutron, "POST", "/v2.0/floatingips", Some(&body))?["floatingip"];
        Ok((text(&made["id"])?, text(&made["floating_ip_address"])?))
    }

    /// Takes a floating IP away, and deletes it.
    ///
    /// # Errors
    /// If Neutron refuses.
    pub fn delete_floating_ip(&self, id: &str) -> Result<()> {
        self.call(&Service::Neutron, "DELETE", &format!("/v2.0/floatingips/{id}"), None).map(drop)
    }

    /// Creates a security group. Returns its id.
    ///
    /// # Errors
    /// If Neutron refuses.
    pub fn create_security_group(&self, name: &str) -> Result<String> {
        let body = json!({"security_group": {"name": name}});
        text(&self.call(&Service::Neutron, "POST", "/v2.0/security-groups", Some(&body))?["security_group"]["id"])
    }

    /// Gives a security group another name.
    ///
    /// # Errors
    /// If Neutron refuses.
    pub fn rename_security_group(&self, id: &str, name: &str) -> Result<()> {
        let body = json!({"security_group": {"name": name}});
        self.call(&Service::Neutron, "PUT", &format!("/v2.0/security-groups/{id}"), Some(&body)).map(drop)
    }

    /// Makes a key pair from a public key.
    ///
    /// # Errors
    /// If Nova refuses.
    pub fn create_key_pair(&self, name: &str, public_key: &str) -> Result<()> {
        let body = json!({"keypair": {"name": name, "type": "ssh", "public_key": public_key}});
        self.call(&Service::Nova, "POST", "/v2.1/os-keypairs", Some(&body)).map(drop)
    }

    /// Makes a private network, a public one, and a router between them, so that floating addresses work.
    pub(super) fn make_networks(&self) -> Result<Networks> {
        let make = |path: &str, kind: &str, members: Value| {
            text(&self.call(&Service::Neutron, "POST", path, Some(&json!({kind: members})))?[kind]["id"])
        };
        let private = make("/v2.0/networks", "network", json!({"name": "private"}))?;
        let subnet = json!({"name": "private", "network_id": private, "ip_version": 4, "cidr": "10.1.0.0/16"});
        let subnet = make("/v2.0/subnets", "subnet", subnet)?;
        let public = make("/v2.0/networks", "network", json!({"name": "public", "router:external": true}))?;
        let outside = json!({"network_id": public, "ip_version": 4, "cidr": "203.0.113.0/24", "enable_dhcp": false});
        make("/v2.0/subnets", "subnet", outside)?;
        let gateway = json!({"name": "router", "external_gateway_info": {"network_id": public}});
        let router = make("/v2.0/routers", "router", gateway)?;
        let inside = json!({"subnet_id": subnet});
        self.call(&Service::Neutron, "PUT", &format!("/v2.0/routers/{router}/add_router_interface"), Some(&inside))?;
        Ok(Networks { private, public })
    }

    fn port(&self, service: &Service) -> Result<u16> {
        match service {
            Service::Keystone => Ok(self.ports.keystone),
            Service::Placement => Ok(self.ports.placement),
            Service::Neutron => Ok(self.ports.neutron),
            Service::Image => Ok(self.ports.image),
            Service::Nova => Ok(self.ports.nova),
            Service::Metadata => Ok(self.ports.metadata),
            Service::Conductor | Service::Scheduler | Service::Compute(_) => bail!("{service:?} has no API"),
        }
    }
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).context("an answer without what was asked for")
}
