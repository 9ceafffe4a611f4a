//! One run of a guest over IPv4, which several tests judge: it boots, gets one more interface while it runs, and its disk
//! boots again as another instance.
//!
//! Promises: what a step left is kept also when a later one fails.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::Result;
use lab::dhcp::Dhcp;
use lab::document::base64;
use lab::{Document, MachinePlan, wait};
use serde_json::json;

use super::crawl::asked;
use super::world::{self, ED25519, RSA, gzip, nic, node, port, vendor_data};
use super::{OTHER_UUID, UUID};
use crate::run::{Slot, fail_once};

/// What the first boot left.
pub(super) struct First {
    pub(super) console: String,
    /// The requests that were answered.
    pub(super) requests: Vec<String>,
    /// A file of the document's, and what the guest has of it.
    pub(super) large: String,
    pub(super) received: String,
    /// What ethtool shows of its first tap.
    pub(super) features: String,
}

/// What plugging in left.
pub(super) struct Plugged {
    /// What the guest read through the new interface, over each family.
    pub(super) answers: Vec<String>,
    pub(super) requests: Vec<String>,
}

/// What the boot as another instance left.
pub(super) struct Again {
    pub(super) console: String,
    pub(super) requests: Vec<String>,
    /// Packets that the gateway got, in all of the run.
    pub(super) strays: u64,
}

/// What each step left.
#[derive(Default)]
pub(super) struct Run {
    pub(super) first: Option<First>,
    pub(super) plugged: Option<Plugged>,
    pub(super) again: Option<Again>,
    /// Why there is no more: the cause, and all that is known of it.
    error: Option<(String, String)>,
}

impl Run {
    /// Fails because a step did not come to its end, in one test for all.
    #[track_caller]
    pub(super) fn cut_short(&self) {
        let (cause, details) = self.error.clone().unwrap_or_default();
        fail_once(format!("the run over IPv4 ended early: {cause}"), &details);
    }
}

pub(super) static RUN: LazyLock<Run> = LazyLock::new(|| {
    let _slot = Slot::take();
    let thread = std::thread::spawn(|| {
        let mut run = Run::default();
        if let Err(error) = steps(&mut run) {
            run.error = Some((error.root_cause().to_string(), format!("{error:#}")));
        }
        run
    });
    let panicked = || Run { error: Some(("it panicked".to_owned(), String::new())), ..Run::default() };
    thread.join().unwrap_or_else(|_| panicked())
});

