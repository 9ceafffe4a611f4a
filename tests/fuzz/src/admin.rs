//! The admin API: a connection's bytes into its server.
//!
//! An input is who connects, how the bytes come, and the bytes.
//!
//! Checked: whoever may only read changes nothing and gets no secret, whoever may nothing gets nothing; a connection has one
//! answer, with one of the statuses of the API, and ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metadata_user::admin::preview::{GuestAnswer, GuestRequest, PreviewError};
use metadata_user::admin::wait::WaitFor;
use metadata_user::admin::wire::{
    ConfigDrive, Evidence, GuestAttributes, InstanceAccess, InstanceAnomalies, Password, PortBoots, PortCounters,
    PortStatus, Security, Source, Status, UserData, Waited,
};
use metadata_user::admin::{
    Accepting, ConfigDriveError, Inspect, NoInstance, PasswordError, Previewing, ReleaseError, Releasing, TraceError,
    Tracing, Waiting, fuzzing,
};
use metadata_user::metrics::Format;
use tokio::sync::mpsc;

use crate::input::Input;
use crate::stream;

/// The group whose members may read.
const READERS: u32 = 4_000_000;

/// What only those may see who may change things.
const SECRET: &str = "the-password-of-a-guest";

/// Statuses of the API; 431: hyper's.
const STATUSES: [u16; 9] = [200, 400, 403, 404, 405, 409, 431, 500, 503];

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Nothing,
    Read,
    Change,
}

/// Runs an input.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (right, user, group) = match input.byte() % 3 {
        0 => (Right::Nothing, 4_000_001, 5),
        1 => (Right::Read, 4_000_001, READERS),
        _ => (Right::Change, 0, 0),
    };
    let cut = input.byte();
    let node = Arc::new(Node::default());
    let inspect = Arc::clone(&node);
    let answer = stream::converse(cut, input.rest(), async move |stream| {
        fuzzing::converse(stream, inspect, user, &[group], Some(READERS)).await;
    });
    let answers = stream::answers(&answer);
    assert!(answers.len() <= 1, "more than one answer: {}", String::from_utf8_lossy(&answer));
    for answer in &answers {
        assert!(STATUSES.contains(&answer.status), "{}", answer.status);
        assert!(right != Right::Nothing || answer.status >= 400, "{} for somebody without a right", answer.status);
    }
    let text = String::from_utf8_lossy(&answer);
    assert!(right == Right::Change || !text.contains(SECRET), "a secret for {right:?}: {text}");
    assert!(right == Right::Change || node.changes.load(Ordering::Relaxed) == 0, "{right:?} changes something");
    assert!(right != Right::Nothing || node.reads.load(Ordering::Relaxed) == 0, "somebody without a right reads");
}

/// A daemon that does nothing but count, in place of a running one.
#[derive(Debug, Default)]
struct Node {
    reads: AtomicUsize,
    changes: AtomicUsize,
}

impl Node {
    fn read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    fn change(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }
}

impl Inspect for Node {
    fn status(&self) -> Status {
        self.read();
        Status::default()
    }

    fn security(&self) -> io::Result<Security> {
        self.read();
        Err(io::Error::other("no /proc"))
    }

    fn ports(&self) -> Vec<PortStatus> {
        self.read();
        Vec::new()
    }

    fn counters(&self) -> Vec<PortCounters> {
        self.read();
        Vec::new()
    }

    fn guest_attributes(&self, _: &str) -> Result<GuestAttributes, NoInstance> {
        self.read();
        Err(NoInstance)
    }

    fn jwks(&self) -> Option<String> {
        self.read();
        None
    }

    fn anomalies(&self) -> Vec<InstanceAnomalies> {
        self.read();
        Vec::new()
    }

    fn boots(&self) -> Vec<PortBoots> {
        Vec::new()
    }

    fn evidence(&self) -> Evidence {
        Evidence::default()
    }

    fn source(&self) -> Source {
        self.read();
        Source::default()
    }

    fn release(&self) -> Releasing<'_> {
        self.change();
        Box::pin(async { Err(ReleaseError::Starting) })
    }

    fn accept_source(&self) -> Accepting<'_> {
        self.change();
        Box::pin(async { Err("nothing waits for it".to_owned()) })
    }

    fn password(&self, instance: &str) -> Result<Password, PasswordError> {
        self.read();
        match instance.len() {
            0..=40 => Ok(Password::new(instance.to_owned(), Some(SECRET.to_owned()))),
            _ => Err(NoInstance.into()),
        }
    }

    fn clear_password(&self, instance: &str) -> Result<Password, PasswordError> {
        self.change();
        match instance.len() {
            0..=9 => Err(PasswordError::InDocument),
            10..=19 => Err(PasswordError::KeptByNova),
            20..=40 => Ok(Password::new(instance.to_owned(), None)),
            _ => Err(NoInstance.into()),
        }
    }

    fn user_data(&self, _: &str) -> Result<UserData, NoInstance> {
        self.read();
        Ok(UserData::default())
    }

    fn reset_user_data(&self, instance: &str) -> Result<UserData, NoInstance> {
        self.change();
        if instance.is_empty() { Err(NoInstance) } else { Ok(UserData::default()) }
    }

    fn config_drive(&self, instance: &str) -> Result<ConfigDrive, ConfigDriveError> {
        self.read();
        match instance.len() {
            0..=9 => Err(PreviewError::NoInstance(instance.to_owned()).into()),
            10..=19 => Err(ConfigDriveError::None { instance: instance.to_owned(), reason: "it is off".to_owned() }),
            _ => Ok(ConfigDrive { bodies: vec![SECRET.to_owned()], ..ConfigDrive::default() }),
        }
    }

    fn access(&self) -> Vec<InstanceAccess> {
        self.read();
        Vec::new()
    }

    fn preview(&self, asked: GuestRequest) -> Previewing<'_> {
        self.read();
        Box::pin(async move {
            match asked.instance.len() {
                0..=9 => Err(PreviewError::NoInstance(asked.instance)),
                10..=19 => Err(PreviewError::Ambiguous { name: asked.instance, instances: Vec::new() }),
                20..=29 => Err(PreviewError::Target(asked.path)),
                30..=35 => Err(PreviewError::Broken("no answer".to_owned())),
                _ => {
                    let answer = GuestAnswer { head: "HTTP/1.1 200 OK\r\n\r\n".to_owned(), body: Some(SECRET.into()) };
                    Ok((answer, true))
                }
            }
        })
    }

    fn wait(&self, asked: WaitFor) -> Waiting<'_> {
        self.read();
        Box::pin(async move {
            match asked.instance.len() {
                0..=9 => Err(NoInstance),
                _ => Ok(Waited { instance: asked.instance, missing: asked.port, ..Waited::default() }),
            }
        })
    }

    fn metrics(&self, _: Format) -> String {
        self.read();
        "metadatad_up 1\n".to_owned()
    }

    fn trace(&self, port: String, lines: mpsc::Sender<String>) -> Tracing<'_> {
        self.change();
        Box::pin(async move {
            if port.len() > 15 {
                return Err(TraceError::NoSuchPort(port));
            }
            lines.send("a line".to_owned()).await.map_err(|_| TraceError::Refused { port, reason: "gone".to_owned() })
        })
    }
}
