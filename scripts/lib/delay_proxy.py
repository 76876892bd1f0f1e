#!/usr/bin/env python3
"""A TCP proxy to a unix socket that delays: delay_proxy.py PORT SOCKET MILLISECONDS

Every byte arrives half the milliseconds after it was sent, in each direction, so that a round trip takes all of them. The
bandwidth is not limited; what is under way is (64 MiB a direction), as it would be on a long fat wire.
"""
import queue
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


def main():
    port, path, delay = int(sys.argv[1]), sys.argv[2], float(sys.argv[3]) / 2000
    listener = socket.create_server(("127.0.0.1", port))
    print("ready", flush=True)
    while True:
        client, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = socket.socket(socket.AF_UNIX)
        server.connect(path)
        for source, target in ((client, server), (server, client)):
            pieces = queue.Queue(MOST_PIECES)
            threading.Thread(target=receive, args=(source, pieces, delay), daemon=True).start()
            threading.Thread(target=send, args=(target, pieces), daemon=True).start()


main()
