//! Calls of OpenStack's APIs as the administrator, without the second or two that the real client takes to start.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::http::Response;

/// The first request that a service gets is slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// The version of Nova's API that all calls ask for.
const NOVA: &str = "2.96";

/// The administrator.
pub const USER: &str = "admin";
/// The administrator's password.
pub const PASSWORD: &str = "admin-secret";

/// What calls the APIs.
#[derive(Debug)]
pub(super) struct Api {
    keystone: u16,
    token: Mutex<Option<Token>>,
}

/// A token of Keystone's.
#[derive(Clone, Debug)]
pub struct Token {
    /// What requests have in `X-Auth-Token`.
    pub text: String,
    /// What Keystone says about it: user, project, roles, catalogue.
    pub body: Value,
}

impl Api {
    pub(super) fn new(keystone: u16) -> Self {
        Self { keystone, token: Mutex::default() }
    }

    /// Returns the administrator's token, which is asked for once.
    pub(super) fn token(&self) -> Result<Token> {
        let mut place = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = &*place {
            return Ok(token.clone());
        }
        let domain = json!({"name": "Default"});
        let user = json!({"name": USER, "domain": domain, "password": PASSWORD});
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        let body = json!({"auth": {"identity": identity, "scope": {"project": {"name": "admin", "domain": domain}}}});
        let answer = send(self.keystone, "POST", "/v3/auth/tokens", "", Some(&body))?;
        if answer.status != 201 {
            bail!("Keystone gave no token: {} {}", answer.status, answer.text());
        }
        let text = answer.header("x-subject-token").context("an answer without a token")?.to_owned();
        let body: Value = serde_json::from_slice(&answer.body).context("reading what Keystone says about a token")?;
        Ok(place.insert(Token { text, body: body["token"].clone() }).clone())
    }

    /// Makes a call, with the administrator's token; a status other than 2xx is an error.
    pub(super) fn call(&self, port: u16, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let answer = self.answer(port, method, path, body)?;
        if !(200..300).contains(&answer.status) {
            bail!("{method} {path}: {} {}", answer.status, answer.text());
        }
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer.body).with_context(|| format!("reading the answer to {method} {path}"))
    }

    /// As [`Self::call`], with whatever was answered.
    pub(super) fn answer(&self, port: u16, method: &str, path: &str, body: Option<&Value>) -> Result<Response> {
        let headers = format!("X-Auth-Token: {}\r\nOpenStack-API-Version: compute {NOVA}\r\n", self.token()?.text);
        let answer = send(port, method, path, &headers, body)?;
        if answer.status == 401 {
            // It has ended, or was revoked: the next call asks for another.
            *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok(answer)
    }
}

/// Sends a request to a port of 127.0.0.1.
pub(super) fn send(port: u16, method: &str, path: &str, headers: &str, body: Option<&Value>) -> Result<Response> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream =
        TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}Content-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).context("sending a request")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("reading the answer to {method} {path}"))?;
    Response::whole(&answer)
}
