//! A plain HTTP client, for what curl cannot do: a chosen source port, an abrupt end, bytes as they came.
//!
//! It works on the calling thread, inside whatever namespace that is in; the machine's own is refused.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use metadata_ebpf::addr::{METADATA_IPV4, METADATA_IPV6};
use nix::libc;
use socket2::{Domain, Socket, Type};

use crate::guard;

/// What ends a head.
const END: &[u8] = b"\r\n\r\n";

/// One request, on a connection of its own.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    path: String,
    headers: String,
    address: SocketAddr,
    source_port: u16,
    patience: Duration,
    interface: String,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Headers in order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body, whole.
    pub body: Vec<u8>,
}

impl Response {
    /// Reads status and headers. Returns them with the length of the head, blank line included; nothing while the head is
    /// not complete.
    ///
    /// # Errors
    /// If it is no HTTP.
    pub fn head(bytes: &[u8]) -> Result<Option<(Self, usize)>> {
        let Some(end) = bytes.windows(END.len()).position(|window| window == END) else { return Ok(None) };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| anyhow!("not a status line: {status_line:?}"))?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Some((Self { status, headers, body: Vec::new() }, end + END.len())))
    }

    /// Reads an answer after which the connection ended: what follows the head is the body.
    ///
    /// # Errors
    /// If it is no HTTP, or ends within the head.
    pub fn whole(bytes: &[u8]) -> Result<Self> {
        let (head, length) = Self::head(bytes)?.context("an answer that ends within its head")?;
        Ok(Self { body: bytes[length..].to_vec(), ..head })
    }

    /// Returns the length that the answer says its body has; 0 if it says none.
    ///
    /// # Errors
    /// If that is no number.
    pub fn content_length(&self) -> Result<usize> {
        let length = self.header("content-length").unwrap_or("0");
        length.parse().with_context(|| format!("content-length {length:?}"))
    }

    /// Returns the body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns a header's value; the name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Returns the body as JSON.
    ///
    /// # Errors
    /// If it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("status {}, body {:?}", self.status, self.text()))
    }
}

impl Request {
    /// A GET of this path from the metadata service over IPv4.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            path: path.to_owned(),
            headers: String::new(),
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::from(METADATA_IPV4)), 80),
            source_port: 0,
            patience: Duration::from_secs(10),
            interface: "eth0".to_owned(),
        }
    }

    /// Over IPv6 instead.
    #[must_use]
    pub fn over_ipv6(mut self) -> Self {
        self.address = SocketAddr::new(IpAddr::V6(Ipv6Addr::from(METADATA_IPV6)), self.address.port());
        self
    }

    /// Through this interface, which matters to IPv6's link-local addresses; `eth0` without it.
    #[must_use]
    pub fn through(mut self, interface: &str) -> Self {
        interface.clone_into(&mut self.interface);
        self
    }

    /// Another method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }

    /// To this TCP port; 80 without it.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.address.set_port(port);
        self
    }

    /// From this TCP port, which may be one that was used a moment ago.
    #[must_use]
    pub fn from_port(mut self, port: u16) -> Self {
        self.source_port = port;
        self
    }

    /// Gives up a connection or a read after this time.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Connects, sends, reads the answer and resets the connection, so that the same port can be used at once.
    ///
    /// # Errors
    /// In the machine's own namespace; if there is no connection or no whole answer in time.
    pub fn send(&self) -> Result<Response> {
        let mut connection = self.connect()?;
        connection.exchange(self)
    }

    /// Connects only.
    ///
    /// # Errors
    /// In the machine's own namespace; if there is no connection in time.
    pub fn connect(&self) -> Result<Connection> {
        guard::refuse_machine_namespace()?;
        let mut address = self.address;
        if let SocketAddr::V6(v6) = address {
            let scope = nix::net::if_::if_nametoindex(self.interface.as_str())
                .with_context(|| format!("looking for the interface {}", self.interface))?;
            address = SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, scope));
        }
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).context("opening a socket")?;
        if self.source_port != 0 {
            socket.set_reuse_address(true).context("allowing a port that was just used")?;
            let any: IpAddr =
                if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let source = SocketAddr::new(any, self.source_port);
            socket.bind(&source.into()).with_context(|| format!("taking the source port {}", self.source_port))?;
        }
        socket.set_linger(Some(Duration::ZERO)).context("asking for an abrupt end")?;
        socket.set_tcp_nodelay(true).context("asking for no delay")?;
        socket.connect_timeout(&address.into(), self.patience).with_context(|| format!("connecting to {address}"))?;
        socket.set_read_timeout(Some(self.patience)).context("setting a time-out")?;
        socket.set_write_timeout(Some(self.patience)).context("setting a time-out")?;
        Ok(Connection { stream: socket.into(), received: Vec::new() })
    }

    fn bytes(&self) -> Vec<u8> {
        let host = match self.address {
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        };
        format!("{} {} HTTP/1.1\r\nhost: {host}\r\n{}\r\n", self.method, self.path, self.headers).into_bytes()
    }
}

