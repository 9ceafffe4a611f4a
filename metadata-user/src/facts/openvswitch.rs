//! Open vSwitch as an observer: the table Interface of its database, followed over its socket (OVSDB, RFC 7047).
//!
//! Promises: the first answer has every row, and each change comes as it is made; a connection on which nothing comes
//! for [`SILENCE`] is probed, and given up after as long again; without a connection the last facts stay,
//! and the socket is tried again after [`FIRST_RETRY`], then less and less often down to once in [`LAST_RETRY`].
//!
//! Left out: everything but `monitor` and `echo`; TLS and TCP, since the database is on this node.

pub mod rows;
pub mod rpc;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use self::rows::Rows;
use self::rpc::{Frames, FramesError, Incoming};
use super::report::Reporter;
use crate::backoff::{self, Backoff};

/// How long nothing may come before the connection is probed. Open vSwitch's own clients wait as long.
const SILENCE: Duration = Duration::from_secs(5);

/// How soon a socket is tried again, at first and at last: an ovsdb-server that restarts is back within a second.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// See [`FIRST_RETRY`].
const LAST_RETRY: Duration = Duration::from_secs(2);

/// Delays between attempts to connect.
const RETRIES: Backoff = Backoff::new(FIRST_RETRY, LAST_RETRY, 20);

/// Why a connection ended, or could not be made.
#[derive(Debug, thiserror::Error)]
enum OvsError {
    #[error("connecting: {0}: {1}")]
    Connect(io::Error, &'static str),
    #[error("the database has closed the connection")]
    Closed,
    #[error("the connection failed: {0}")]
    Connection(#[from] io::Error),
    #[error("the database has not answered for {} s", SILENCE.as_secs() * 2)]
    Silent,
    #[error(transparent)]
    Frames(#[from] FramesError),
    #[error("the database refuses to follow its table Interface: {0}: is facts.openvswitch_socket Open vSwitch's?")]
    Refused(String),
}

/// Follows the database until the runtime ends.
pub(super) async fn run(socket: PathBuf, mut reporter: Reporter) {
    let mut failures = 0u32;
    loop {
        match connect(&socket).await {
            Ok(None) => reporter.absent(),
            Ok(Some(connection)) => {
                let mut connected = false;
                let Err(error) = follow(connection, &mut reporter, &mut connected).await;
                if connected {
                    failures = 0;
                }
                reporter.lost(error.to_string());
            }
            Err(error) => reporter.lost(error.to_string()),
        }
        failures = failures.saturating_add(1);
        sleep(RETRIES.delay(failures, backoff::random())).await;
    }
}

/// Connects; `None`: there is no socket.
async fn connect(socket: &Path) -> Result<Option<UnixStream>, OvsError> {
    let remedy = |error: &io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => "give metadatad access to the socket",
        io::ErrorKind::ConnectionRefused => "start ovsdb-server, or correct facts.openvswitch_socket",
        _ => "correct facts.openvswitch_socket",
    };
    match timeout(SILENCE, UnixStream::connect(socket)).await {
        Ok(Ok(connection)) => Ok(Some(connection)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Ok(Err(error)) => {
            let remedy = remedy(&error);
            Err(OvsError::Connect(error, remedy))
        }
        Err(_) => Err(OvsError::Silent),
    }
}

/// Follows the rows on a connection until it ends. Sets `connected` when the database has answered.
async fn follow(
    mut connection: UnixStream,
    reporter: &mut Reporter,
    connected: &mut bool,
) -> Result<std::convert::Infallible, OvsError> {
    let (mut frames, mut rows) = (Frames::default(), Rows::default());
    let mut buffer = vec![0; 64 << 10];
    send(&mut connection, &rpc::monitor()).await?;
    let mut probed = false;
    loop {
        let read = match timeout(SILENCE, connection.read(&mut buffer)).await {
            Ok(read) => read?,
            Err(_) if probed => return Err(OvsError::Silent),
            Err(_) => {
                probed = true;
                send(&mut connection, &rpc::echo()).await?;
                continue;
            }
        };
        probed = false;
        if read == 0 {
            return Err(OvsError::Closed);
        }
        let mut changed = false;
        for message in frames.push(&buffer[..read])? {
            match rpc::parse(message) {
                Incoming::Rows(all) => {
                    rows.replace(&all);
                    (*connected, changed) = (true, true);
                }
                Incoming::Update(some) if *connected => {
                    rows.update(&some);
                    changed = true;
                }
                Incoming::Echo(answer) => send(&mut connection, &answer).await?,
                Incoming::Refused(reason) => return Err(OvsError::Refused(reason)),
                Incoming::Update(_) | Incoming::Other => {}
            }
        }
        if changed {
            reporter.update(rows.report());
        }
    }
}

async fn send(connection: &mut UnixStream, message: &serde_json::Value) -> Result<(), OvsError> {
    let text = message.to_string();
    timeout(SILENCE, connection.write_all(text.as_bytes())).await.map_err(|_| OvsError::Silent)??;
    Ok(())
}
