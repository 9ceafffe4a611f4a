//! Nova: an instance's metadata is set with Nova's own objects, and a client asks Nova itself as Neutron's agent does.
//!
//! Nova tells nobody of a change, so everyone who asks ahead sees it at the next refresh, and Nova's own cache adds to that.
//! Both are set short here, and shown; what is measured grows with them. Each of Nova's two workers has a cache of its own, so
//! that a change may be read again, after seconds, until two reads agree. Changes come at moments that are spread evenly
//! over the interval, to several guests at a time.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use lab::agent::{self, SECRET};
use lab::nova::{Nova, Setter, another, facts};
use lab::{Domain, Guest, Node, NodePlan, Request};
use serde_json::Value;

use super::{Seen, until};
use crate::Effort;
use crate::load::histogram;
use crate::result::Case;

/// What lab's domains name as the project.
const PROJECT: &str = "project-of-libvirt";
const DOCUMENT: &str = "/openstack/latest/meta_data.json";
const KEY: &str = "change";
/// `source.nova.refresh_interval` here; by default it is 5 minutes.
const REFRESH: Duration = Duration::from_secs(2);
/// `api.metadata_cache_expiration` of the lab's Nova; by default it is 15 seconds.
const CACHE: Duration = Duration::from_secs(1);
/// Guests that have changes at the same time.
const GUESTS: u32 = 6;
/// Changes of each guest in a slice.
const CHANGES: u32 = 2;
/// How often either side asks. Nova is slower to answer, and has the daemon to answer as well.
const GUEST_ASKS: Duration = Duration::from_millis(2);
const BARE_ASKS: Duration = Duration::from_millis(20);

pub(super) fn measure(effort: Effort) -> Result<Case> {
    let name = format!("nova, read again every {} s", REFRESH.as_secs());
    let world = World::make()?;
    let setter = Mutex::new(world.nova.setter()?);
    let mut seen = Seen::new()?;
    for pair in effort.turns(&name) {
        let first = 1 + pair * 2 * CHANGES;
        let guest = |first| world.all(first, &setter, &|guest, change| world.seen_by_guest(guest, change));
        let bare = |first| world.all(first, &setter, &|guest, change| world.seen_in_nova(guest, change));
        let (guest, bare) = if pair % 2 == 0 {
            (guest(first)?, bare(first + CHANGES)?)
        } else {
            let bare = bare(first)?;
            (guest(first + CHANGES)?, bare)
        };
        seen.add(&guest, &bare, REFRESH / 2)?;
    }
    let mut case = seen.case("sync", &name, "Nova itself", "Nova itself plus half a refresh_interval");
    case.figure("refresh_interval here, s (5 min by default)", REFRESH.as_secs_f64());
    case.figure("Nova's metadata_cache_expiration here, s (15 by default)", CACHE.as_secs_f64());
    Ok(case)
}

struct World {
    nova: Nova,
    guests: Vec<Guest>,
    node: Node,
}

impl World {
    fn make() -> Result<Self> {
        let source = format!(
            "kind = 'nova'\n[source.nova]\nendpoints = ['http://127.0.0.1:@PORT']\nshared_secret_file = '@DIR/secret'\n\
             refresh_interval = '{}s'\n",
            REFRESH.as_secs()
        );
        let node = NodePlan::default().source(&source).further(crate::load::UNLIMITED).make()?;
        let guests = (0..GUESTS)
            .map(|number| node.guest(&format!("sync-{number}")).undocumented().boot())
            .collect::<Result<Vec<_>>>()?;
        let plain = facts("plain")?;
        let known: Vec<Value> = guests.iter().zip(1..).map(|(guest, number)| of(&plain, guest, number)).collect();
        let nova = node.namespace().run(|| Nova::start(&known))?;
        let directory = node.path("").display().to_string();
        let config = fs::read_to_string(node.config())?.replace("@PORT", &nova.port().to_string());
        fs::write(node.config(), config.replace("@DIR", directory.trim_end_matches('/')))?;
        fs::write(node.path("secret"), SECRET)?;
        fs::set_permissions(node.path("secret"), fs::Permissions::from_mode(0o600))?;
        for guest in &guests {
            Domain::of(guest).write(&node.domains())?;
        }
        node.start_daemon()?;
        for guest in &guests {
            node.wait_bound(guest.ifindex())?;
            lab::wait::until("a guest reads its own", || {
                Ok((guest.get(DOCUMENT)?.status == 200 && guest.read_uuid(false)? == guest.uuid()).then_some(()))
            })?;
        }
        Ok(Self { nova, guests, node })
    }

    /// Every guest's changes at the same time, with `see` waiting for each.
    fn all(
        &self,
        first: u32,
        setter: &Mutex<Setter>,
        see: &(dyn Fn(&Guest, u32) -> Result<()> + Sync),
    ) -> Result<Histogram<u64>> {
        let one = |guest: &Guest, number: u32| {
            let mut times = Vec::new();
            for change in first..first + CHANGES {
                std::thread::sleep(REFRESH.mul_f64(golden(change * GUESTS + number)));
                setter.lock().unwrap_or_else(PoisonError::into_inner).set(guest.uuid(), KEY, &change.to_string())?;
                let start = Instant::now();
                see(guest, change).with_context(|| format!("change {change} of guest {number}"))?;
                times.push(start.elapsed());
            }
            anyhow::Ok(times)
        };
        let mut seen = histogram()?;
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                self.guests.iter().zip(0..).map(|(guest, number)| scope.spawn(move || one(guest, number))).collect();
            for thread in threads {
                let times = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                for time in times {
                    seen.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
                }
            }
            Ok(seen)
        })
    }

    fn seen_by_guest(&self, guest: &Guest, change: u32) -> Result<()> {
        guest.namespace().run(|| {
            let request = Request::get(DOCUMENT);
            let mut connection = request.connect()?;
            let wanted = change.to_string();
            until(GUEST_ASKS, || Ok(connection.exchange(&request)?.json()?["meta"][KEY] == wanted.as_str()))
        })
    }

    /// Asks Nova as Neutron's agent does.
    fn seen_in_nova(&self, guest: &Guest, change: u32) -> Result<()> {
        let asks_for = agent::For { instance: guest.uuid(), project: PROJECT, address: Some("10.0.0.5") };
        let wanted = change.to_string();
        self.node.namespace().run(|| {
            until(BARE_ASKS, || {
                let answer = asks_for.get(self.nova.port(), DOCUMENT)?;
                ensure!(answer.status == 200, "Nova answered {}", answer.status);
                Ok(answer.json()?["meta"][KEY] == wanted.as_str())
            })
        })
    }
}

/// Facts of a guest, as Nova is to know them.
fn of(plain: &Value, guest: &Guest, number: u32) -> Value {
    let mut facts = another(plain, number);
    facts["instance"]["uuid"] = guest.uuid().into();
    facts["instance"]["project_id"] = PROJECT.into();
    for port in facts["neutron_ports"].as_array_mut().into_iter().flatten() {
        port["device_id"] = guest.uuid().into();
    }
    facts
}

/// Returns fractions that are spread evenly whatever number of them is taken.
fn golden(number: u32) -> f64 {
    (f64::from(number) * 0.618_033_988_749_895).fract()
}
