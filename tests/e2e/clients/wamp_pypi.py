"""The PyPI package autobahn, in the lines of JSON that README.md describes."""

import asyncio
import json
import sys

from autobahn.asyncio.wamp import ApplicationRunner, ApplicationSession
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import EventDetails, PublishOptions, SubscribeOptions


def say(*words):
    print(json.dumps(words), flush=True)


def shown(value):
    """Bytes as a word that says so, for JSON has none."""
    return {"bytes": value.hex()} if isinstance(value, bytes) else value


def meant(value):
    return bytes.fromhex(value["bytes"]) if isinstance(value, dict) and "bytes" in value else value


class Session(ApplicationSession):
    subscriptions = {}

    async def onJoin(self, details):
        say("joined", details.session, details.realm, details.serializer)
        # Kept here: the loop and the pipe know it, and with it this task, by weak references only, so that a collection of
        # garbage would end it in the middle of its wait.
        reader = self.orders = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            order, *words = json.loads(line)
            try:
                await getattr(self, f"order_{order}")(*words)
            except ApplicationError as error:
                say("error", error.error, list(error.args))

    async def order_subscribe(self, topic, options):
        def hear(*args, details: EventDetails, **kwargs):
            say("event", topic, [shown(arg) for arg in args], kwargs, details.publication)

        asked = SubscribeOptions(details=True, **options)
        self.subscriptions[topic] = await self.subscribe(hear, topic, asked)
        say("subscribed", topic, self.subscriptions[topic].id)

    async def order_unsubscribe(self, topic):
        await self.subscriptions[topic].unsubscribe()
        say("unsubscribed", topic)

    async def order_publish(self, topic, args, kwargs, options):
        asked = PublishOptions(**options)
        said = self.publish(topic, *(meant(arg) for arg in args), options=asked, **kwargs)
        if options.get("acknowledge"):
            say("published", (await said).id)

    async def order_call(self, procedure):
        say("result", await self.call(procedure))

    async def order_register(self, procedure):
        await self.register(lambda: 0, procedure)

    async def order_leave(self):
        self.leave("wamp.close.normal", "enough")

    def onLeave(self, details):
        say("left", details.reason, details.message)
        self.disconnect()

    def onDisconnect(self):
        asyncio.get_running_loop().stop()


url, realm = sys.argv[1:]
ApplicationRunner(url, realm).run(Session)
