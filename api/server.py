"""The server: uvicorn, which ends the streams first when it is asked to stop."""

import asyncio
import socket

import uvicorn

from api.app import create_app
from api.connections import ConnectionConfig, SampledErrors, find_room
from api.middleware.security import SecurityHeaders
from shared.settings import Settings

GRACE_S = 10


class Server(uvicorn.Server):
    """Serves the API of ``settings``; requests that run at a stop have ten seconds to end."""

    def __init__(self, settings: Settings) -> None:
        self._api = create_app(settings)
        config = ConnectionConfig(
            SecurityHeaders(self._api),
            room=find_room(settings),
            host=settings.api_host,
            port=settings.api_port,
            log_config=None,
            access_log=False,
            lifespan="on",
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=settings.trusted_proxies,
            timeout_graceful_shutdown=GRACE_S,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts as uvicorn does, with errors of accepting connections sampled."""
        asyncio.get_running_loop().set_exception_handler(SampledErrors())
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the streams, which last as long as their sweeps, then stops as uvicorn does."""
        self._api.state.hub.close()
        await super().shutdown(sockets)
