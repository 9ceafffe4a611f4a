//! From Nova's network info to the document's ports.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::list;

/// Returns the document's ports.
///
/// An instance without any gets one that guests do not see: a document needs a port to identify the guest.
pub(super) fn documents(facts: &Value) -> Value {
    let vifs = list(&facts["network_info"]);
    if vifs.is_empty() {
        return json!([unlisted(facts)]);
    }
    vifs.iter().map(|vif| document(vif, facts)).collect()
}

/// Returns a port made up for an instance without network interfaces: Neutron's id if there is one, else the
/// instance's own.
fn unlisted(facts: &Value) -> Value {
    let uuid = facts["instance"]["uuid"].as_str().unwrap_or_default();
    let id = facts["neutron_ports"][0]["id"].as_str().unwrap_or(uuid);
    let digits: String = uuid.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    let octets: Vec<&str> = (0..4).filter_map(|index| digits.get(index * 2..index * 2 + 2)).collect();
    json!({"id": id, "mac_address": format!("02:00:{}", octets.join(":")), "listed": false})
}

/// As Nova has it: the first IPv4 address of all, else the address that the request came from.
pub(super) fn local_ipv4(facts: &Value) -> Value {
    let subnets = list(&facts["network_info"]).iter().flat_map(|vif| list(&vif["network"]["subnets"]));
    let addresses = subnets.flat_map(|subnet| list(&subnet["ips"])).map(|ip| &ip["address"]);
    let first = addresses.filter_map(Value::as_str).find(|address| is_ipv4(address));
    first.map_or_else(|| facts["request"]["x_forwarded_for"].clone(), |address| json!(address))
}

fn is_ipv4(address: &str) -> bool {
    address.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4())
}

fn document(vif: &Value, facts: &Value) -> Value {
    let network = &vif["network"];
    let subnets = list(&network["subnets"]);
    let needs_ids = !finds_itself(subnets);
    let subnet_id = |index: usize| needs_ids.then(|| json!(format!("subnet{index}")));
    let mut fixed_ips = Vec::new();
    for (index, subnet) in subnets.iter().enumerate() {
        for ip in list(&subnet["ips"]) {
            let floating: Vec<&Value> = list(&ip["floating_ips"]).iter().map(|ip| &ip["address"]).collect();
            let mut fixed = json!({"ip_address": ip["address"], "floating_ips": floating});
            if let Some(id) = subnet_id(index) {
                fixed["subnet_id"] = id;
            }
            fixed_ips.push(fixed);
        }
    }
    let subnet_documents: Vec<Value> = subnets
        .iter()
        .enumerate()
        .map(|(index, facts)| {
            let mut document = subnet(facts);
            if let Some(id) = subnet_id(index) {
                document["id"] = id;
            }
            document
        })
        .collect();
    let mut network_document = Map::new();
    if network["id"].is_string() {
        network_document.insert("id".to_owned(), network["id"].clone());
    }
    network_document.insert("mtu".to_owned(), network["meta"]["mtu"].clone());
    network_document.insert("injected".to_owned(), json!(is_true(&network["meta"]["injected"])));
    network_document.insert("subnets".to_owned(), json!(subnet_documents));
    let devname = vif["devname"].as_str().filter(|name| !name.is_empty());
    json!({
        "id": vif["id"],
        "mac_address": vif["address"],
        "devname": devname,
        "vif_type": vif["type"].as_str().unwrap_or("unbound"),
        "security_groups": security_groups(&vif["id"], facts),
        "fixed_ips": fixed_ips,
        "network": network_document,
    })
}

/// Tells whether every address lies in its own subnet and in none before it, so that documents need not name it.
fn finds_itself(subnets: &[Value]) -> bool {
    let holds = |subnet: &Value, address: IpAddr| {
        let cidr = subnet["cidr"].as_str().and_then(|cidr| cidr.parse::<IpNet>().ok());
        cidr.is_some_and(|cidr| cidr.contains(&address))
    };
    subnets.iter().enumerate().all(|(index, subnet)| {
        let addresses = list(&subnet["ips"]).iter().filter_map(|ip| ip["address"].as_str()?.parse().ok());
        addresses.into_iter().all(|address| subnets.iter().position(|subnet| holds(subnet, address)) == Some(index))
    })
}

fn subnet(facts: &Value) -> Value {
    let addresses = |facts: &Value| -> Vec<Value> {
        list(facts).iter().map(|entry| entry["address"].clone()).filter(Value::is_string).collect()
    };
    let routes: Vec<Value> = list(&facts["routes"])
        .iter()
        .map(|route| json!({"destination": route["cidr"], "nexthop": route["gateway"]["address"]}))
        .collect();
    let meta = &facts["meta"];
    json!({
        "cidr": facts["cidr"],
        "gateway_ip": facts["gateway"]["address"],
        "dns_nameservers": addresses(&facts["dns"]),
        "host_routes": routes,
        "enable_dhcp": is_true(&meta["enable_dhcp"]),
        "dhcp_server": meta["dhcp_server"],
        "ipv6_address_mode": meta["ipv6_address_mode"],
    })
}

fn is_true(value: &Value) -> bool {
    value.as_bool().unwrap_or(false)
}

/// The names of a port's groups, for readers of the document; the EC2 tree uses the instance's list.
fn security_groups(port: &Value, facts: &Value) -> Value {
    let groups = list(&facts["neutron_security_groups"]);
    let port = list(&facts["neutron_ports"]).iter().find(|entry| entry["id"] == *port);
    let ids = port.map_or(&[][..], |port| list(&port["security_groups"]));
    let named = ids.iter().filter_map(|id| groups.iter().find(|group| group["id"] == *id));
    named.map(|group| group["name"].clone()).filter(Value::is_string).collect()
}
