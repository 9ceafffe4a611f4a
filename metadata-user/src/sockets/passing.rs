//! Sockets that one process hands to another over a Unix socket (unix(7), `SCM_RIGHTS`).
//!
//! Shape: a message of [`FRAME`] bytes for each socket, which comes with it: its name, filled up with zeros. A message without a
//! name and a socket is the last.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Length of a message; names are shorter.
const FRAME: usize = 64;

/// Sends sockets with their names. The stream must block.
///
/// # Errors
/// If the other side is gone, or does not read in time.
pub fn send(stream: &UnixStream, sockets: &[(String, OwnedFd)]) -> io::Result<()> {
    for (name, socket) in sockets {
        send_one(stream, name, &[socket.as_raw_fd()])?;
    }
    send_one(stream, "", &[])
}

fn send_one(stream: &UnixStream, name: &str, sockets: &[RawFd]) -> io::Result<()> {
    let mut frame = [0; FRAME];
    let Some(place) = frame.get_mut(..name.len()).filter(|_| name.len() < FRAME) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("the name of a socket is too long: {name}")));
    };
    place.copy_from_slice(name.as_bytes());
    let rights = [ControlMessage::ScmRights(sockets)];
    let control = if sockets.is_empty() { &[][..] } else { &rights[..] };
    let sent = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&frame)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    if sent == FRAME { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives what [`send`] sends. The stream must block.
///
/// # Errors
/// If the other side is gone, sends nothing in time, or sends something else.
pub fn receive(stream: &UnixStream) -> io::Result<Vec<(String, OwnedFd)>> {
    let mut sockets = Vec::new();
    loop {
        let mut frame = [0; FRAME];
        let mut space = nix::cmsg_space!(RawFd);
        let mut parts = [IoSliceMut::new(&mut frame)];
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        let mut received = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = control {
                // SAFETY: the kernel has just made these descriptors for this message, and nothing else has seen them.
                received.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
            }
        }
        let length = message.bytes;
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other daemon went away"));
        }
        let name = frame.split(|byte| *byte == 0).next().unwrap_or_default();
        match (length, std::str::from_utf8(name), received.pop()) {
            (FRAME, Ok(""), None) => return Ok(sockets),
            (FRAME, Ok(name), Some(socket)) => sockets.push((name.to_owned(), socket)),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "the other daemon sends something else")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn sockets_arrive_with_their_names() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let sockets = [1, 2].map(|number| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
            (format!("guests-{number}"), OwnedFd::from(listener))
        });
        send(&here, &sockets).expect("sent");
        let received = receive(&there).expect("received");
        assert_eq!(received.len(), 2);
        for ((name, sent), (got_name, got)) in sockets.iter().zip(&received) {
            let cookie = |socket| socket2::SockRef::from(socket).cookie().expect("a cookie");
            assert_eq!((name, cookie(sent)), (got_name, cookie(got)));
        }
        let long = [("x".repeat(FRAME), here.try_clone().expect("a copy").into())];
        assert_eq!(send(&here, &long).expect_err("too long").kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn an_end_or_something_else_is_an_error() {
        let kind = |bytes: &[u8]| {
            let (mut here, there) = UnixStream::pair().expect("a pair");
            here.write_all(bytes).expect("written");
            drop(here);
            receive(&there).expect_err("nothing").kind()
        };
        assert_eq!(kind(b""), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(b"HTTP/1.1 400 Bad Request\r\n"), io::ErrorKind::InvalidData);
        assert_eq!(kind(&[b'x'; FRAME]), io::ErrorKind::InvalidData);
    }
}
