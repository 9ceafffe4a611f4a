//! Every default of the configuration, with its reason. deploy/metadatad.toml shows the same values, which a test
//! checks.

use std::time::Duration;

use super::{Attach, LogFormat, Unbound, VendordataProvider};

/// Where the configuration is read from without `--config`.
pub const CONFIG_PATH: &str = "/etc/metadatad/metadatad.toml";

/// Network namespace of the responder.
pub const NAMESPACE: &str = "metadatad";

/// Host's end of the pair. Does not match [`PORT_PATTERN`], so it is never taken for a guest's.
pub const INTERFACE: &str = "metadatad0";

/// The port that every client of the metadata service asks.
pub const PORT: u16 = 80;

/// Nova and libvirt name taps `tap` + the start of the port's id.
pub const PORT_PATTERN: &str = "tap*";

/// A guest that boots before its document arrives waits for it, then is told to ask again.
pub const UNBOUND: Unbound = Unbound::Hold;

/// The usual mount point of the bpf file system.
pub const PIN_DIR: &str = "/sys/fs/bpf/metadatad";

/// tcx where there is one: its links are pinned and cannot be removed by accident.
pub const ATTACH: Attach = Attach::Auto;

/// Directory of the `directory` source.
pub const DIRECTORY: &str = "/etc/metadatad/instances";

/// Nova's default of `dhcp_domain`.
pub const DHCP_DOMAIN: &str = "novalocal";

/// Nova's default of `vendordata_providers`.
pub const VENDORDATA_PROVIDERS: [VendordataProvider; 1] = [VendordataProvider::StaticJson];

/// Nova's default of `vendordata_dynamic_connect_timeout` and `vendordata_dynamic_read_timeout`.
pub const VENDORDATA_DYNAMIC_TIMEOUT: Duration = Duration::from_secs(5);

/// Guests read vendor data at boot; five minutes keep a service that many nodes ask from being asked all the time.
pub const VENDORDATA_DYNAMIC_REFRESH: Duration = Duration::from_secs(300);

/// Far above what a guest has use for, and little enough for a node's memory.
pub const VENDORDATA_DYNAMIC_BODY_LIMIT: usize = 1 << 20;

/// A thousand instances are through in seconds, and a thousand nodes that start together do not drown a service.
pub const VENDORDATA_DYNAMIC_REQUESTS: usize = 8;

/// A guest sends its request in one segment; ten seconds are several retransmissions of it.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// cloud-init's OpenStack source asks twice, some seconds apart, and takes a 503 for an answer; it gives a request ten
/// seconds, as Ignition does. A guest may so boot about ten seconds before its document arrives.
pub const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// As Neutron's haproxy (`timeout http-keep-alive 30s`): a script that leaves its connection open and waits for the other
/// side to close it, as Node.js does, ends no later than with Neutron.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A megabyte to a slow guest is done in well under this, and a service manager waits longer.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A container host is one port for all its pods, each of which may keep a connection: 110 by Kubernetes' default, 250 by
/// OpenShift's, seldom more than 500. Idle connections beyond it give way, and 8 MiB of memory are the most that one guest
/// can take.
pub const CONNECTIONS_PER_PORT: usize = 512;

/// 32 ports with all that they may have, or 500 with 32 each; about 16 KiB of memory per connection in user space. Beyond it
/// the port with most connections gives way.
pub const CONNECTIONS: usize = 16_384;

/// A request is a look-up, so two threads answer a node's guests, and leave the other CPUs to the guests themselves.
pub const THREADS: usize = 2;

/// Socket of the admin API.
pub const ADMIN_SOCKET: &str = "/run/metadatad/admin.sock";

/// What is worth a line on a healthy node.
pub const LOG_FILTER: &str = "info";

/// The journal shows it as it is.
pub const LOG_FORMAT: LogFormat = LogFormat::Text;
