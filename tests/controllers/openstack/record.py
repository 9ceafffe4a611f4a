"""Prints what Nova and Neutron send as notifications, as lines of JSON: exchange, routing key, properties, body. The first line is `ready`.

Arguments: RabbitMQ's port. Its queues end with it.
"""
import json
import sys

from amqp import Connection

connection = Connection(f"127.0.0.1:{sys.argv[1]}", userid="guest", password="guest")
connection.connect()
channel = connection.channel()


def take(exchange, message):
    properties = {name: value for name, value in message.properties.items() if name != "application_headers"}
    body = message.body if isinstance(message.body, str) else message.body.decode()
    print(json.dumps({"exchange": exchange, "routing_key": message.delivery_info["routing_key"], "properties": properties,
                      "body": body}, default=str), flush=True)


for exchange, topics in (("nova", ["versioned_notifications", "notifications"]), ("neutron", ["notifications"])):
    # As oslo.messaging declares it.
    channel.exchange_declare(exchange, "topic", durable=False, auto_delete=False)
    queue = channel.queue_declare(exclusive=True).queue
    for topic in topics:
        channel.queue_bind(queue, exchange, f"{topic}.*")
    channel.basic_consume(queue, callback=lambda message, exchange=exchange: take(exchange, message), no_ack=True)
print("ready", flush=True)
while True:
    connection.drain_events()