fn steps(run: &mut Run) -> Result<()> {
    let vendor = vendor_data("#cloud-config\nbootcmd:\n- mkdir -p /var/proofs\n- echo present >/var/proofs/vendor\n");
    let node = node(&format!("[cloud]\nvendordata_jsonfile_path = \"{}\"\n", vendor.path().display()));
    let (first, second, third) = (nic(1), nic(2), nic(3));
    let dhcp = Dhcp::start(&node, "br0", "10.77.1", &[(first.mac, "10.77.1.5"), (third.mac, "10.77.1.6")])?;
    let index = first.make(node.namespace(), "br0")?;
    second.make(node.namespace(), "br0")?;
    let large = world::incompressible();
    let network = json!({"subnets": [
        {"cidr": "10.77.2.0/24", "enable_dhcp": false,
            "host_routes": [{"destination": "10.88.0.0/16", "nexthop": "10.77.2.254"}]},
        {"cidr": "2001:db8:77::/64", "enable_dhcp": false},
    ]});
    let mut ports =
        vec![port(&first, &["10.77.1.5"], json!({})), port(&second, &["10.77.2.5", "2001:db8:77::5"], network)];
    let document = Document::new(UUID, "real", json!({}))
        .with("ports", json!(ports))
        .with("metadata", json!({"role": "database"}))
        .with("keypairs", json!([{"name": "k", "public_key": ED25519}]))
        .with_user_data(user_data(&large).as_bytes());
    node.write(&document)?;
    node.wait_bound(index)?;

    let plan = MachinePlan::new(node.namespace(), UUID).nic(&first).nic(&second);
    let mut machine = plan.power_on()?;
    let finished = machine.wait_console("finished at")?;
    machine.wait_console("proof done")?;
    println!("IPv4: cloud-init done {:.1} s after power-on", finished.as_secs_f64());
    run.first = Some(First {
        console: machine.console(),
        requests: asked(&node),
        received: machine.shell("base64 -w 0 /var/large")?,
        large,
        features: world::features(&node, &first),
    });

    ports.push(port(&third, &["10.77.1.6"], json!({})));
    let index = third.make(node.namespace(), "br0")?;
    node.wait_held(index)?;
    machine.plug(&third)?;
    node.write(&document.clone().with("ports", json!(ports)))?;
    node.wait_bound(index)?;
    machine.shell(world::SEE_ETH2)?;
    let before = asked(&node).len();
    let urls = ["http://169.254.169.254", "http://[fe80::a9fe:a9fe%eth2]"];
    let answers =
        urls.iter().map(|url| machine.shell(&world::read_by_large_request(url))).collect::<Result<Vec<String>>>()?;
    run.plugged = Some(Plugged { answers, requests: asked(&node).split_off(before) });

    let disk = machine.power_off()?;
    node.remove_document(UUID)?;
    let document = document.with("uuid", OTHER_UUID).with("hostname", "other").with("ports", json!(ports));
    // Its document is there three seconds after the guest has asked: a time for which the service makes it wait.
    let before = asked(&node).len();
    let waited = || anyhow::Ok(node.status()?["http"]["waited"].as_u64().unwrap_or_default());
    let had_waited = waited()?;
    let plan = MachinePlan::new(node.namespace(), OTHER_UUID).nic(&first).nic(&second).nic(&third);
    let mut machine = plan.power_on_with(disk)?;
    let first_asked = || Ok((waited()? > had_waited).then(Instant::now));
    let first_asked = machine.wait_until("the guest asks", first_asked)?;
    let late = Duration::from_secs(3);
    wait::until("the document is late", || Ok((first_asked.elapsed() >= late).then_some(())))?;
    node.write(&document.with("keypairs", json!([{"name": "k2", "public_key": RSA}])))?;
    let finished = machine.wait_console("finished at")?;
    machine.wait_console("proof done")?;
    println!("IPv4, another instance: cloud-init done {:.1} s after power-on", finished.as_secs_f64());
    let (console, requests) = (machine.console(), asked(&node).split_off(before));
    let strays = dhcp.strays()?;
    // A count that stays 0 whatever is sent would prove nothing.
    machine.shell(world::SEND_ELSEWHERE)?;
    wait::until("the gateway gets what is sent to it", || Ok((dhcp.strays()? == strays + 1).then_some(())))?;
    run.again = Some(Again { console, requests, strays });
    Ok(())
}

/// User data of every kind: a script, a configuration with this file, one that is a template, and one that is packed.
fn user_data(large: &str) -> String {
    let script = "#!/bin/sh\nmkdir -p /var/proofs\necho run by $(hostname) >>/var/proofs/script\n";
    let packed = base64(&gzip(b"#!/bin/sh\necho unpacked >/var/proofs/packed\n"));
    let config = format!(
        "#cloud-config\nwrite_files:\n- {{path: /var/large, encoding: b64, content: {large}}}\n\
         - {{path: /var/proofs/config, content: written}}\n"
    );
    let template =
        "## template: jinja\n#cloud-config\nruncmd:\n- echo {{ ds.meta_data.meta.role }} >/var/proofs/meta\n";
    format!(
        "Content-Type: multipart/mixed; boundary=\"=\"\nMIME-Version: 1.0\n\n--=\nContent-Type: text/x-shellscript\n\n\
         {script}\n--=\nContent-Type: text/cloud-config\n\n{config}\n--=\nContent-Type: text/jinja2\n\n{template}\n--=\n\
         Content-Type: application/gzip\nContent-Transfer-Encoding: base64\n\n{packed}\n--=--\n"
    )
}
