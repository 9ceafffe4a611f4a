//! Request targets that Nova's stack accepts and hyper refuses, encoded on their way to hyper.
//!
//! Nova takes any byte in a path, and answers a path that it does not know with 404. hyper answers 400 to `<`, `>`, a
//! back quote and bytes beyond ASCII. Here these bytes of a request target, and no others, become percent escapes
//! (RFC 3986, section 2.1), which name the same path.
//!
//! Promises: every other byte reaches hyper as it came, in order; no byte of a head is taken for another head's or for a
//! body's, since hyper gets one head at a time and says how long its body is; what waits here is at most what one read
//! brought in, encoded. Where a target needs no change and no bytes follow its head, nothing is copied.
//!
//! Left out: checking anything. Whatever hyper refuses beyond these bytes, it refuses with 400, as haproxy does before
//! Neutron's agents.

use bytes::{Buf as _, BytesMut};

/// How long the body of the request is that hyper has just begun with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes; zero without a body.
    Length(u64),
    /// Only hyper knows where it ends.
    Chunked,
}

/// Where in the stream of requests the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the method: empty lines may come here.
    Start,
    Method,
    Target,
    /// After the target, in the same line.
    Version,
    /// In a header line, or at its start.
    Header {
        at_start: bool,
    },
    /// After a head that hyper has not begun with yet.
    HeadEnd,
    Body(u64),
    /// Nothing is looked at any more: after a chunked body, or where hyper does not see the head's end here.
    Opaque,
}

/// The bytes of one connection's requests.
#[derive(Debug)]
pub(super) struct Requests {
    place: Place,
    /// Read, and not looked at yet.
    raw: BytesMut,
    /// Looked at, and not with hyper yet.
    ready: BytesMut,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self { place: Place::Start, raw: BytesMut::new(), ready: BytesMut::new() }
    }

    /// Tells whether bytes wait here.
    pub(super) fn has_waiting(&self) -> bool {
        !self.raw.is_empty() || !self.ready.is_empty()
    }

    /// Tells whether requests are not told apart any more: hyper may get several in one read.
    pub(super) fn is_opaque(&self) -> bool {
        self.place == Place::Opaque
    }

    /// hyper wants more bytes. `begun` says that it has begun with the request after whose head it stopped getting any.
    pub(super) fn resume(&mut self, begun: Option<Framing>) {
        if self.place == Place::HeadEnd {
            self.place = match begun {
                Some(Framing::Length(0)) => Place::Start,
                Some(Framing::Length(length)) => Place::Body(length),
                Some(Framing::Chunked) | None => Place::Opaque,
            };
        }
    }

    /// Takes what was just read. Returns how many of these bytes hyper gets as they are; the others wait here.
    pub(super) fn take(&mut self, read: &[u8]) -> usize {
        let unchanged = self.advance(read);
        self.raw.extend_from_slice(&read[unchanged..]);
        unchanged
    }

    /// Moves waiting bytes to hyper, at most as many as `room` has. Returns how many.
    pub(super) fn give(&mut self, room: &mut [u8]) -> usize {
        if self.ready.is_empty() {
            self.encode();
        }
        let length = room.len().min(self.ready.len());
        self.ready.copy_to_slice(&mut room[..length]);
        length
    }

    /// Makes ready what waits, up to the end of a head.
    fn encode(&mut self) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let mut raw = std::mem::take(&mut self.raw);
        loop {
            let unchanged = self.advance(&raw);
            self.ready.extend_from_slice(&raw[..unchanged]);
            raw.advance(unchanged);
            if raw.is_empty() || self.place == Place::HeadEnd {
                break;
            }
            let byte = raw.get_u8();
            let digits = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
            self.ready.extend_from_slice(&[b'%', digits[0], digits[1]]);
        }
        self.raw = raw;
    }

    /// Moves on over bytes that hyper gets as they are. Returns their number: fewer than there are if a byte must be
    /// encoded, or a head ends.
    fn advance(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            self.place = match self.place {
                Place::Start if matches!(byte, b'\r' | b'\n') => Place::Start,
                Place::Start | Place::Method => after_part(byte, Place::Method, Place::Target),
                Place::Target if is_refused(byte) => return at,
                Place::Target => after_part(byte, Place::Target, Place::Version),
                Place::Version => after_part(byte, Place::Version, Place::Version),
                Place::Header { at_start: true } if byte == b'\n' => {
                    self.place = Place::HeadEnd;
                    return at + 1;
                }
                Place::Header { at_start: true } if byte == b'\r' => Place::Header { at_start: true },
                Place::Header { .. } => match bytes[at..].iter().position(|byte| *byte == b'\n') {
                    Some(end) => {
                        at += end;
                        Place::Header { at_start: true }
                    }
                    None => {
                        self.place = Place::Header { at_start: false };
                        return bytes.len();
                    }
                },
                Place::HeadEnd => return at,
                Place::Body(left) => {
                    let here = (bytes.len() - at) as u64;
                    if here < left {
                        self.place = Place::Body(left - here);
                        return bytes.len();
                    }
                    // At most what is here.
                    at += usize::try_from(left).unwrap_or(usize::MAX) - 1;
                    Place::Start
                }
                Place::Opaque => return bytes.len(),
            };
            at += 1;
        }
        at
    }
}

