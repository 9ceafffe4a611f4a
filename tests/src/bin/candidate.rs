//! What tests start to have controllers that are processes, which can be stopped and killed: it stands for election, and while it
//! leads it writes one instance's document again and again.
//!
//! `candidate ENDPOINT NAME LEASE INSTANCE`, with LEASE in seconds. Each line that it prints is `leads TERM`, `wrote COUNT`, or
//! `lost REASON`. A line on its standard input has it resign.

use std::io::BufRead as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use metadata_user::config::etcd::{Etcd, Passwords};
use metadata_user::controller::etcd::election::{Candidate, Term, campaign};
use metadata_user::controller::etcd::{Cluster, WriteError, Writer};
use tokio::sync::mpsc;

/// Writes between two lines.
const SHOWN: u32 = 20;

fn main() -> Result<()> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let [endpoint, name, lease, instance] = &words[..] else {
        anyhow::bail!("candidate ENDPOINT NAME LEASE INSTANCE");
    };
    let settings = Etcd {
        table: "etcd",
        endpoints: vec![endpoint.clone()],
        prefix: "/metadatad".to_owned(),
        node: String::new(),
        user: None,
        tls: None,
        connect_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_secs(1),
        passwords: Passwords::default(),
    };
    let candidate = Candidate {
        name: name.clone(),
        host: "lab".to_owned(),
        admin: None,
        lease: Duration::from_secs(lease.parse().context("the lease is a number of seconds")?),
    };
    let (resign, mut resigns) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for _ in std::io::stdin().lock().lines().map_while(Result::ok) {
            // The process ends with its main thread.
            let _ = resign.send(());
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    runtime.block_on(async {
        let cluster = Cluster::new(&settings);
        let writer = Writer::new(&cluster);
        let instance = instance.parse().context("an instance's UUID")?;
        loop {
            let term = match campaign(&cluster, &candidate).await {
                Ok(term) => term,
                Err(error) => {
                    eprintln!("{error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            println!("leads {}", term.number());
            tokio::select! {
                error = write(&writer, &term, &candidate.name, instance) => println!("lost {error}"),
                Some(()) = resigns.recv() => {
                    let resigned = term.resign().await;
                    println!("lost {resigned:?}");
                    // Until then the other leads.
                    resigns.recv().await;
                }
            }
        }
    })
}

/// Writes until that fails.
async fn write(writer: &Writer, term: &Term, name: &str, id: metadata_user::record::InstanceId) -> WriteError {
    if let Err(error) = writer.load(term, "cloud-1", |_, _, _| {}).await {
        return error;
    }
    let nodes = ["node-1".to_owned()].into();
    for count in 1_u32.. {
        let document = format!("{name} {count}");
        if let Err(error) = writer.put(term, id, document.as_bytes(), &nodes, None).await {
            return error;
        }
        if count % SHOWN == 0 {
            println!("wrote {count}");
        }
    }
    WriteError::NotLoaded
}
