"""Runs Neutron's own metadata agent without a Neutron server.

usage: agent.py PORTS_JSON [the agent's own options]
All of the agent is real: configuration, socket, look-up, signature, forwarding. Two things that it asks of a server over a
message bus are not: which port has an address (answered from the file), and its own reports of being alive (dropped). So
every request here is spared a round trip to a message bus and a server, in the agent's favour.
"""

import json
import sys

from neutron.agent import rpc
from neutron.agent.common import base_agent_rpc
from neutron.cmd.agents import metadata

with open(sys.argv.pop(1), encoding="utf-8") as file:
    PORTS = json.load(file)


def get_ports(_self, _context, filters):
    networks = filters.get("network_id", [])
    addresses = filters.get("fixed_ips", {}).get("ip_address", [])
    return [port for port in PORTS if port["network_id"] in networks and port["ip_address"] in addresses]


base_agent_rpc.BasePluginApi.get_ports = get_ports
rpc.PluginReportStateAPI.report_state = lambda *_args, **_kwargs: None
sys.argv[0] = "neutron-metadata-agent"
sys.exit(metadata.main())
