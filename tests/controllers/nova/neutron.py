"""A stand-in for Neutron: what Nova and a controller read of an instance's ports, answered from memory.

usage: neutron.py PORT_FILE facts.json...
Writes the port that it listens on into PORT_FILE. Facts are as tests/golden has them: of a port, its security groups; everything else
is as the instance's network info says.
"""

import http.server
import json
import os
import sys
import urllib.parse


def port(facts, given):
    vif = next((vif for vif in facts["network_info"] if vif["id"] == given["id"]), None)
    if vif is None:
        return given
    ips = [ip for subnet in vif["network"]["subnets"] for ip in subnet["ips"]]
    whole = {
        "device_owner": "compute:nova",
        "mac_address": vif["address"],
        "network_id": vif["network"]["id"],
        "fixed_ips": [{"ip_address": ip["address"]} for ip in ips],
        "allowed_address_pairs": [],
        "port_security_enabled": True,
        "binding:host_id": facts.get("host", "node"),
        "binding:vnic_type": vif["vnic_type"],
        "binding:vif_type": vif["type"],
    }
    return {**whole, **given}


def floating(facts):
    vifs = ((vif["id"], subnet) for vif in facts["network_info"] for subnet in vif["network"]["subnets"])
    ips = ((port, ip) for port, subnet in vifs for ip in subnet["ips"])
    return [{"port_id": port, "floating_ip_address": found["address"]} for port, ip in ips for found in ip["floating_ips"]]


def load(names):
    ports, groups, floating_ips = [], {}, []
    for name in names:
        with open(name, encoding="utf-8") as file:
            facts = json.load(file)
        ports += [port(facts, given) for given in facts["neutron_ports"]]
        groups.update({group["id"]: group for group in facts["neutron_security_groups"]})
        floating_ips += floating(facts)
    return ports, groups, floating_ips


class Neutron(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ports, groups, floating_ips = load(sys.argv[2:])

    def log_message(self, *_):
        pass

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        if url.path.startswith("/v2.0/ports"):
            wanted = query.get("device_id", [])
            answer = {"ports": [port for port in self.ports if port["device_id"] in wanted]}
        elif url.path.startswith("/v2.0/floatingips"):
            wanted = query.get("port_id", [])
            answer = {"floatingips": [found for found in self.floating_ips if found["port_id"] in wanted]}
        else:
            found = [self.groups[group] for group in query.get("id", []) if group in self.groups]
            answer = {"security_groups": found}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Neutron)
with open(sys.argv[1] + ".new", "w", encoding="ascii") as file:
    file.write(str(server.server_port))
os.rename(sys.argv[1] + ".new", sys.argv[1])
server.serve_forever()
