"""nginx as the HTTP service: JSON documents as files, named by decoded path."""

import json
import os
import signal

from .base import Daemon, answers, free_port, on_cleanup, program, tempdir

HTTP = """\
daemon off;
worker_processes 1;
user nobody nogroup;
pid {dir}/pid;
error_log {dir}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    access_log {dir}/access.log;
    client_body_temp_path {dir}/t1;
    proxy_temp_path {dir}/t2;
    fastcgi_temp_path {dir}/t3;
    uwsgi_temp_path {dir}/t4;
    scgi_temp_path {dir}/t5;
    large_client_header_buffers 4 64k;
    keepalive_requests 1000000;
    default_type application/json;
    types {{ }}
"""

SERVER = """\
    server {{
        listen {host}:{port};
        root {dir}/www;
        index index.json;
        if (-f {dir}/down) {{ return 503; }}
        {more}
        location ~ "^/[a-z]+/long-" {{ return 200 '"found"'; }}
        location / {{ }}
    }}
"""


class Nginx:
    """A private nginx. documents: {path: value}; a path that ends in / is a listing.

    server: the text of a server block that listens on `port`, in place of the documents' own; more:
    what is added to the latter, with {dir} replaced."""

    def __init__(self, case, documents=None, *, server=None, more="", port=None, host="127.0.0.1"):
        self.dir, self.port, self.host = tempdir(case), port or free_port(), host
        os.mkdir(os.path.join(self.dir, "www"))
        for path, value in (documents or {}).items():
            self.put(path, value)
        self.conf = os.path.join(self.dir, "nginx.conf")
        with open(self.conf, "w", encoding="utf-8") as file:
            server = server or SERVER.format(dir=self.dir, host=self.host, port=self.port,
                                             more=more.replace("{dir}", self.dir))
            file.write(HTTP.format(dir=self.dir) + server + "}\n")
        self.daemon = None
        self.start()
        on_cleanup(case, self.stop)

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    def put(self, path, value):
        """Makes GET path answer this JSON value."""
        name = os.path.join(self.dir, "www", path.lstrip("/"))
        if path.endswith("/"):
            name += "index.json"
        os.makedirs(os.path.dirname(name), exist_ok=True)
        with open(name, "w", encoding="utf-8") as file:
            json.dump(value, file)

    def down(self, yes):
        """From now on 503 to everything, or the documents again."""
        flag = os.path.join(self.dir, "down")
        if yes:
            with open(flag, "w", encoding="ascii"):
                pass
        else:
            os.unlink(flag)

    def start(self):
        argv = [program("nginx", "nginx"), "-p", self.dir, "-c", self.conf, "-e",
                os.path.join(self.dir, "error.log")]
        self.daemon = Daemon(argv, os.path.join(self.dir, "out"))
        self.daemon.wait_ready(lambda: answers((self.host, self.port)))

    def stop(self):
        """Nobody listens on its port afterwards."""
        if self.daemon and self.daemon.running():
            self.signal(signal.SIGCONT)
            self.daemon.end(signal.SIGTERM)

    def signal(self, number):
        """To the master first, which would start other workers, and to its workers."""
        with open(f"/proc/{self.daemon.pid}/task/{self.daemon.pid}/children", encoding="ascii") as file:
            workers = [int(word) for word in file.read().split()]
        self.daemon.kill(number)
        for pid in workers:
            os.kill(pid, number)

    def kill(self):
        """As by a power cut."""
        self.signal(signal.SIGKILL)
        self.daemon.end(signal.SIGKILL)

    def freeze(self):
        """From now on the kernel takes connections and requests, and nobody answers."""
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)
