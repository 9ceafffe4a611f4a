//! What an instance's guest would read, asked by the operator: the service of guests, over a connection in memory.
//!
//! Promises: a request takes the same steps as a guest's ([`super::service`]) and gets the same bytes; it waits neither for content nor for a change; it
//! is not counted: no counter, no rate, no audit record, no usage of the instance; a password is not kept, and user data stays
//! unread. Nothing is signed in a guest's name.
//!
//! Left out: the path of packets. A guest whose port is held or refused gets 503, whatever is shown here.

use std::future::{Future, pending};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::access::{Access, Caller, Resolution};
use super::connection::{self, Place};
use super::session::TOKEN;
use super::terms::Terms;
use super::{Counters, Guests, Times};
use crate::api::{Write, Written};
use crate::drain::Drain;
use crate::origin::{Origin, Want};
use crate::policy::Policy;
use crate::record::{Attributes, InstanceId};
use crate::secret::token::TokenError;
use crate::store::Store;
use crate::{clock, origin};

/// Bytes that either side may be ahead of the other.
const BUFFER: usize = 64 << 10;

/// A source port that only a privileged process has, and one that every process may have.
const PORTS: (u16, u16) = (1023, 40_000);

/// How long a session token is said to be valid, in seconds: the longest.
const TOKEN_SECONDS: u64 = 21_600;

/// A request in a guest's name.
#[derive(Clone, Copy, Debug)]
pub struct Preview<'a> {
    /// The request target: printable ASCII that begins with `/`.
    pub target: &'a str,
    /// Whether only the head of the answer is wanted.
    pub head: bool,
    /// Whether it is asked over IPv6.
    pub over_ipv6: bool,
    /// Whether it is from a source port that every process may have.
    pub unprivileged: bool,
    /// Whether it comes with a session token that is valid.
    pub with_token: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoPreview {
    /// The guest would get something that is signed for it alone.
    #[error("nothing is signed in a guest's name")]
    Signed,
    /// The service ended without an answer.
    #[error(transparent)]
    Broken(#[from] io::Error),
}

impl Guests {
    /// Returns the bytes that this instance's guest would read: the head of the answer, a blank line, and the body.
    ///
    /// # Errors
    /// [`NoPreview`].
    pub async fn preview(&self, instance: InstanceId, preview: &Preview<'_>) -> Result<Vec<u8>, NoPreview> {
        let asker = Asker {
            instance,
            store: Arc::clone(&self.store),
            origin: self.origin.get().cloned(),
            caller: Caller {
                policy: policy_without_waits(*self.policy.get()),
                over_ipv6: preview.over_ipv6,
                source_port: if preview.unprivileged { PORTS.1 } else { PORTS.0 },
            },
        };
        let terms = self.terms.get();
        let (counters, drain) = (Arc::new(Counters::default()), Drain::new());
        let times = Times { ready: Duration::ZERO, ..terms.times };
        let place = Place::alone(Terms { heads: terms.heads, ..Terms::alone(times, Arc::clone(&counters)) });
        let (mut client, server) = duplex(BUFFER);
        let asking = async move {
            client.write_all(preview.text().as_bytes()).await?;
            // There is no other request: the service ends with the answer.
            client.shutdown().await?;
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        let ((), answer) = tokio::join!(connection::serve_placed(server, asker, place, drain), asking);
        // Without a key, what is refused for want of one is all that the policy lets the guest have signed.
        if counters.signatures_refused().any(|(reason, _)| reason == "no_key") {
            return Err(NoPreview::Signed);
        }
        answer.map_err(Into::into).and_then(|answer| {
            if answer.is_empty() { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) } else { Ok(answer) }
        })
    }
}

impl Preview<'_> {
    /// Returns the request as it is sent.
    fn text(&self) -> String {
        let (method, host) = (if self.head { "HEAD" } else { "GET" }, host(self.over_ipv6));
        let token = if self.with_token { format!("{TOKEN}: operator\r\n") } else { String::new() };
        format!("{method} {} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n{token}\r\n", self.target)
    }
}

/// Returns the address as clients write it.
fn host(over_ipv6: bool) -> &'static str {
    if over_ipv6 { "[fe80::a9fe:a9fe]" } else { "169.254.169.254" }
}

/// A request for a change is answered at once.
fn policy_without_waits(mut policy: Policy) -> Policy {
    policy.extensions.longest_wait = Duration::ZERO;
    policy
}

/// What the instance may read, without a binding.
#[derive(Debug)]
struct Asker {
    instance: InstanceId,
    store: Arc<Store>,
    origin: Option<Origin>,
    caller: Caller,
}

impl Access for Asker {
    fn resolve(&self) -> Resolution {
        self.store.served(self.instance).map_or(Resolution::NotReady, Resolution::Ready)
    }

