//! Keystone, Nova, its metadata API and Neutron over TLS, with certificates on both sides.

use lab::Tls;
use lab::controller::{ControllerPlan, HOST, World};
use lab::nova::Front;

use crate::openstack::CLOUD;

#[test]
fn every_api_is_asked_over_tls_with_a_client_certificate() {
    let cloud = CLOUD.get().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let tls = Tls::make(directory.path()).unwrap();
    let ports = cloud.ports();
    let fronts = [ports.keystone, ports.nova, ports.neutron, ports.metadata];
    let fronts = fronts.map(|port| Front::start(port, Some([&tls.cert, &tls.key, &tls.ca])).unwrap());
    let [keystone, nova, neutron, metadata] = &fronts;
    let world = World::reaching(&cloud, "", &fronts.each_ref().map(Front::port)).unwrap();
    let server = cloud.create_server("over-tls", HOST).unwrap();

    let trusting = format!("ca_file = {:?}\n", tls.ca);
    let whole = format!("{trusting}cert_file = {:?}\nkey_file = {:?}\n", tls.client_cert, tls.client_key);
    let plan = |identity: &str| {
        let apis = format!("[nova]\nendpoint = {:?}\n[neutron]\nendpoint = {:?}\n", nova.tls_url(), neutron.tls_url());
        ControllerPlan::named("c1")
            .keystone(&format!("auth_url = {:?}\n{identity}", keystone.tls_url()))
            .metadata(&format!("endpoints = [{:?}]\n{identity}", metadata.tls_url()))
            .further(&apis)
    };
    let mut stranger = plan(&trusting).make(&world).unwrap();
    stranger.start().unwrap();
    let refused = stranger.wait("Keystone wants a certificate", |status| !status.problems.is_empty()).unwrap();
    assert!(refused.problems.iter().any(|problem| problem.contains(&keystone.tls_url())), "{:?}", refused.problems);
    stranger.kill().unwrap();

    let mut controller = plan(&whole).make(&world).unwrap();
    controller.start().unwrap();
    controller.wait_in_step().unwrap();
    world.wait_on(&server, &[HOST]).unwrap();
    let status = controller.status().unwrap();
    assert_eq!(status.problems, Vec::<String>::new());
    assert!(status.services.iter().all(|service| service.place.starts_with("https://")), "{:?}", status.services);
    cloud.delete_server(&server).unwrap();
}
