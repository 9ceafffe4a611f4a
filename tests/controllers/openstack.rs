//! A real OpenStack control plane: it starts, its fake hosts boot instances, and what it emits is what docs/controller.md says.

use lab::Shared;
use lab::openstack::{Cloud, Plan};

/// The cloud of all tests that neither stop its services nor replace its databases: starting one takes long.
static CLOUD: Shared<Cloud> = Shared::new(|| Cloud::start(Plan::default()));

#[test]
fn an_instance_boots_on_a_fake_host() {
    let cloud = CLOUD.get().unwrap();
    let id = cloud.create_server("boots", "host1").unwrap();
    let server = cloud.server(&id).unwrap();
    assert_eq!(server["OS-EXT-SRV-ATTR:host"], "host1");
    let ports = cloud.ports_of(&id).unwrap();
    assert_eq!(ports.len(), 1);
    assert_eq!(ports[0]["binding:host_id"], "host1");
    assert_eq!(ports[0]["binding:vif_type"], "ovs");
}
