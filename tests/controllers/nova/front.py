"""A stand-in for what may be between metadatad and Nova: passes connections on, late, and with TLS if asked for.

usage: front.py PORT_FILE NOVA_PORT DELAY_FILE [CERT KEY CLIENT_CA]
Each connection is passed on after as many seconds as DELAY_FILE says then. Nova's server closes one after each answer, so
that is each request. With the three files, clients must speak TLS and show a certificate of CLIENT_CA.
"""

import asyncio
import os
import ssl
import sys


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (OSError, ssl.SSLError):
        pass
    writer.close()


async def passed_on(reader, writer):
    with open(sys.argv[3], encoding="ascii") as file:
        await asyncio.sleep(float(file.read()))
    try:
        nova_reader, nova_writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    except OSError:
        writer.close()
        return
    # Nova's end of a connection ends the guest's; the other way round it would cut an answer off.
    sending = asyncio.ensure_future(pump(reader, nova_writer))
    await pump(nova_reader, writer)
    sending.cancel()
    nova_writer.close()


async def main():
    context = None
    if len(sys.argv) > 4:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[4], sys.argv[5])
        context.load_verify_locations(sys.argv[6])
        context.verify_mode = ssl.CERT_REQUIRED
    server = await asyncio.start_server(passed_on, "127.0.0.1", 0, ssl=context, backlog=512)
    with open(sys.argv[1] + ".new", "w", encoding="ascii") as file:
        file.write(str(server.sockets[0].getsockname()[1]))
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    await server.serve_forever()


asyncio.run(main())
