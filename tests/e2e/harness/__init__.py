"""Real servers and raw clients for the end-to-end tests. Standard library only."""

from .base import Case, free_port, program, run, tempdir, wait_until
from .backend import Backend, Reply, Store
from .mapmux import Mapmux, serve, url
from .wire import Dict, Imap, Policy, Sasl, Socketmap, Tcp

__all__ = ["Backend", "Case", "Dict", "Imap", "Mapmux", "Policy", "Reply", "Sasl", "Socketmap", "Store", "Tcp",
           "free_port", "program", "run", "serve", "tempdir", "url", "wait_until"]
