#!/usr/bin/env python3
"""A TCP proxy that delays: delay_proxy.py PORT[-PORT] TARGET MILLISECONDS

TARGET is the path of a unix socket, HOST:PORT, or a HOST on which each port is that of the proxy (as FTP needs it, whose
server names the ports of its transfers).

Every byte arrives half the milliseconds after it was sent, in each direction, so that a round trip takes all of them. The
bandwidth is not limited; what is under way is (64 MiB a direction), as it would be on a long fat wire. Making a connection
takes no time.
"""
import contextlib
import queue
import select
import socket
import sys
import threading
import time

PIECE = 256 << 10
MOST_PIECES = 256


class Way:
    """One direction. When its end cannot take more, its source must hear of it, or it would go on sending for ever."""

    def __init__(self, source, target, delay):
        self.source, self.target, self.delay = source, target, delay
        self.pieces = queue.Queue(MOST_PIECES)
        self.is_broken = False
        for work in (self.receive, self.send):
            threading.Thread(target=work, daemon=True).start()

    def receive(self):
        data = None
        while data != b"":
            try:
                data = b"" if self.is_broken else self.source.recv(PIECE)
            except OSError:
                data = b""
            self.pieces.put((time.monotonic() + self.delay, data))

    def send(self):
        data = None
        while data != b"":
            due, data = self.pieces.get()
            pause = due - time.monotonic()
            if pause > 0 and not self.is_broken:
                time.sleep(pause)
            if self.is_broken:
                continue  # Until the receiver, which may wait for room, has seen it.
            try:
                if data:
                    self.target.sendall(data)
                else:
                    self.target.shutdown(socket.SHUT_WR)
            except OSError:
                self.is_broken = True
                with contextlib.suppress(OSError):
                    self.source.shutdown(socket.SHUT_RDWR)


def connect(target, port):
    if target.startswith("/"):
        server = socket.socket(socket.AF_UNIX)
        server.connect(target)
        return server
    host, _, own = target.partition(":")
    server = socket.create_connection((host, int(own or port)))
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server


def serve(client, target, port, delay):
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        server = connect(target, port)
    except OSError:
        client.close()
        return
    Way(client, server, delay)
    Way(server, client, delay)


def main():
    first, _, last = sys.argv[1].partition("-")
    target, delay = sys.argv[2], float(sys.argv[3]) / 2000
    listeners = [socket.create_server(("127.0.0.1", port)) for port in range(int(first), int(last or first) + 1)]
    print("ready", flush=True)
    while True:
        for listener in select.select(listeners, [], [])[0]:
            client, (_, _) = listener.accept()
            serve(client, target, listener.getsockname()[1], delay)


main()
