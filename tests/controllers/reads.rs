//! The controller's reads of a real Keystone, Nova and Neutron.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use lab::agent::{self, SECRET};
use lab::http::Response;
use lab::openstack::{Cloud, Service};
use metadata_user::api::{NovaPages, Page, Password, Written};
use metadata_user::config::controller::Controller;
use metadata_user::controller::openstack::{Failure, Found, Instance, Marker, OpenStack, Urgency};
use metadata_user::record::InstanceId;
use serde_json::json;

use crate::openstack::CLOUD;

/// Longest wait for what Nova does in the background.
const LONG: Duration = Duration::from_secs(120);

/// Reads of a cloud, as an own user with the role `admin`.
struct Reader {
    openstack: OpenStack,
    runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
}

impl Reader {
    fn new(cloud: &Cloud, name: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let user = json!({"user": {"name": name, "password": "first", "domain_id": "default"}});
        let made = cloud.call(&Service::Keystone, "POST", "/v3/users", Some(&user))?;
        let user = made["user"]["id"].as_str().context("a user without an id")?.to_owned();
        let token = cloud.token()?.body;
        let (project, roles) = (&token["project"]["id"], token["roles"].as_array().context("roles")?);
        let role = roles.iter().find(|role| role["name"] == "admin").context("no role admin")?;
        let path = |text: &serde_json::Value| text.as_str().unwrap_or_default().to_owned();
        let path = format!("/v3/projects/{}/users/{user}/roles/{}", path(project), path(&role["id"]));
        cloud.call(&Service::Keystone, "PUT", &path, None)?;
        write(&directory.path().join("password"), "first")?;
        write(&directory.path().join("shared"), SECRET)?;
        let text = format!(
            "[etcd]\nendpoints = ['http://a:1']\n[keystone]\nauth_url = '{}'\nusername = '{name}'\nproject = 'admin'\n\
             interface = 'public'\npassword_file = '{2}/password'\n[metadata_api]\nendpoints = ['{}']\n\
             shared_secret_file = '{2}/shared'\n[reconcile]\nrequests_per_second = 1000\npage = 2\n",
            cloud.auth_url(),
            cloud.metadata_url(),
            directory.path().display()
        );
        let openstack = OpenStack::new(&Controller::parse(Path::new("controller.toml"), &text)?)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { openstack, runtime, _directory: directory })
    }

    /// Reads an instance until Nova's cache is over. Returns it, and how often it was older.
    fn instance(&self, id: InstanceId) -> Result<(Instance, usize)> {
        let begun = Instant::now();
        let mut older = 0;
        while begun.elapsed() < LONG {
            match self.runtime.block_on(self.openstack.read(id, Urgency::Change))? {
                Found::Instance(instance) => return Ok((*instance, older)),
                Found::Stale { again_after, .. } => {
                    older += 1;
                    self.runtime.block_on(async { tokio::time::sleep(again_after).await });
                }
                found => bail!("{found:?}"),
            }
        }
        bail!("Nova's cache does not end")
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).context("setting a mode")
}

fn id(text: &str) -> InstanceId {
    InstanceId(text.parse().unwrap())
}

/// Asks Nova's metadata API for a page, as an agent does.
fn page(cloud: &Cloud, instance: &Instance, path: &str) -> Result<Response> {
    let (id, project) = (instance.server.id.to_string(), instance.server.project.to_string());
    let address = instance.server.requester_address().context("no address")?.to_string();
    let guest = agent::For { instance: &id, project: &project, address: Some(&address) };
    guest.get(cloud.ports().metadata, &format!("/{path}"))
}

/// Compares all pages with what Nova answers to each. Returns their number.
fn compare(cloud: &Cloud, instance: &Instance) -> Result<usize> {
    for (path, kept) in instance.pages.pages() {
        let answer = page(cloud, instance, path)?;
        let now = match answer.status {
            200 => Page::found(answer.header("content-type"), answer.body.clone().into()),
            // Nova crashes where there is nothing.
            404 | 500 => Page::not_found(),
            status => bail!("{path}: {status}"),
        };
        if *kept != now {
            bail!("{path}: {:?} instead of {:?}", kept.text(), now.text());
        }
    }
    Ok(instance.pages.pages().count())
}

fn requests(reader: &Reader) -> BTreeMap<&'static str, u64> {
    reader.openstack.states().into_iter().map(|state| (state.service.as_str(), state.requests)).collect()
}

fn properties(pages: &NovaPages) -> Result<serde_json::Value> {
    let page = pages.page("openstack/latest/meta_data.json").and_then(Page::text).context("no meta_data.json")?;
    Ok(serde_json::from_str::<serde_json::Value>(page)?["meta"].clone())
}

