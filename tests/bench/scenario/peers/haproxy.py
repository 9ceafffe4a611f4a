"""Writes a network's haproxy configuration with Neutron's own code and template, and prints its path.

usage: haproxy.py AGENT_INI NETWORK_ID ADDRESS PORT
"""

import sys

from neutron.agent.metadata import driver
from neutron.common import config as common
from neutron.conf.agent.metadata import config
from oslo_config import cfg

file, network, address, port = sys.argv[1:]
common.register_common_config_options()
for options in (config.SHARED_OPTS, config.UNIX_DOMAIN_METADATA_PROXY_OPTS, config.METADATA_PROXY_HANDLER_OPTS):
    config.register_meta_conf_opts(options)
config.register_meta_conf_opts(config.METADATA_RATE_LIMITING_OPTS, group=config.RATE_LIMITING_GROUP)
config.register_meta_conf_opts(config.METADATA_HAPROXY_OPTS, group=config.HAPROXY_GROUP)
cfg.CONF(["--config-file", file], project="neutron")
proxy = driver.MetadataDriver._get_haproxy_configurator(
    address, int(port), cfg.CONF, network_id=network, pid_file=cfg.CONF.state_path + "/haproxy.pid"
)
proxy.create_config_file()
print(proxy.cfg_path)
