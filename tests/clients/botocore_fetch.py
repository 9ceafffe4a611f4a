"""Lets botocore's own readers of metadata ask for a role's credentials and for the region; prints both as JSON."""

import json
import logging
import sys

from botocore.utils import InstanceMetadataFetcher, InstanceMetadataRegionFetcher

logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, force=True)
fetched = {
    "credentials": InstanceMetadataFetcher(timeout=5, num_attempts=2).retrieve_iam_role_credentials(),
    "region": InstanceMetadataRegionFetcher(timeout=5, num_attempts=2).retrieve_region(),
}
json.dump(fetched, sys.stdout)
