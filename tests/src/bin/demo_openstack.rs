//! The demonstration of the controller: a real OpenStack, and a guest that reads what `openstack server set` changes.
//!
//! `cargo xtask demo openstack` builds the daemon, fetches the programs and starts this. Everything happens on 127.0.0.1 and in namespaces made
//! here, and is gone at the end. Hosts run Nova's fake driver, so the guest is a namespace with the tap, MAC and address of the server's port.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use lab::controller::{ControllerPlan, HOST, World};
use lab::openstack::{Cloud, Plan};
use lab::wait;

const META_DATA: &str = "http://169.254.169.254/openstack/latest/meta_data.json";

fn main() -> Result<()> {
    say("an OpenStack: RabbitMQ, Keystone, Placement, Neutron, Nova with a fake host (half a minute)");
    let cloud = Cloud::start(Plan::default().hosts(1))?;
    println!("   Keystone {}, Nova {}", cloud.auth_url(), cloud.nova_url());
    say("a node, host1, and beside it etcd and the controller");
    let world = World::new(&cloud)?;
    let mut controller = ControllerPlan::named("control-1").queue("metadatad").make(&world)?;
    controller.start()?;
    world.node.start_daemon()?;
    say("openstack server create web");
    let server = cloud.create_server("web", HOST)?;
    world.wait_on(&server, &[HOST])?;
    let guest = world.boot(&server)?;
    world.node.wait_bound(guest.ifindex())?;
    println!("   server {server}, tap {}, namespace {}", guest.tap(), guest.namespace().name());
    curl(&guest)?;
    say(&format!("openstack server set --property role=web {server}"));
    cloud.openstack(&["server", "set", "--property", "role=web", &server])?;
    let start = Instant::now();
    wait::until("the guest reads its new property", || {
        let read = guest.get("/openstack/latest/meta_data.json")?.json()?;
        Ok((read["meta"]["role"] == "web").then_some(()))
    })?;
    println!("   the guest reads it {:.1} s after the command has ended", start.elapsed().as_secs_f64());
    if !curl(&guest)?.contains("\"role\": \"web\"") {
        bail!("the guest does not read its property");
    }
    for words in [["status"], ["list"]] {
        say(&format!("metadatad controller {}", words[0]));
        let output = controller.run(&words)?;
        print!("{}", String::from_utf8(output.stdout).context("reading the status")?);
    }
    if std::env::args().any(|word| word == "--keep") {
        say("everything stays until Enter is pressed");
        println!("   ip netns exec {} curl {META_DATA}", guest.namespace().name());
        println!(
            "   ip netns exec {} metadatad ports --config {}",
            world.node.namespace().name(),
            world.node.config().display()
        );
        println!("   metadatad controller status --config {}", controller.config().display());
        for (name, value) in cloud.environment() {
            println!("   export {name}={value}");
        }
        std::io::stdin().read_line(&mut String::new()).context("waiting for Enter")?;
    }
    say("cleaning up");
    cloud.delete_server(&server)?;
    world.wait_on(&server, &[])?;
    controller.terminate()?;
    world.node.stop_daemon()?;
    println!("   the server is gone, and its document");
    Ok(())
}

fn say(what: &str) {
    println!("\n== {what}");
}

/// Lets the guest read its metadata, and shows the first 400 letters.
fn curl(guest: &lab::Guest) -> Result<String> {
    println!("web$ curl {META_DATA}");
    let text = guest.curl(&["--fail", META_DATA])?;
    println!("   {} …", text.chars().take(400).collect::<String>());
    Ok(text)
}
