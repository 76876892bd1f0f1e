"""A plain FTP server for scripts/bench, without a login: ftp_server.py HOST PORT FIRST LAST FOLDER

FIRST to LAST are the ports of its transfers. Unlike proftpd it does not sleep when a connection ends, which would cost a
client that makes one for every read (QEMU's does) 0.4 s each time, and measure nothing else.
"""
import logging
import os
import sys
import types

# pyftpdlib sends by sendfile(2) only with a module that has gone into Python itself since.
sys.modules["sendfile"] = types.ModuleType("sendfile")
sys.modules["sendfile"].sendfile = os.sendfile
from pyftpdlib.authorizers import DummyAuthorizer  # noqa: E402
from pyftpdlib.handlers import FTPHandler  # noqa: E402
from pyftpdlib.servers import FTPServer  # noqa: E402

logging.disable(logging.CRITICAL)
host, port, first, last, folder = sys.argv[1:]
FTPHandler.authorizer = DummyAuthorizer()
FTPHandler.authorizer.add_anonymous(folder)
FTPHandler.passive_ports = range(int(first), int(last) + 1)
FTPServer((host, int(port)), FTPHandler).serve_forever()
