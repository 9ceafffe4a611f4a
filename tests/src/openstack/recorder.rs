//! What Nova and Neutron send as notifications while it listens.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Cloud;
use super::supervisor::{script, tool};
use crate::wait::PATIENCE;

/// One notification.
#[derive(Clone, Debug)]
pub struct Notification {
    /// `nova` or `neutron`.
    pub exchange: String,
    /// Topic and priority, for example `versioned_notifications.info`.
    pub routing_key: String,
    /// For example `instance.update`.
    pub event_type: String,
    /// What it says: a versioned object of Nova's, or a resource of Neutron's.
    pub payload: Value,
    /// The body as it was on the wire.
    pub body: String,
}

impl Notification {
    fn read(line: &str) -> Result<Self> {
        let line: Value = serde_json::from_str(line).context("reading a recorded message")?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a recorded message without a member");
        let body = text(&line["body"])?;
        let envelope: Value = serde_json::from_str(&body).context("reading an envelope")?;
        let message: Value = serde_json::from_str(&text(&envelope["oslo.message"])?).context("reading a message")?;
        Ok(Self {
            exchange: text(&line["exchange"])?,
            routing_key: text(&line["routing_key"])?,
            event_type: text(&message["event_type"])?,
            payload: message["payload"].clone(),
            body,
        })
    }
}

/// Listens to all notifications of a cloud, on queues of its own, which end with it.
#[derive(Debug)]
pub struct Recorder {
    lines: Receiver<String>,
    child: Child,
}

impl Recorder {
    /// Starts listening.
    ///
    /// # Errors
    /// If RabbitMQ does not answer.
    pub fn start(cloud: &Cloud) -> Result<Self> {
        let mut command = Command::new(tool("python3")?);
        command.arg(script("record.py")).arg(cloud.rabbitmq().port().to_string());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting a recorder")?;
        let output = BufReader::new(child.stdout.take().context("it has no output pipe")?);
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let recorder = Self { lines, child };
        let first = recorder.lines.recv_timeout(PATIENCE).context("waiting for the recorder")?;
        if first != "ready" {
            bail!("the recorder printed {first:?}");
        }
        Ok(recorder)
    }

    /// Waits for the first notification like this, and returns all up to it.
    ///
    /// # Errors
    /// If none comes; the error has the kinds that came.
    pub fn until(&self, what: &str, is_it: impl Fn(&Notification) -> bool) -> Result<Vec<Notification>> {
        let mut all = Vec::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                let kinds: Vec<&str> = all.iter().map(|found: &Notification| found.event_type.as_str()).collect();
                bail!("no {what}, but {kinds:?}");
            };
            let notification = Notification::read(&line)?;
            let found = is_it(&notification);
            all.push(notification);
            if found {
                return Ok(all);
            }
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
