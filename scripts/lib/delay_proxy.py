#!/usr/bin/env python3
"""A TCP proxy that delays: delay_proxy.py PORT[-PORT] TARGET MILLISECONDS

TARGET is the path of a unix socket, HOST:PORT, or a HOST on which each port is that of the proxy (as FTP needs it, whose
server names the ports of its transfers).

Every byte arrives half the milliseconds after it was sent, in each direction, so that a round trip takes all of them. The
bandwidth is not limited; what is under way is (64 MiB a direction), as it would be on a long fat wire. Making a connection
takes no time.
"""
import queue
import select
import socket
import sys
import threading
import time

PIECE = 256 << 10
MOST_PIECES = 256


def receive(source, pieces, delay):
    try:
        while True:
            data = source.recv(PIECE)
            pieces.put((time.monotonic() + delay, data))
            if not data:
                return
    except OSError:
        pieces.put((0, b""))


def send(target, pieces):
    try:
        while True:
            due, data = pieces.get()
            pause = due - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            if not data:
                target.shutdown(socket.SHUT_WR)
                return
            target.sendall(data)
    except OSError:
        target.close()


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
    for source, sink in ((client, server), (server, client)):
        pieces = queue.Queue(MOST_PIECES)
        threading.Thread(target=receive, args=(source, pieces, delay), daemon=True).start()
        threading.Thread(target=send, args=(sink, pieces), daemon=True).start()


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