/// A connection that may carry several requests.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Drop for Connection {
    /// Resets the connection. Closing alone would not do: a process that another thread is just starting holds a copy of
    /// every descriptor for a moment, and the connection would live on until then, its port with it.
    fn drop(&mut self) {
        use std::os::fd::AsRawFd as _;
        let nowhere = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
        let length = libc::socklen_t::try_from(size_of_val(&nowhere)).unwrap_or(0);
        // SAFETY: `nowhere` is an initialised sockaddr (family AF_UNSPEC, which dissolves: connect(2)) of that length.
        unsafe { libc::connect(self.stream.as_raw_fd(), &raw const nowhere, length) };
    }
}

impl Connection {
    /// Sends a request and reads its answer; the connection stays.
    ///
    /// # Errors
    /// If there is no whole answer in time.
    pub fn exchange(&mut self, request: &Request) -> Result<Response> {
        self.begin(request)?;
        self.read(request.method == "HEAD").with_context(|| format!("reading the answer to {}", request.path))
    }

    /// Sends a request, whose answer is read later.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn begin(&mut self, request: &Request) -> Result<()> {
        self.stream.write_all(&request.bytes()).context("sending a request")
    }

    /// Reads the answer to a GET.
    ///
    /// # Errors
    /// If there is no whole answer in time.
    pub fn receive(&mut self) -> Result<Response> {
        self.read(false).context("reading an answer")
    }

    /// Ends the sending side: nothing more will be asked.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn end_sending(&mut self) -> Result<()> {
        self.stream.shutdown(std::net::Shutdown::Write).context("ending the sending side")
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("sending bytes")
    }

    /// Waits for the other side to close or reset the connection; what still comes before is returned.
    ///
    /// # Errors
    /// If it stays open.
    pub fn wait_closed(&mut self) -> Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.received);
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(rest),
                Ok(length) => rest.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Ok(rest);
                }
                Err(error) => return Err(error).context("waiting for the connection's end"),
            }
        }
    }

    fn read(&mut self, head_only: bool) -> Result<Response> {
        let (mut response, head) = loop {
            match Response::head(&self.received)? {
                Some(found) => break found,
                None => self.more()?,
            }
        };
        self.received.drain(..head);
        if !head_only {
            let length = response.content_length()?;
            while self.received.len() < length {
                self.more()?;
            }
            response.body = self.received.drain(..length).collect();
        }
        Ok(response)
    }

    fn more(&mut self) -> Result<()> {
        let mut buffer = [0; 65536];
        let length = self.stream.read(&mut buffer).context("reading")?;
        if length == 0 {
            return Err(anyhow!("the connection ended after {} bytes of an answer", self.received.len()));
        }
        self.received.extend_from_slice(&buffer[..length]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whole_and_in_parts() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A:  b \r\n\r\nhi";
        assert!((0..bytes.len() - 2).all(|end| Response::head(&bytes[..end]).is_ok_and(|found| found.is_none())));
        let answer = Response::whole(bytes).unwrap();
        assert_eq!((answer.status, answer.text().as_str(), answer.content_length().unwrap()), (200, "hi", 2));
        assert_eq!(answer.header("x-a"), Some("b"));
        assert!(Response::whole(b"HTTP/1.1 2").is_err() && Response::whole(b"nonsense\r\n\r\n").is_err());
    }
}