#[test]
fn an_instance_is_read_as_nova_answers_for_it() {
    let cloud = CLOUD.get().unwrap();
    let reader = Reader::new(&cloud, "whole").unwrap();
    let ids = ["one", "other"].map(|name| id(&cloud.create_server(name, "host1").unwrap()));
    let mut before = requests(&reader);
    for (number, id) in ids.into_iter().enumerate() {
        let begun = Instant::now();
        let (instance, _) = reader.instance(id).unwrap();
        let time = begun.elapsed();
        let now = requests(&reader);
        let made: BTreeMap<_, _> = now.iter().map(|(service, count)| (*service, count - before[service])).collect();
        before = now;
        eprintln!("instance {number}: {} pages, {made:?} requests, {time:?}", compare(&cloud, &instance).unwrap());
        assert_eq!((instance.server.host.as_deref(), instance.moves.len()), (Some("host1"), 0));
        let port = &instance.ports[0];
        assert_eq!((port.host.as_deref(), &*port.vif_type, &*port.vnic_type), (Some("host1"), "ovs", "normal"));
        assert!(port.devname.is_some() && port.port_security == Some(true) && port.is_of_instance());
    }
    // All are listed, in pages of two.
    let (mut marker, mut listed) = (Some(Marker::start()), Vec::new());
    while let Some(from) = marker {
        let (servers, next) = reader.runtime.block_on(reader.openstack.servers(&from)).unwrap();
        assert!(servers.len() <= 2);
        listed.extend(servers.into_iter().map(|server| server.id));
        marker = next;
    }
    assert!(ids.iter().all(|id| listed.contains(id)) && listed.is_sorted(), "{listed:?}");
    let ports = reader.runtime.block_on(reader.openstack.ports_of(&ids, Urgency::Background)).unwrap();
    assert_eq!(ports.len(), 2);
}

#[test]
fn a_change_is_read_though_nova_has_a_cache() {
    let cloud = CLOUD.get().unwrap();
    let reader = Reader::new(&cloud, "changes").unwrap();
    let text = cloud.create_server("changing", "host1").unwrap();
    let (mut times, mut older) = (Vec::new(), 0);
    for number in 0..12 {
        cloud.set_property(&text, "number", &number.to_string()).unwrap();
        let begun = Instant::now();
        let (instance, looks) = reader.instance(id(&text)).unwrap();
        times.push(begun.elapsed());
        older += looks;
        assert_eq!(properties(&instance.pages).unwrap()["number"], number.to_string());
    }
    times.sort_unstable();
    eprintln!(
        "from a change to all pages: median {:?}, longest {:?}; {older} looks at an old cache",
        times[6], times[11]
    );
    cloud.rename(&text, "renamed").unwrap();
    let (instance, _) = reader.instance(id(&text)).unwrap();
    let hostname = instance.pages.page("latest/meta-data/hostname").and_then(Page::text);
    assert_eq!(hostname, Some("changing.novalocal"), "Nova keeps it");
    assert!(instance.pages.page("openstack/latest/meta_data.json").and_then(Page::text).unwrap().contains("renamed"));

    let port = instance.ports[0].id.to_string();
    let group = cloud.create_security_group("readers").unwrap();
    cloud
        .set_port(&port, &json!({"security_groups": [group], "allowed_address_pairs": [{"ip_address": "10.9.0.0/24"}]}))
        .unwrap();
    let (instance, _) = reader.instance(id(&text)).unwrap();
    assert_eq!(instance.ports[0].allowed_address_pairs[0].address, "10.9.0.0/24");
    assert_eq!(instance.pages.page("latest/meta-data/security-groups").and_then(Page::text), Some("readers"));
    let of_group = reader.runtime.block_on(reader.openstack.ports_of_group(&group)).unwrap();
    assert_eq!(of_group.iter().map(|port| port.id).collect::<Vec<_>>(), [instance.ports[0].id]);
    compare(&cloud, &instance).unwrap();

    let password = Password::new("from the guest").unwrap();
    let path = "openstack/latest/password";
    let post = || reader.runtime.block_on(reader.openstack.post_password(&instance.server, path, &password));
    assert_eq!(post(), Ok(Written::Kept));
    // Nova takes another one while its cache does not know the first.
    let begun = Instant::now();
    while post() != Ok(Written::Exists) {
        assert!(begun.elapsed() < LONG, "a second password is still taken");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn moves_are_seen_and_a_deleted_server_is_gone() {
    let cloud = CLOUD.get().unwrap();
    let reader = Reader::new(&cloud, "moves").unwrap();
    let text = cloud.create_server("moving", "host1").unwrap();
    // As the other tests of this cloud: it holds for all migrations.
    cloud.migrations_take(Duration::from_secs(30)).unwrap();
    cloud.begin_live_migration(&text, "host2").unwrap();
    let begun = Instant::now();
    let moving = loop {
        let (instance, _) = reader.instance(id(&text)).unwrap();
        if let Some(found) = instance.moves.first().filter(|found| found.dest.is_some()) {
            break found.clone();
        }
        assert!(begun.elapsed() < LONG, "no move is seen");
    };
    assert_eq!((moving.source.as_deref(), moving.dest.as_deref()), (Some("host1"), Some("host2")));
    cloud.wait_status(&text, "ACTIVE").unwrap();
    let (instance, _) = reader.instance(id(&text)).unwrap();
    assert_eq!((instance.server.host.as_deref(), instance.moves.len()), (Some("host2"), 0));

    let read = || reader.runtime.block_on(reader.openstack.server(id(&text), Urgency::Change));
    let now = reader.runtime.block_on(reader.openstack.cloud_id()).unwrap();
    cloud.delete_server(&text).unwrap();
    assert_eq!(read().map_err(|error| error.failure), Err(Failure::OtherCloud), "which cloud it is was not said");
    let another = "00000000-0000-4000-8000-000000000001".parse().unwrap();
    reader.runtime.block_on(reader.openstack.expect(another));
    assert_eq!(read().map_err(|error| error.failure), Err(Failure::OtherCloud));
    reader.runtime.block_on(reader.openstack.expect(now.to_string().parse().unwrap()));
    assert_eq!(read(), Ok(None));
}
