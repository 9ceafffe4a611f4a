"""Asks for the instance's id with PyPI's ec2-metadata, and prints the id or the exception as JSON."""

import json
import sys

from ec2_metadata import ec2_metadata

try:
    told = {"instance_id": ec2_metadata.instance_id}
except Exception as exception:  # whichever it is: its words are what is looked at
    told = {"error": str(exception)}
json.dump(told, sys.stdout)
