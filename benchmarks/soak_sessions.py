"""The sessions of the soak: carrying out a plan with a blocking session, or an async one."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import anyio

from benchmarks.messages import API_KEY, CONFIG_FIELDS
from benchmarks.soak_account import Account, Ending, Plan
from soniox_adapters import (
    AsyncRealtimeSTTSession,
    Endpoint,
    RealtimeSTTConfig,
    RealtimeSTTSession,
    SonioxError,
    SonioxTimeoutError,
)

__all__ = ["carry_out_async", "carry_out_blocking"]

_OPTIONS: dict[str, Any] = {
    "connect_timeout_sec": 8.0,
    "close_timeout_sec": 2.0,
    "keepalive_interval_sec": 1.0,
    "ping_interval_sec": 1.0,
    "ping_timeout_sec": 8.0,
}
"""All deadlines, but shorter than usual, so that each is reached within a minute."""

_PAUSED_CHUNKS = 2


class _LeftError(Exception):
    """Leaves a session's context in the middle."""


def _config(plan: Plan) -> RealtimeSTTConfig:
    return RealtimeSTTConfig(**CONFIG_FIELDS, client_reference_id=str(plan.number))


def carry_out_blocking(account: Account, url: str) -> None:
    """Carry out the account's plan with a blocking session, and record what happens."""
    plan = account.plan
    session = RealtimeSTTSession(
        url, _config(plan), API_KEY, transport=account.injector.connect, **_OPTIONS
    )
    sender = threading.Thread(target=_send, args=(account, session), name="soak-sender")
    try:
        with session:
            sender.start()
            if plan.ending is Ending.LEAVE:
                _receive_for_a_while(account, session)
            for event in session.receive_events():
                account.take(event)
            account.receiver_ended = True
    except _LeftError:
        pass
    except BaseException as error:
        account.receiver_error = error
    finally:
        if sender.ident is not None:
            sender.join()
        account.outcome = session.outcome
        account.stats = session.stats


def _receive_for_a_while(account: Account, session: RealtimeSTTSession) -> None:
    end = time.monotonic() + account.plan.interval * account.plan.end_after
    while True:
        try:
            event = session.receive_event(timeout=max(0.0, end - time.monotonic()))
        except SonioxTimeoutError as error:
            if error.operation != "receive":
                raise
            raise _LeftError from None
        if event is None:
            return
        account.take(event)


def _send(account: Account, session: RealtimeSTTSession) -> None:
    plan = account.plan
    try:
        for number, size in enumerate(plan.chunks):
            if number == plan.finalize_at:
                session.finalize()
            if number == plan.pause_at:
                session.pause()
            if number == plan.pause_at + _PAUSED_CHUNKS:
                session.resume()
            session.send_byte_chunk(bytes(size))
            account.given_bytes += size
            if number == plan.end_after and plan.ending is Ending.CLOSE:
                session.close()
                return
            if number == plan.end_after and plan.ending is Ending.ABORT:
                session.abort()
                return
            time.sleep(plan.interval)
        account.sent_all = True
        session.finish()
    except BaseException as error:
        account.sender_error = error


async def carry_out_async(account: Account, url: str) -> None:
    """Carry out the account's plan with an async session, on asyncio or trio, and record it."""
    plan = account.plan
    injector = account.injector

    async def open_socket(endpoint: Endpoint) -> socket.socket:
        # Does not block: the server is on this machine, and accepts at once.
        return injector.connect(endpoint)

    session = AsyncRealtimeSTTSession(
        url,
        _config(plan),
        API_KEY,
        transport=injector.connect_async if plan.over_stream else open_socket,
        **_OPTIONS,
    )
    try:
        with anyio.CancelScope() as scope:
            if plan.ending is Ending.LEAVE:
                scope.deadline = anyio.current_time() + plan.interval * plan.end_after
            async with session:
                await _use(account, session)
    except SonioxError as error:
        account.receiver_error = account.receiver_error or error
    except Exception as error:
        account.receiver_error = error
    finally:
        account.outcome = session.outcome
        account.stats = session.stats


async def _use(account: Account, session: AsyncRealtimeSTTSession) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_send_async, account, session)
        try:
            async for event in session.receive_events():
                account.take(event)
            account.receiver_ended = True
        except Exception as error:
            account.receiver_error = error


async def _send_async(account: Account, session: AsyncRealtimeSTTSession) -> None:
    plan = account.plan
    try:
        for number, size in enumerate(plan.chunks):
            if number == plan.finalize_at:
                await session.finalize()
            if number == plan.pause_at:
                await session.pause()
            if number == plan.pause_at + _PAUSED_CHUNKS:
                await session.resume()
            await session.send_byte_chunk(bytes(size))
            account.given_bytes += size
            if number == plan.end_after and plan.ending is Ending.CLOSE:
                await session.close()
                return
            if number == plan.end_after and plan.ending is Ending.ABORT:
                await session.abort()
                return
            await anyio.sleep(plan.interval)
        account.sent_all = True
        await session.finish()
    except Exception as error:
        account.sender_error = error