/// The place after a byte of the request line: the same part, the next one, or the headers.
fn after_part(byte: u8, part: Place, next: Place) -> Place {
    match byte {
        b' ' => next,
        b'\n' => Place::Header { at_start: true },
        _ => part,
    }
}

/// Tells whether hyper refuses a target for this byte, and Nova's stack does not.
fn is_refused(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns what hyper gets if the bytes come in pieces of this size, and it begins with requests that have these
    /// bodies.
    fn through(bytes: &[u8], piece: usize, bodies: &[Framing]) -> Vec<u8> {
        let (mut requests, mut out, mut bodies) = (Requests::new(), Vec::new(), bodies.iter().copied());
        for read in bytes.chunks(piece.max(1)) {
            if requests.place == Place::HeadEnd {
                requests.resume(bodies.next());
            }
            let unchanged = requests.take(read);
            out.extend_from_slice(&read[..unchanged]);
            while requests.has_waiting() {
                if requests.ready.is_empty() && requests.place == Place::HeadEnd {
                    requests.resume(bodies.next());
                }
                let mut room = [0; 5];
                let length = requests.give(&mut room);
                assert!(length > 0, "hyper would take it for the end");
                out.extend_from_slice(&room[..length]);
            }
        }
        out
    }

    #[test]
    fn only_targets_change_and_only_in_bytes_that_hyper_refuses() {
        use Framing::{Chunked, Length};
        for (sent, bodies, expected) in [
            (
                &b"GET /a<b>`\xff HTTP/1.1\r\nX: <\xff\r\n\r\n"[..],
                &[][..],
                &b"GET /a%3Cb%3E%60%FF HTTP/1.1\r\nX: <\xff\r\n\r\n"[..],
            ),
            (b"GET /a|b{c}\\^\" HTTP/1.1\n\n", &[], b"GET /a%7Cb%7Bc%7D%5C%5E%22 HTTP/1.1\n\n"),
            (b"\r\n\nGET /?<#% HTTP/1.1\r\n\r\n", &[], b"\r\n\nGET /?%3C#% HTTP/1.1\r\n\r\n"),
            // A request without a body, then another.
            (b"A /< B\r\n\r\nA /< B\r\n\r\n", &[Length(0)], b"A /%3C B\r\n\r\nA /%3C B\r\n\r\n"),
            // A body that looks like a request, then a request.
            (
                b"A /< B\r\n\r\nA /< B\r\n\r\nA /< B\r\n\r\n",
                &[Length(10)],
                b"A /%3C B\r\n\r\nA /< B\r\n\r\nA /%3C B\r\n\r\n",
            ),
            // Nothing changes after a body of unknown length, and where hyper does not agree about the head's end.
            (b"A /< B\r\n\r\nA /< B\r\n\r\n", &[Chunked], b"A /%3C B\r\n\r\nA /< B\r\n\r\n"),
            (b"A /< B\r\n\r\nA /< B\r\n\r\n", &[], b"A /%3C B\r\n\r\nA /< B\r\n\r\n"),
            (b"\x16\x03\x01<\n<\n\n", &[], b"\x16\x03\x01<\n<\n\n"),
            (b"A\r\n\r\n", &[], b"A\r\n\r\n"),
        ] {
            for piece in 1..=sent.len() {
                let got = through(sent, piece, bodies);
                assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(expected), "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn an_ordinary_request_is_not_copied() {
        let mut requests = Requests::new();
        for _ in 0..3 {
            let request = b"GET /openstack/latest/meta_data.json?a=b HTTP/1.1\r\nHost: x\r\n\r\n";
            assert_eq!(requests.take(request), request.len());
            assert!(!requests.has_waiting());
            assert_eq!(requests.raw.capacity() + requests.ready.capacity(), 0);
            requests.resume(Some(Framing::Length(0)));
        }
    }

    proptest! {
        #[test]
        fn bytes_are_neither_lost_nor_invented(bytes: Vec<u8>, piece in 1_usize..64, length in 0_u64..20) {
            let got = through(&bytes, piece, &[Framing::Length(length); 64]);
            let mut rest = &got[..];
            for byte in bytes {
                let escape = format!("%{byte:02X}").into_bytes();
                rest = if rest.first() == Some(&byte) {
                    &rest[1..]
                } else {
                    prop_assert!(is_refused(byte) && rest.starts_with(&escape));
                    &rest[3..]
                };
            }
            prop_assert!(rest.is_empty());
        }
    }
}