    fn ready(&self) -> impl Future<Output = ()> + Send {
        pending()
    }

    /// Only a POST writes, and none is sent.
    async fn keep(&self, _: InstanceId, _: Write) -> Written {
        Written::Unavailable
    }

    async fn fetch(&self, instance: InstanceId, path: String) {
        if let Some(origin) = &self.origin {
            let _: origin::Outcome = origin.ask(instance, Want::Page(path)).await;
        }
    }

    fn caller(&self) -> Caller {
        self.caller
    }

    fn user_data_read(&self, instance: InstanceId) -> Option<u64> {
        self.store.user_data_read(instance)
    }

    fn attributes(&self, instance: InstanceId) -> Option<Arc<Attributes>> {
        self.store.attributes(instance)
    }

    /// The guest could have one.
    fn open_token(&self, _: &[u8], _: u64) -> Result<u64, TokenError> {
        Ok(TOKEN_SECONDS)
    }

    fn today(&self) -> fn() -> crate::api::Date {
        clock::today
    }

    fn ended(&self) -> impl Future<Output = ()> + Send {
        pending()
    }

    fn name(&self) -> u32 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Cloud;
    use crate::config::Config;
    use crate::identity::Identities;
    use crate::policy::{AccessOverrides, SessionMode, UserData};
    use crate::store::tests::{id, record};

    const PLAIN: Preview<'_> = Preview {
        target: "/latest/meta-data/instance-id",
        head: false,
        over_ipv6: false,
        unprivileged: false,
        with_token: true,
    };

    fn guests(access: AccessOverrides) -> Guests {
        let store = Arc::new(Store::new(Cloud::default()));
        let mut record = record(1, "p", &[]);
        record.policy.access = access;
        record.user_data = Some("#!/bin/sh\n".into());
        store.put(record);
        Guests::new(&Config::default(), Arc::new(Identities::new()), store, Counters::default())
    }

    async fn text(guests: &Guests, preview: Preview<'_>) -> String {
        let answer = guests.preview(id(1), &preview).await.expect("an answer");
        String::from_utf8(answer).expect("text")
    }

    #[tokio::test]
    async fn the_answer_is_the_guests_and_nothing_is_counted_or_noted() {
        let access = AccessOverrides { user_data: Some(UserData::FirstBoot), ..AccessOverrides::default() };
        let guests = guests(access);
        let user_data = Preview { target: "/openstack/latest/user_data", ..PLAIN };
        for _ in 0..2 {
            let answer = text(&guests, user_data).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n#!/bin/sh\n"), "{answer}");
        }
        let head = text(&guests, Preview { head: true, ..user_data }).await;
        assert!(!head.contains("/bin/sh") && head.contains("Content-Length: 10\r\n"), "{head}");
        assert!(text(&guests, Preview { target: "/nonsense", ..PLAIN }).await.starts_with("HTTP/1.1 404"));
        assert_eq!(guests.store.user_data_read(id(1)), None, "the guest has not read it");
        assert_eq!((guests.counters().accepted.get(), guests.counters().answers().count()), (0, 0));
        let missing = guests.preview(id(2), &PLAIN).await.expect("an answer");
        assert!(missing.starts_with(b"HTTP/1.1 503"), "there is no content, and nothing is waited for");
    }

    #[tokio::test]
    async fn nothing_is_signed_and_what_is_refused_the_guest_is_shown() {
        let mut config = Config::default();
        config.identity.tokens.enabled = true;
        let store = Arc::new(Store::new(Cloud::default()));
        store.put(record(1, "p", &[]));
        let guests = Guests::new(&config, Arc::new(Identities::new()), store, Counters::default());
        guests.policy.publish(config.policy());
        for target in ["/openstack/latest/identity?audience=a", "/latest/dynamic/instance-identity/signature"] {
            let answer = guests.preview(id(1), &Preview { target, ..PLAIN }).await;
            assert!(matches!(answer, Err(NoPreview::Signed)), "{answer:?}");
        }
        let answer = text(&guests, Preview { target: "/openstack/latest/identity", ..PLAIN }).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }

    #[tokio::test]
    async fn what_the_policy_refuses_is_refused_here_too() {
        let guests = guests(AccessOverrides {
            session: Some(SessionMode::Required),
            ipv6: Some(false),
            ..AccessOverrides::default()
        });
        for (preview, status) in [
            (PLAIN, "200"),
            (Preview { with_token: false, ..PLAIN }, "401"),
            (Preview { over_ipv6: true, ..PLAIN }, "403"),
        ] {
            let answer = text(&guests, preview).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{preview:?}: {answer}");
        }
    }
}
