//! Connections in memory: an input sent in pieces, everything that comes back, and the answers in it.
//!
//! Time stands unless nothing else can happen; then it goes on to the next time-out. So an input takes no time, however long
//! the server would wait.

use std::cell::RefCell;
use std::future::Future;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::runtime::{Builder, Runtime};

/// What the kernel would hold of either direction.
const BUFFER: usize = 64 << 10;

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
    );
}

/// Runs something to its end, on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with_borrow(|runtime| runtime.block_on(future))
}

/// Sends bytes in pieces, as `cut` says, closes the sending side, and returns all that the server sends until it ends.
pub(crate) fn converse<F: Future<Output = ()>>(
    cut: u8,
    bytes: &[u8],
    serve: impl FnOnce(DuplexStream) -> F,
) -> Vec<u8> {
    block_on(async {
        let (client, server) = tokio::io::duplex(BUFFER);
        let (answer, ()) = tokio::join!(send(client, cut, bytes), serve(server));
        answer
    })
}

/// The client's side of [`converse`].
pub(crate) async fn send(client: DuplexStream, cut: u8, bytes: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(client);
    let mut answer = Vec::new();
    let sending = async {
        for piece in pieces(cut, bytes) {
            // The server may have ended.
            if write.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = write.shutdown().await;
    };
    let (read, ()) = tokio::join!(read.read_to_end(&mut answer), sending);
    read.expect("memory does not fail");
    answer
}

/// Cuts bytes: all at once, or into pieces of a few sizes.
pub(crate) fn pieces(cut: u8, bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let size = match cut {
        0 => usize::MAX,
        // Byte by byte only as far as that tells something.
        size => usize::from(size).max(bytes.len() / 64),
    };
    bytes.chunks(size)
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, &'a [u8])>,
    /// Empty also where the answer is one to HEAD.
    pub(crate) body: &'a [u8],
}

/// Reads all answers of a connection. Panics if it is anything else.
pub(crate) fn answers(mut bytes: &[u8]) -> Vec<Answer<'_>> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(500)]).into_owned();
        let end = find(bytes, b"\r\n\r\n").unwrap_or_else(|| panic!("no end of a head: {}", shown()));
        let (head, rest) = (&bytes[..end], &bytes[end + 4..]);
        let mut lines = split(head);
        let first = lines.next().unwrap_or_default();
        let is_http = first.starts_with(b"HTTP/1.1 ") || first.starts_with(b"HTTP/1.0 ");
        let status = first.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        let status = status.filter(|_| is_http).unwrap_or_else(|| panic!("no status: {}", shown()));
        let headers: Vec<(String, &[u8])> = lines
            .map(|line| {
                let colon = find(line, b": ").unwrap_or_else(|| panic!("no header: {}", shown()));
                (String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase(), &line[colon + 2..])
            })
            .collect();
        let value = |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| *value);
        let length = value("content-length").map(|length| {
            std::str::from_utf8(length).ok().and_then(|text| text.parse::<usize>().ok()).expect("a length is a number")
        });
        let follows = |at: usize| rest.get(at..).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"HTTP/1."));
        let length = match length {
            Some(length) if follows(length) => length,
            // The head of an answer to HEAD.
            Some(_) if follows(0) => 0,
            Some(length) => panic!("{length} bytes of a body, then something else: {}", shown()),
            // An interim answer, or a body up to the end of the connection or in chunks.
            None if (100..200).contains(&status) => 0,
            None => rest.len(),
        };
        answers.push(Answer { status, headers, body: &rest[..length] });
        bytes = &rest[length..];
    }
    answers
}

/// Returns where a pattern begins.
pub(crate) fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

fn split(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let (line, rest) = match find(bytes, b"\r\n") {
            Some(end) => (&bytes[..end], &bytes[end + 2..]),
            None => (bytes, &bytes[bytes.len()..]),
        };
        bytes = rest;
        Some(line)
    })
}
