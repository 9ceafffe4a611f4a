//! A controller: it writes documents into etcd, several in one step.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use etcd_client::{Client, Txn, TxnOp};
use tokio::runtime::{Builder, Runtime};

use crate::document::Document;
use crate::netns::Namespace;
use crate::wait;

/// The node's name in the keys.
pub(super) const NODE: &str = "soak";

/// etcd takes 128 operations in a transaction.
const MOST: usize = 100;

/// How long one try may take.
const TRY: Duration = Duration::from_secs(3);

/// One change.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Put(Document),
    Delete(String),
}

type Work = (Vec<Change>, mpsc::Sender<Result<()>>);

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Writer {
    work: Option<mpsc::Sender<Work>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Writer {
    /// Starts it in the namespace in which etcd listens.
    pub(super) fn start(namespace: &Namespace, endpoints: Vec<String>) -> Result<Self> {
        let (work, inbox) = mpsc::channel::<Work>();
        let namespace = Namespace::existing(namespace.name());
        let thread = std::thread::Builder::new().name("writer".to_owned()).spawn(move || {
            namespace.enter()?;
            let runtime = Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
            while let Ok((changes, done)) = inbox.recv() {
                let written = changes.chunks(MOST).try_for_each(|step| write(&runtime, &endpoints, step));
                // Whoever asked may be gone.
                let _ = done.send(written);
            }
            Ok(())
        })?;
        Ok(Self { work: Some(work), thread: Some(thread) })
    }

    /// Writes changes, up to 100 in one step, and returns when etcd has them.
    pub(super) fn write(&self, changes: Vec<Change>) -> Result<()> {
        let (done, written) = mpsc::channel();
        let work = self.work.as_ref().context("the writer has ended")?;
        work.send((changes, done)).map_err(|_| anyhow!("the writer's thread has ended"))?;
        written.recv().context("the writer's thread has ended")?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write(runtime: &Runtime, endpoints: &[String], changes: &[Change]) -> Result<()> {
    let begun = Instant::now();
    loop {
        let tried = runtime.block_on(async { tokio::time::timeout(TRY, one(endpoints, changes)).await });
        match tried.map_err(anyhow::Error::from).flatten() {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > wait::PATIENCE => return Err(error).context("writing into etcd"),
            // etcd has just been started.
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

async fn one(endpoints: &[String], changes: &[Change]) -> Result<()> {
    let mut client = Client::connect(endpoints, None).await?;
    let operations: Vec<_> = changes
        .iter()
        .map(|change| match change {
            Change::Put(document) => TxnOp::put(key(document.uuid()), document.text(), None),
            Change::Delete(uuid) => TxnOp::delete(key(uuid), None),
        })
        .collect();
    client.txn(Txn::new().and_then(operations)).await?;
    Ok(())
}

fn key(uuid: &str) -> String {
    format!("/metadatad/nodes/{NODE}/instances/{uuid}")
}
