"""Makes copied databases those of one cloud. Arguments: the directory, a JSON object of ports by name, RabbitMQ's URL, hosts.

Stand-in for Neutron's agents: a row for each host, alive for long, so that ML2's own driver binds its ports.
"""
import json
import sqlite3
import sys
import uuid

directory, ports, transport, *hosts = sys.argv[1:]


def connect(name):
    return sqlite3.connect(f"{directory}/{name}.sqlite")


database = connect("keystone/keystone")
for ident, url in database.execute("select id, url from endpoint").fetchall():
    for name, port in json.loads(ports).items():
        url = url.replace(f"@{name}@", str(port))
    database.execute("update endpoint set url = ? where id = ?", (url, ident))
database.commit()

database = connect("nova/api")
for name in ("cell0", "cell1"):
    database.execute("update cell_mappings set database_connection = ?, transport_url = ? where name = ?",
                     (f"sqlite:///{directory}/nova/{name}.sqlite", transport if name == "cell1" else "none:///", name))
for host in hosts:
    database.execute("insert into host_mappings (created_at, cell_id, host) select datetime('now'), id, ? from cell_mappings "
                     "where name = 'cell1'", (host,))
database.commit()

database = connect("neutron/neutron")
what = {"bridge_mappings": {}, "tunnel_types": ["vxlan"], "tunneling_ip": "127.0.0.1", "datapath_type": "system",
        "ovs_capabilities": {}, "integration_bridge": "br-int", "vhostuser_socket_dir": "/run"}
for host in hosts:
    database.execute("insert or ignore into agents (id, agent_type, binary, topic, host, admin_state_up, created_at, started_at, "
                     "heartbeat_timestamp, configurations, load) values (?, 'Open vSwitch agent', 'neutron-openvswitch-agent', "
                     "'N/A', ?, 1, datetime('now'), datetime('now'), datetime('now'), ?, 0)",
                     (str(uuid.uuid4()), host, json.dumps(what)))
database.commit()
