//! What a controller's parts share: what is shown, and what the operator asks for.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::etcd::election::Leader;
use super::etcd::{Cluster, Writer};
use super::notifications::{Receipt, View};
use super::openstack::OpenStack;
use super::queue::{Lag, Queue};
use super::table::{self, Table};
use crate::admin::controller::ControllerProblem;
use crate::admin::wire::{ControllerDifference, Resigned};
use crate::api;
use crate::config::controller::Controller;
use crate::record::InstanceId;

/// What a controller's parts share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Controller,
    pub(super) started_at: SystemTime,
    pub(super) openstack: OpenStack,
    pub(super) cluster: Cluster,
    pub(super) writer: Writer,
    /// What all instances have in common.
    pub(super) cloud: Arc<api::Cloud>,
    /// What tells that another controller derives the same documents.
    pub(super) maker: String,
    pub(super) shown: Mutex<Shown>,
    /// What is to be read.
    pub(super) queue: Mutex<Queue<Receipt>>,
    /// What is known of each instance.
    pub(super) table: Mutex<Table>,
    /// How long changes took.
    pub(super) lag: Mutex<Lag>,
    /// How much of that was reading from OpenStack.
    pub(super) reading: Mutex<Lag>,
    commands: mpsc::UnboundedSender<Command>,
}

/// What is shown of a controller beside its parts.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) state: State,
    pub(super) leader: Option<Leader>,
    /// Notifications, while this controller leads.
    pub(super) notifications: Option<View>,
    /// Why this controller cannot lead, or write, and since when.
    pub(super) trouble: Option<(String, SystemTime)>,
    /// Whether Nova answers for another cloud than the documents in etcd are of.
    pub(super) is_other_cloud: bool,
    /// Why metrics cannot be read over TCP.
    pub(super) metrics_error: Option<String>,
    pub(super) listed_at: Option<SystemTime>,
    pub(super) servers: usize,
    pub(super) in_step_at: Option<SystemTime>,
    /// Why everything is compared.
    pub(super) reason: Option<String>,
    pub(super) write_failures: u64,
    pub(super) passwords: Passwords,
}

/// Passwords that guests posted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passwords {
    pub(super) passed_on: u64,
    pub(super) failed: u64,
}

/// What a controller is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// etcd has not answered yet.
    #[default]
    Connecting,
    /// Another one leads.
    Waiting,
    /// It leads.
    Leading,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Waiting => "waiting",
            Self::Leading => "leading",
        }
    }
}

/// What the operator asks of the leader.
#[derive(Debug)]
pub(super) enum Command {
    /// Gives up the leadership.
    Resign(oneshot::Sender<Result<Resigned, ControllerProblem>>),
    /// Takes the cloud that answers now for the right one.
    Accept(oneshot::Sender<Result<(), ControllerProblem>>),
    /// Compares an instance's document with Nova's answers.
    Differences(InstanceId, oneshot::Sender<Result<Vec<ControllerDifference>, ControllerProblem>>),
    /// Something was put into the queue.
    Wake,
}

impl Shared {
    pub(super) fn new(
        settings: Controller,
        openstack: OpenStack,
        cloud: api::Cloud,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Command>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let cluster = Cluster::new(&settings.etcd);
        let shared = Self {
            started_at: SystemTime::now(),
            openstack,
            writer: Writer::new(&cluster),
            cluster,
            maker: table::maker(&cloud),
            cloud: Arc::new(cloud),
            shown: Mutex::default(),
            queue: Mutex::default(),
            table: Mutex::default(),
            lag: Mutex::default(),
            reading: Mutex::default(),
            commands,
            settings,
        };
        (Arc::new(shared), receiver)
    }

    /// Passes something on to whoever leads here.
    pub(super) fn command(&self, command: Command) {
        // Without a receiver the program is about to end, and drops the command's sender.
        let _ = self.commands.send(command);
    }

    /// Puts instances into the queue.
    pub(super) fn push(&self, ids: impl IntoIterator<Item = InstanceId>, urgency: super::queue::Urgency) -> usize {
        let (mut queue, now) = (self.queue.lock(), Instant::now());
        let mut count = 0;
        for id in ids {
            queue.push(id, urgency, now, None);
            count += 1;
        }
        drop(queue);
        self.command(Command::Wake);
        count
    }

    /// Returns the error for what only a leader can do.
    pub(super) fn not_leading(&self) -> ControllerProblem {
        let shown = self.shown.lock();
        ControllerProblem::NotLeading(match &shown.leader {
            Some(leader) => format!("{} leads; ask it there, on {}", leader.name, leader.host),
            None => "no controller leads now; try again".to_owned(),
        })
    }

    /// Shows why this controller cannot lead or write; `None`: it can.
    pub(super) fn trouble(&self, trouble: Option<String>) {
        let mut shown = self.shown.lock();
        match (trouble, &mut shown.trouble) {
            (None, shown) => *shown = None,
            (Some(text), Some((known, _))) if *known == text => {}
            (Some(text), known) => {
                tracing::warn!("{text}");
                *known = Some((text, SystemTime::now()));
            }
        }
    }
}
