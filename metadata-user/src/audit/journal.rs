//! Records in the systemd journal, by its native socket.
//!
//! A datagram of our own, and not tracing-journald: that reports no failure, and what is lost is counted here.
//!
//! Left out: records larger than a datagram, which the protocol passes as a file: none is larger than a few KiB.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::line;
use super::record::Record;
use super::writer::{Failed, Sink};

/// journald's socket. Source: systemd-journald.service(8).
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// How long a record waits for a journal that does not read.
const PATIENCE: Duration = Duration::from_secs(1);

/// The sink.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    datagram: Vec<u8>,
}

impl Journal {
    /// Nothing is opened yet.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), socket: None, datagram: Vec::new() }
    }

    fn send(&mut self) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => {
                let socket = UnixDatagram::unbound()?;
                socket.set_write_timeout(Some(PATIENCE))?;
                socket
            }
        };
        // By its path each time, so that a journal that was started again is reached.
        socket.send_to(&self.datagram, &self.path)?;
        self.socket = Some(socket);
        Ok(())
    }
}

impl Sink for Journal {
    fn add(&mut self, record: &Record) -> Result<u64, Failed> {
        self.datagram.clear();
        line::journal(record, &mut self.datagram);
        self.send().map(|()| 1).map_err(|error| Failed { records: 1, error })
    }

    fn flush(&mut self) -> Result<u64, Failed> {
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::tests::request;
    use super::*;

    #[test]
    fn each_record_is_a_datagram_and_a_journal_that_comes_back_gets_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let mut journal = Journal::new(&path);
        assert_eq!(journal.add(&request("/1")).unwrap_err().records, 1, "nobody is there");
        for _ in 0..2 {
            let socket = UnixDatagram::bind(&path).unwrap();
            assert_eq!(journal.add(&request("/2")).unwrap(), 1);
            let mut bytes = [0; 4096];
            let length = socket.recv(&mut bytes).unwrap();
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            assert!(text.starts_with("MESSAGE=GET /2: 200\n") && text.contains("\nMETADATAD_PATH=/2\n"), "{text}");
            drop(socket);
            std::fs::remove_file(&path).unwrap();
        }
    }
}
