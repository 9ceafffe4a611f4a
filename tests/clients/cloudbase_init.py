"""Lets cloudbase-init's HTTP service read everything it can, and prints it as JSON. Its log goes to stderr.

    cloudbase_init.py URL PASSWORD

PASSWORD is posted as the encrypted password.
"""

import base64
import json
import logging
import sys

from cloudbaseinit import conf
from cloudbaseinit.metadata.services import base, httpservice

logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, force=True)
conf.CONF([], project="cloudbase-init", default_config_files=[])
conf.CONF.set_override("metadata_base_url", sys.argv[1], group="openstack")
# The route that this would look for is in Windows' routing table.
conf.CONF.set_override("add_metadata_private_ip_route", False, group="openstack")

service = httpservice.HttpService()
read = {"loaded": service.load()}
try:
    user_data = base64.b64encode(service.get_user_data()).decode()
    decoded = service.get_decoded_user_data().decode()
except base.NotExistingMetadataException:
    user_data = decoded = None
network = service.get_network_details_v2()
read.update(
    instance_id=service.get_instance_id(),
    host_name=service.get_host_name(),
    public_keys=service.get_public_keys(),
    certificates=service.get_client_auth_certs(),
    user_data=user_data,
    decoded_user_data=decoded,
    links=[[link.mac_address, link.mtu] for link in network.links],
    networks=[[net.address_cidr, net.dns_nameservers] for net in network.networks],
    can_post_password=service.can_post_password,
    password_was_set=service.is_password_set,
    posted=service.post_password(sys.argv[2]),
    password_is_set=service.is_password_set,
)
json.dump(read, sys.stdout)
