#!/usr/bin/env python3
"""Measures mapmux against the floor, a bare libcurl loop and wrk; `make bench` calls it.

Rates depend on the machine and the hour, so the figures that count are ratios taken within one
round: floor, mapmux, floor, mapmux, ... and then the median of the ratios. Everything runs on
loopback and unix sockets in a private directory that is removed at the end.
"""

import argparse
import glob
import http.client
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

KEYS = 1000
TABLE = "t"
WEB_TABLES = 200
GROUPS = ("static", "fronts", "sasl", "dict", "url", "redis", "lua", "dns", "cache", "breaker", "churn", "web", "memory")
IDLE_CONNECTIONS = 10000
MANY_KEYS = 1000000
VALUE_BYTES = 64 # of an entry of which there are many

# Requests of these name no table.
LISTENER_KEYS = {"tcp": ",table=" + TABLE, "policy": ",table=%s,key=recipient" % TABLE,
	"sasl": ",table=" + TABLE}

# What one lookup may cost through a url table, and what the floor and the bare libcurl loop cost
# on the machine on which that limit was set: it scales with them.
URL_CPU_LIMIT = 28.0
URL_CPU_REFERENCE = 3.0 + 20.0

# Only the dict service; one process, as mapmux has one worker.
DOVECOT_CONF = """
base_dir = {dir}/run
state_dir = {dir}
log_path = /dev/stderr
protocols =
ssl = no
dict {{
  {table} = file:{data}
}}
service dict-async {{
  process_limit = 1
  client_limit = 1000
  user = root
  chroot =
  unix_listener dict-async {{
    mode = 0600
  }}
}}
"""

READS = ("read", "readv", "recvfrom", "recvmsg", "recvmmsg")
WRITES = ("write", "writev", "sendto", "sendmsg", "sendmmsg")
WAITS = ("epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select")


class NotRun(Exception):
	"""A figure could not be taken; the reason is for the reader."""


class Process:
	"""A server that this run has started and ends by its own pid."""

	def __init__(self, bench, name, argv):
		self.name = name
		self.argv = argv
		self.log = os.path.join(bench.dir, "%s.%d.log" % (name, len(bench.processes)))
		with open(self.log, "wb") as log:
			self.popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log,
				stderr=log, cwd=bench.dir)
		bench.processes.append(self)

	@property
	def pid(self):
		return self.popen.pid

	def log_tail(self):
		with open(self.log, encoding="utf-8", errors="replace") as log:
			return "".join("    " + line for line in log.readlines()[-15:]).rstrip("\n")

	def fail(self, what):
		raise NotRun("%s: %s\n    command: %s\n%s"
			% (self.name, what, " ".join(self.argv), self.log_tail()))

	def wait_ready(self, address, seconds=10):
		"""Waits until the address takes connections."""
		end = time.monotonic() + seconds
		while True:
			if self.popen.poll() is not None:
				self.fail("ended with exit code %d before it listened"
					% self.popen.returncode)
			try:
				connect(address).close()
				return
			except OSError:
				if time.monotonic() > end:
					self.fail("does not listen on %s after %d s"
						% (address, seconds))
				time.sleep(0.02)

	def stop(self):
		if self.popen.poll() is not None:
			return
		self.popen.terminate()
		try:
			self.popen.wait(5)
		except subprocess.TimeoutExpired:
			self.popen.kill()
			self.popen.wait()

	def cpu_us(self):
		"""CPU time so far, of all threads."""
		try:
			with open("/proc/%d/stat" % self.pid) as f:
				fields = f.read().rpartition(")")[2].split()
		except OSError:
			self.fail("has ended")
		ticks = int(fields[11]) + int(fields[12])
		# Ticks are coarse. schedstat has nanoseconds, but not of threads that are gone.
		total = 0
		for task in glob.glob("/proc/%d/task/*/schedstat" % self.pid):
			try:
				with open(task) as f:
					total += int(f.read().split()[0])
			except OSError:
				continue
		return max(total / 1e3, (ticks - 2) * 1e6 / os.sysconf("SC_CLK_TCK"))

	def rss_bytes(self):
		try:
			with open("/proc/%d/smaps_rollup" % self.pid) as f:
				rss = re.search(r"^Rss:\s+(\d+) kB", f.read(), re.M)
				return int(rss.group(1)) * 1024
		except OSError:
			pass
		try:
			with open("/proc/%d/statm" % self.pid) as f:
				return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
		except OSError:
			self.fail("has ended")


def connect(address):
	if address.startswith("unix:"):
		s = socket.socket(socket.AF_UNIX)
		s.settimeout(5)
		try:
			s.connect(address[5:])
		except OSError:
			s.close()
			raise
		return s
	host, _, port = address.rpartition(":")
	return socket.create_connection((host, int(port)), 5)


def free_port():
	with socket.socket() as s:
		s.bind(("127.0.0.1", 0))
		return s.getsockname()[1]


def output_of(argv):
	"""First line of what a program says, for the header."""
	try:
		done = subprocess.run(argv, capture_output=True, text=True, timeout=10)
	except (OSError, subprocess.TimeoutExpired):
		return "not found"
	lines = (done.stdout or done.stderr).strip().splitlines()
	return lines[0].strip() if lines else "?"


def machine_cpu():
	"""Seconds of CPU time of the whole machine since its start: used, stolen, all."""
	with open("/proc/stat") as f:
		fields = f.readline().split()[1:9]
	ticks = [int(field) / os.sysconf("SC_CLK_TCK") for field in fields]
	user, nice, system, idle, iowait, irq, softirq, steal = ticks
	used = user + nice + system + irq + softirq
	return used, steal, used + steal + idle + iowait


def own_cpu():
	"""Seconds of CPU time of this process and of all it has started and seen end."""
	total = 0
	for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
		usage = resource.getrusage(who)
		total += usage.ru_utime + usage.ru_stime
	return total


def spread(values, digits=2):
	"""Median and range."""
	if min(values) == max(values):
		return "%.*f" % (digits, values[0])
	return "%.*f (%.*f-%.*f)" % (digits, statistics.median(values), digits, min(values),
		digits, max(values))


def print_table(title, head, rows):
	print("\n" + title)
	cells = [head] + rows
	widths = [max(len(str(row[i])) for row in cells) for i in range(len(head))]
	for n, row in enumerate(cells):
		line = "  ".join(str(cell).ljust(width) if i == 0 else str(cell).rjust(width)
			for i, (cell, width) in enumerate(zip(row, widths)))
		print("  " + line.rstrip())
		if n == 0:
			print("  " + "  ".join("-" * width for width in widths))
	sys.stdout.flush()


class Scraper:
	"""Calls a function ten times a second, in a thread."""

	def __init__(self, function):
		self.function = function
		self.over = threading.Event()
		self.thread = threading.Thread(target=self.run)

	def run(self):
		while not self.over.wait(0.1):
			self.function()

	def __enter__(self):
		self.thread.start()

	def __exit__(self, *_):
		self.over.set()
		self.thread.join()


class SlowBackend:
	"""An HTTP service that takes its time, and counts."""

	ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n\"value\""

	def __init__(self, seconds):
		self.seconds, self.requests = seconds, 0
		self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
		self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
		threading.Thread(target=self.accept, daemon=True).start()

	def accept(self):
		while True:
			try:
				connection = self.listener.accept()[0]
			except OSError:
				return
			threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

	def serve(self, connection):
		with connection:
			while connection.recv(65536):
				self.requests += 1
				time.sleep(self.seconds)
				try:
					connection.sendall(self.ANSWER)
				except OSError:
					return

	def stop(self):
		self.listener.shutdown(socket.SHUT_RDWR)
		self.listener.close()


class Bench:
	def __init__(self, args):
		self.args = args
		self.seconds = args.seconds or (0.5 if args.quick else 1.0)
		self.rounds = args.rounds or (3 if args.quick else 7)
		self.processes = []
		self.verdicts = []
		self.not_run = 0
		self.dir = tempfile.mkdtemp(prefix="mapmux-bench-")
		self.table_file = os.path.join(self.dir, "table")
		with open(self.table_file, "w") as f:
			# A dict key has a scope in front: the table knows both forms.
			for i in range(KEYS):
				f.write("k%d value\nshared/k%d value\n" % (i, i))
		self.password_file = os.path.join(self.dir, "passwords")
		with open(self.password_file, "w") as f:
			for i in range(KEYS):
				f.write("k%d {PLAIN}secret\n" % i)

	def close(self):
		for process in reversed(self.processes):
			process.stop()
		shutil.rmtree(self.dir, ignore_errors=True)

	# --- programs ---

	def tool(self, name):
		path = os.path.join(self.args.tools, name)
		if not os.access(path, os.X_OK):
			raise NotRun("%s is not built" % path)
		return path

	def socket_address(self, name):
		return "unix:%s/%s.%d" % (self.dir, name, len(self.processes))

	def start_floor(self, protocol):
		address = self.socket_address("floor")
		process = Process(self, "floor", [self.tool("floor"), protocol, address])
		process.wait_ready(address)
		return process, address

	def start_mapmux(self, protocol, table_type, param, *options, threads=1):
		if not os.access(self.args.mapmux, os.X_OK):
			raise NotRun("%s is not built" % self.args.mapmux)
		address = self.socket_address("mapmux")
		process = Process(self, "mapmux", [self.args.mapmux, "serve", "--threads", str(threads),
			"--listen", "%s:%s%s" % (protocol, address, LISTENER_KEYS.get(protocol, "")),
			"--name", TABLE, "--type", table_type, "--param", param,
			*(word for option in options for word in ("--option", option))])
		process.wait_ready(address)
		return process, address

	def start_static(self, protocol):
		if protocol == "sasl":
			return self.start_mapmux(protocol, "static", "file:" + self.password_file,
				"passwords=yes")
		return self.start_mapmux(protocol, "static", "file:" + self.table_file)

	def run_json(self, argv, server=None, seconds=None):
		"""Runs a tool that prints JSON; adds the server's CPU time per answer."""
		before = server.cpu_us() if server else 0
		try:
			done = subprocess.run(argv, capture_output=True, text=True,
				timeout=(seconds or self.seconds) + 30)
		except subprocess.TimeoutExpired:
			raise NotRun("no end 30 s after the time: %s" % " ".join(argv)) from None
		after = server.cpu_us() if server else 0
		try:
			result = json.loads(done.stdout)
		except ValueError:
			raise NotRun("exit code %d from: %s\n    %s" % (done.returncode,
				" ".join(argv), done.stderr.strip())) from None
		if result["errors"] or not result["requests"]:
			log = server.log_tail() if server else ""
			raise NotRun("unexpected answers, the figure is void: %s\n    %s\n%s"
				% (" ".join(argv), done.stdout.strip(), log))
		if server:
			result["server_cpu"] = (after - before) / result["answers"]
		return result

	def load(self, server, protocol, address, *options, seconds=None):
		seconds = seconds or self.seconds
		return self.run_json([self.tool("load"), protocol, address, "--table", TABLE,
			"--keys", str(KEYS), "--seconds", str(seconds), "--json", *options],
			server, seconds)

	# --- verdicts ---

	def judge(self, ok, text):
		self.verdicts.append(("PASS" if ok else "MISSED", text))

	def judge_ratio(self, what, values, limit, least=True):
		median = statistics.median(values)
		self.judge(median >= limit if least else median <= limit, "%s: %s, %s %.2f"
			% (what, spread(values), "at least" if least else "at most", limit))

	def attempt(self, what, function, *args):
		"""One thing that cannot run must not hide the others."""
		try:
			return function(*args)
		except NotRun as e:
			self.not_run += 1
			self.verdicts.append(("NOT RUN", "%s: %s" % (what, str(e).splitlines()[0])))
			print("\n%s did not run: %s" % (what, e), flush=True)
			return None

	# --- two servers in turn: the floor and mapmux, or two tables ---

	def compare(self, protocol, base, ours, options):
		"""Rounds of both in turn."""
		rounds = []
		for _ in range(self.rounds):
			rounds.append((self.load(base[0], protocol, base[1], *options),
				self.load(ours[0], protocol, ours[1], *options)))
		return rounds

	@staticmethod
	def compare_head(base, ours):
		return ("", base + "/s", ours + "/s", "ratio", "p99 us", ours, "ratio",
			"CPU us", ours, "load busy %", ours)

	@staticmethod
	def compare_row(name, rounds):
		def median(side, field):
			return statistics.median(r[side][field] for r in rounds)

		return (name, "%.0f" % median(0, "rate"), "%.0f" % median(1, "rate"),
			spread([m["rate"] / f["rate"] for f, m in rounds]),
			"%.0f" % median(0, "p99_us"), "%.0f" % median(1, "p99_us"),
			spread([m["p99_us"] / f["p99_us"] for f, m in rounds]),
			"%.2f" % median(0, "server_cpu"), "%.2f" % median(1, "server_cpu"),
			"%.0f" % (100 * median(0, "load_busy")),
			"%.0f" % (100 * median(1, "load_busy")))

	def to_floor(self, protocol, least):
		"""Judges a row of compare_cases() by its rate."""
		return lambda name, rounds: self.judge_ratio("%s, %s: rate to the floor's" % (protocol, name),
			[m["rate"] / f["rate"] for f, m in rounds], least)

	def compare_cases(self, title, protocol, cases):
		"""cases: (name, options, judge or None); judge gets the rounds."""
		floor = self.start_floor(protocol)
		mapmux = self.start_static(protocol)
		rows = []
		try:
			for name, options, judge in cases:
				rounds = self.attempt("%s, %s" % (title, name), self.compare,
					protocol, floor, mapmux, options)
				if not rounds:
					continue
				rows.append(self.compare_row(name, rounds))
				if judge:
					judge(name, rounds)
		finally:
			floor[0].stop()
			mapmux[0].stop()
		if rows:
			print_table(title, self.compare_head("floor", "mapmux"), rows)

	def compare_tables(self, title, names, base, ours, limit):
		"""One table against another, which does the same or less, at 10 connections. How many
		answers both gave."""
		rounds = self.compare("socketmap", base, ours, ("--connections", "10"))
		print_table(title, self.compare_head(*names),
			[self.compare_row("10 connections", rounds)])
		self.judge_ratio("%s, 10 connections: rate to the %s table's"
			% (names[1], names[0]), [o["rate"] / b["rate"] for b, o in rounds], limit)
		return sum(side["answers"] for both in rounds for side in both)

	# --- groups ---

	def run_static(self):
		def judge_shallow(name, rounds):
			self.to_floor("static", 0.85)(name, rounds)
			self.judge_ratio("static, %s: p99 to the floor's" % name,
				[m["p99_us"] / f["p99_us"] for f, m in rounds], 1.5, least=False)

		def conns(n, *more):
			return ("--connections", str(n), *more)

		self.attempt("static", self.compare_cases,
			"Static table, socketmap over a unix socket, one worker", "socketmap", [
			("1 connection", conns(1), judge_shallow),
			("10 connections", conns(10), judge_shallow),
			("100 connections", conns(100), judge_shallow),
			("10 connections, depth 8", conns(10, "--depth", "8"), self.to_floor("static", 0.40)),
			("10 connections, 2,000/s", conns(10, "--rate", "2000"), None),
		])
		self.attempt("system calls", self.run_strace)

	def run_dict(self):
		"""Dovecot's protocol: lookups, sets, and Dovecot's own server of it."""
		self.attempt("dict", self.compare_cases,
			"Static table, dict over a unix socket, one worker", "dict", [
			("10 connections", ("--connections", "10"), self.to_floor("dict", 0.80)),
			("10 connections, depth 8", ("--connections", "10", "--depth", "8"), None),
			("connect, lookup, close, 10 at a time",
				("--connections", "10", "--churn"), self.to_floor("dict", 0.60)),
		])
		self.attempt("dict, sets", self.run_dict_sets)
		self.attempt("dict, Dovecot", self.run_dict_dovecot)

	def run_dict_sets(self):
		server, address = self.start_mapmux("dict", "memory", "")
		options, rounds = ("--connections", "10"), []
		try:
			# So that all keys are there to be found.
			self.load(server, "dict", address, *options, "--set", seconds=0.3)
			for _ in range(self.rounds):
				rounds.append((self.load(server, "dict", address, *options),
					self.load(server, "dict", address, *options, "--set")))
		finally:
			server.stop()
		print_table("Memory table, dict over a unix socket, one worker: transactions of one key",
			self.compare_head("lookups", "sets"),
			[self.compare_row("10 connections", rounds)])
		self.judge_ratio("dict, sets of one key: rate to the lookups'",
			[s["rate"] / l["rate"] for l, s in rounds], 0.40)

	def start_dovecot(self):
		"""Dovecot with nothing but its dict server; it forks, so its own CPU time says nothing."""
		base = os.path.join(self.dir, "dovecot")
		os.mkdir(base)
		data = os.path.join(base, "data")
		with open(data, "w") as f:
			# Keys and values in turn, below the scope.
			f.write("".join("shared/k%d\nvalue\n" % i for i in range(KEYS)))
		os.chmod(self.dir, 0o755)
		conf = os.path.join(base, "dovecot.conf")
		with open(conf, "w") as f:
			f.write(DOVECOT_CONF.format(dir=base, table=TABLE, data=data))
		process = Process(self, "dovecot", ["dovecot", "-F", "-c", conf])
		address = "unix:%s/run/dict-async" % base
		process.wait_ready(address)
		return process, address

	def run_dict_dovecot(self):
		theirs = self.start_dovecot()
		ours = self.start_static("dict")
		rows = []
		try:
			for n in (10, 100):
				rounds = self.compare("dict", theirs, ours, ("--connections", str(n)))
				rows.append(("%d connections" % n,
					"%.0f" % statistics.median(t["rate"] for t, _ in rounds),
					"%.0f" % statistics.median(o["rate"] for _, o in rounds),
					spread([o["rate"] / t["rate"] for t, o in rounds]),
					"%.0f" % statistics.median(t["p99_us"] for t, _ in rounds),
					"%.0f" % statistics.median(o["p99_us"] for _, o in rounds)))
				self.judge_ratio("dict, %d connections: rate to Dovecot's dict-async" % n,
					[o["rate"] / t["rate"] for t, o in rounds], 2.0)
		finally:
			ours[0].stop()
			theirs[0].stop()
		print_table("Static table against Dovecot's dict-async with its file driver, one worker "
			"each", ("", "Dovecot/s", "mapmux/s", "ratio", "p99 us", "mapmux"), rows)

	def run_fronts(self):
		"""The other protocols over the same table."""
		for protocol in ("tcp", "policy"):
			self.attempt(protocol, self.compare_cases,
				"Static table, %s over a unix socket, one worker" % protocol, protocol, [
				("10 connections", ("--connections", "10"), self.to_floor(protocol, 0.80)),
				("10 connections, depth 8",
					("--connections", "10", "--depth", "8"), None),
			])

	def run_sasl(self):
		"""AUTH PLAIN on connections that are kept, as Postfix does."""
		self.attempt("sasl", self.compare_cases,
			"Static table with {PLAIN} passwords, sasl over a unix socket, one worker", "sasl", [
			("10 connections", ("--connections", "10"), self.to_floor("sasl", 0.50)),
			("10 connections, depth 8", ("--connections", "10", "--depth", "8"), None),
		])

	def run_strace(self):
		rows = []
		for protocol in ("socketmap", "dict"):
			for name, start in (("floor", self.start_floor),
					("mapmux", self.start_static)):
				server, address = start(protocol)
				try:
					counts, answers = self.trace_load(server, protocol, address)
				finally:
					server.stop()

				def each(names):
					return sum(counts.get(n, 0) for n in names) / answers

				known = READS + WRITES + WAITS + ("epoll_ctl",)
				others = ["%s %d" % (n, c) for n, c in sorted(counts.items())
					if n not in known]
				rows.append((name + ", " + protocol, answers, "%.3f" % each(READS),
					"%.3f" % each(WRITES), counts.get("epoll_ctl", 0),
					"%.3f" % each(WAITS), ", ".join(others) or "none"))
				if name == "mapmux" and protocol == "socketmap":
					self.judge(each(READS) <= 1.01,
						"static: reads a request: %.3f, at most 1"
						% each(READS))
					self.judge(each(WRITES) <= 1.01,
						"static: writes a request: %.3f, at most 1"
						% each(WRITES))
					self.judge(each(["epoll_ctl"]) < 0.001,
						"static: epoll_ctl calls in %d requests: %d, "
						"below 1 in 1,000"
						% (answers, counts.get("epoll_ctl", 0)))
		print_table("System calls a request "
			"(strace -c -f, 10 connections, depth 1, steady state)",
			("", "requests", "read", "write", "epoll_ctl, all", "wait",
			"other calls, all"), rows)

	def trace_load(self, server, protocol, address):
		"""Counts the calls between connecting and closing: those two are no request's."""
		if not shutil.which("strace"):
			raise NotRun("strace is not installed")
		settle = 1.5
		report = os.path.join(self.dir, "strace.%d" % server.pid)
		load = subprocess.Popen([self.tool("load"), protocol, address, "--table", TABLE,
			"--connections", "10", "--warmup", "0", "--seconds", "0.5",
			"--settle", str(settle), "--json"], stdout=subprocess.PIPE, text=True)
		begin = time.monotonic()
		time.sleep(0.4)
		strace = subprocess.Popen(["strace", "-c", "-f", "-o", report,
			"-p", str(server.pid)],
			stderr=subprocess.PIPE, text=True)
		try:
			line = strace.stderr.readline()
			if "attached" not in line:
				raise NotRun("strace cannot attach: %s" % line.strip())
			if time.monotonic() - begin > settle - 0.1:
				raise NotRun("strace took too long to attach")
			time.sleep(max(0, begin + settle + 0.5 + settle / 2 - time.monotonic()))
			strace.send_signal(signal.SIGINT)
			strace.wait(10)
			result = json.loads(load.communicate(timeout=20)[0])
		finally:
			for process in (strace, load):
				if process.poll() is None:
					process.kill()
					process.wait()
		if result["errors"]:
			raise NotRun("unexpected answers under strace: %s" % result)
		counts = {}
		with open(report) as f:
			for line in f:
				# % time, seconds, usecs/call, calls, [errors,] syscall
				fields = line.split()
				if len(fields) < 5 or fields[-1] == "total":
					continue
				if fields[3].isdigit():
					counts[fields[-1]] = int(fields[3])
		return counts, result["answers"]

	def start_nginx(self):
		binary = (shutil.which("nginx")
			or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin"))
		if not binary:
			raise NotRun("nginx is not installed")
		port = free_port()
		conf = os.path.join(self.dir, "nginx.conf")
		with open(conf, "w") as f:
			f.write("""daemon off;
worker_processes 1;
pid %(dir)s/nginx.pid;
error_log stderr warn;
events { worker_connections 8192; }
http {
	access_log off;
	client_body_temp_path %(dir)s/nginx-body;
	proxy_temp_path %(dir)s/nginx-proxy;
	fastcgi_temp_path %(dir)s/nginx-fastcgi;
	uwsgi_temp_path %(dir)s/nginx-uwsgi;
	scgi_temp_path %(dir)s/nginx-scgi;
	keepalive_requests 1000000000;
	keepalive_timeout 1h;
	server {
		listen 127.0.0.1:%(port)d backlog=1024;
		location /lookup/ { default_type application/json; return 200 '"value"'; }
		location /wide/ { default_type application/json; return 200 '"%(wide)s"'; }
		location = /status { stub_status; }
	}
}
""" % {"dir": self.dir, "port": port, "wide": "v" * VALUE_BYTES})
		process = Process(self, "nginx",
			[binary, "-p", self.dir, "-c", conf, "-e", "stderr"])
		process.wait_ready("127.0.0.1:%d" % port)
		return process, port

	@staticmethod
	def nginx_counters(connection):
		"""Connections accepted and requests; on one kept connection: asking opens none."""
		connection.request("GET", "/status")
		text = connection.getresponse().read().decode()
		match = re.search(r"^\s*(\d+) \d+ (\d+)", text, re.M)
		if not match:
			raise NotRun("nginx has no stub_status")
		return int(match.group(1)), int(match.group(2))

	def run_wrk(self, port, n):
		if not shutil.which("wrk"):
			raise NotRun("wrk is not installed")
		# wrk takes whole seconds only.
		done = subprocess.run(["wrk", "-t1", "-c%d" % n,
			"-d%ds" % max(1, round(self.seconds)),
			"http://127.0.0.1:%d/lookup/k1" % port],
			capture_output=True, text=True, timeout=60)
		match = re.search(r"^Requests/sec:\s+([\d.]+)", done.stdout, re.M)
		if not match or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
			raise NotRun("wrk: %s" % (done.stdout + done.stderr).strip())
		return float(match.group(1))

	def run_url(self):
		nginx, port = self.start_nginx()
		url = "http://127.0.0.1:%d/lookup/{}" % port
		floor = self.start_floor("socketmap")
		mapmux = self.start_mapmux("socketmap", "url", url)
		status = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
		rows = []
		try:
			for n in (10, 100):
				row = self.attempt("url, %d connections" % n, self.run_url_case, n,
					url, port, floor, mapmux, status)
				if row:
					rows.append(row)
		finally:
			status.close()
			for process in (mapmux[0], floor[0], nginx):
				process.stop()
		if rows:
			print_table("url table, socketmap over a unix socket, one worker, "
				"nginx with one worker",
				("", "mapmux/s", "libcurl/s", "wrk/s", "to libcurl", "to wrk",
				"p50 us", "p99 us", "CPU us", "libcurl", "floor",
				"new conns/1000"), rows)

	def run_url_case(self, n, url, port, floor, mapmux, status):
		connections = ("--connections", str(n))
		rounds = []
		opened = asked = lookups = 0
		# The first connections to nginx are no part of the steady state.
		self.load(mapmux[0], "socketmap", mapmux[1], *connections, seconds=0.3)
		for _ in range(self.rounds):
			before = self.nginx_counters(status)
			ours = self.load(mapmux[0], "socketmap", mapmux[1], *connections)
			after = self.nginx_counters(status)
			opened += after[0] - before[0]
			asked += after[1] - before[1]
			lookups += ours["answers"]
			curl = self.run_json([self.tool("curlloop"), url, "--in-flight", str(n),
				"--seconds", str(self.seconds), "--keys", str(KEYS)])
			wrk = self.run_wrk(port, n)
			ground = self.load(floor[0], "socketmap", floor[1], *connections)
			rounds.append((ours, curl, wrk, ground))
		# Answers from memory must not be compared with what the others really fetch.
		if asked < 0.99 * lookups:
			raise NotRun("nginx saw %d requests for %d lookups: cached or coalesced, "
				"so the figures mean nothing" % (asked, lookups))
		to_curl = [ours["rate"] / curl["rate"] for ours, curl, _, _ in rounds]
		to_wrk = [ours["rate"] / wrk for ours, _, wrk, _ in rounds]
		cpu = [ours["server_cpu"] for ours, _, _, _ in rounds]
		cpu_curl = [curl["cpu_us_per_request"] for _, curl, _, _ in rounds]
		cpu_floor = [ground["server_cpu"] for _, _, _, ground in rounds]
		limits = [URL_CPU_LIMIT * (c + f) / URL_CPU_REFERENCE
			for c, f in zip(cpu_curl, cpu_floor)]
		limit = statistics.median(limits)
		fresh = opened * 1000 / lookups
		what = "url, %d connections: " % n
		self.judge_ratio(what + "rate to the bare libcurl loop's", to_curl, 0.70)
		self.judge_ratio(what + "rate to wrk's", to_wrk, 0.25)
		self.judge(statistics.median(c / l for c, l in zip(cpu, limits)) <= 1,
			what + "CPU us a lookup: %s, at most %.1f here "
			"(28 where floor and libcurl take 3 + 20; now %.1f + %.1f)"
			% (spread(cpu, 1), limit, statistics.median(cpu_floor),
			statistics.median(cpu_curl)))
		self.judge(fresh < 1, what
			+ "new connections in 1,000 lookups: %.3f, below 1" % fresh)
		return ("%d connections" % n,
			"%.0f" % statistics.median(r[0]["rate"] for r in rounds),
			"%.0f" % statistics.median(r[1]["rate"] for r in rounds),
			"%.0f" % statistics.median(r[2] for r in rounds),
			spread(to_curl), spread(to_wrk),
			"%.0f" % statistics.median(r[0]["p50_us"] for r in rounds),
			"%.0f" % statistics.median(r[0]["p99_us"] for r in rounds),
			spread(cpu, 1), spread(cpu_curl, 1), spread(cpu_floor, 1), "%.3f" % fresh)

	def run_redis(self):
		port = free_port()
		server = Process(self, "redis-server", ["redis-server", "--port", str(port),
			"--bind", "127.0.0.1", "--save", ""])
		server.wait_ready("127.0.0.1:%d" % port)
		done = subprocess.run(["redis-cli", "-p", str(port), "MSET",
			*(word for i in range(KEYS) for word in ("k%d" % i, "value"))],
			capture_output=True, text=True, timeout=10)
		if done.stdout.strip() != "OK":
			raise NotRun("redis-cli: %s%s" % (done.stdout, done.stderr))
		mapmux, address = self.start_mapmux("socketmap", "redis",
			"redis://127.0.0.1:%d/0" % port)
		rows = []
		try:
			for n in (1, 10, 50):
				row = self.attempt("redis, %d connections" % n, self.redis_row,
					port, mapmux, address, n)
				if row:
					rows.append(row)
		finally:
			mapmux.stop()
			server.stop()
		print_table("Redis table against redis-benchmark -t get, one worker", ("",
			"redis-benchmark/s", "mapmux/s", "ratio", "p99 us"), rows)

	def redis_row(self, port, mapmux, address, n):
		rounds = []
		for _ in range(self.rounds):
			requests = int(self.seconds * 40000) + 1
			done = subprocess.run(["redis-benchmark", "-p", str(port), "-t", "get",
				"-c", str(n), "-n", str(requests), "-q"],
				capture_output=True, text=True, timeout=120)
			found = re.search(r"GET: ([0-9.]+) requests per second", done.stdout)
			if not found:
				raise NotRun("redis-benchmark: %s%s" % (done.stdout, done.stderr))
			rounds.append((float(found.group(1)), self.load(mapmux, "socketmap",
				address, "--connections", str(n))))
		ratios = [load["rate"] / plain for plain, load in rounds]
		self.judge_ratio("redis, %d connections: rate to redis-benchmark's" % n, ratios, 0.40)
		return ("%d connections" % n, "%.0f" % statistics.median(r[0] for r in rounds),
			"%.0f" % statistics.median(r[1]["rate"] for r in rounds), spread(ratios),
			"%.0f" % statistics.median(r[1]["p99_us"] for r in rounds))

	def start_lua(self, text):
		path = os.path.join(self.dir, "script.%d.lua" % len(self.processes))
		with open(path, "w") as f:
			f.write(text)
		return self.start_mapmux("socketmap", "lua", path)

	def run_lua(self):
		self.attempt("lua", self.run_lua_constant)
		self.attempt("lua with HTTP", self.run_lua_http)

	def run_lua_constant(self):
		base = self.start_static("socketmap")
		ours = self.start_lua("function lookup(key) return 'value' end\n")
		try:
			self.compare_tables("Lua table that returns a constant, one worker",
				("static", "lua"), base, ours, 0.60)
		finally:
			ours[0].stop()
			base[0].stop()

	def run_lua_http(self):
		nginx, port = self.start_nginx()
		url = "http://127.0.0.1:%d/lookup/" % port
		base = self.start_mapmux("socketmap", "url", url + "{}")
		ours = self.start_lua("function lookup(key)\n"
			"\treturn mapmux.http.json('%s' .. mapmux.urlencode(key))\nend\n" % url)
		status = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
		try:
			# The first connections to nginx are no part of the steady state.
			for process, address in (base, ours):
				self.load(process, "socketmap", address, "--connections", "10",
					seconds=0.3)
			before = self.nginx_counters(status)[1]
			lookups = self.compare_tables("Lua table that makes one HTTP call, one "
				"worker, nginx with one worker", ("url", "lua, HTTP"), base, ours, 0.80)
			asked = self.nginx_counters(status)[1] - before
			if asked < 0.99 * lookups:
				raise NotRun("nginx saw %d requests for %d lookups: cached or "
					"coalesced, so the figures mean nothing" % (asked, lookups))
		finally:
			status.close()
			for process in (ours[0], base[0], nginx):
				process.stop()

	def start_knot(self):
		"""A DNS server that knows an MX for every name."""
		binary = (shutil.which("knotd")
			or shutil.which("knotd", path="/usr/sbin:/usr/local/sbin"))
		if not binary:
			raise NotRun("knotd is not installed")
		port = free_port()
		with open(os.path.join(self.dir, "root.zone"), "w") as f:
			f.write("$TTL 3600\n. SOA ns. hostmaster. 1 3600 600 86400 3600\n"
				". NS ns.\nns. A 127.0.0.1\n*. MX 10 mx.example.\n")
		conf = os.path.join(self.dir, "knot.conf")
		with open(conf, "w") as f:
			f.write("""server:
    rundir: "%(dir)s"
    listen: "127.0.0.1@%(port)d"
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: info
database:
    storage: "%(dir)s"
zone:
  - domain: "."
    storage: "%(dir)s"
    file: "root.zone"
    zonefile-sync: -1
    journal-content: none
""" % {"dir": self.dir, "port": port})
		process = Process(self, "knotd", [binary, "-c", conf])
		process.wait_ready("127.0.0.1:%d" % port)
		return process, port

	def run_dns(self):
		knot, port = self.start_knot()
		base = self.start_static("socketmap")
		ours = self.start_mapmux("socketmap", "dns-mx", "mx.example",
			"servers=127.0.0.1:%d" % port)
		try:
			warm = self.load(ours[0], "socketmap", ours[1], "--connections", "10")
			if warm["answers"] < KEYS:
				raise NotRun("only %d answers, so not all names are known"
					% warm["answers"])
			# From here on what the cache does not know would be an error.
			knot.stop()
			self.compare_tables("dns-mx table that answers from its cache, one worker",
				("static", "dns-mx"), base, ours, 0.80)
		finally:
			for process in (ours[0], base[0], knot):
				process.stop()

	# --- cache and breaker ---

	def run_cache(self):
		nginx, port = self.start_nginx()
		status = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
		url = "http://127.0.0.1:%d/lookup/{}" % port
		try:
			self.attempt("cache, Zipf", self.run_cache_zipf, url)
			self.attempt("cache, memory", self.run_cache_memory, port, status)
			self.attempt("cache, hits", self.run_cache_hits, url, status)
		finally:
			status.close()
			nginx.stop()
		self.attempt("cache, one key", self.run_cache_flight)

	def run_cache_hits(self, url, status):
		base = self.start_static("socketmap")
		ours = self.start_mapmux("socketmap", "url", url, "cache.ttl=1h")
		rows = []
		try:
			warm = self.load(ours[0], "socketmap", ours[1], "--connections", "10")
			if warm["answers"] < KEYS:
				raise NotRun("only %d answers, so not all keys are known" % warm["answers"])
			before = self.nginx_counters(status)[1]
			for n in (10, 100):
				rounds = self.compare("socketmap", base, ours, ("--connections", str(n)))
				rows.append(self.compare_row("%d connections" % n, rounds))
				self.judge_ratio("cache hits, %d connections: rate to the static table's" % n,
					[o["rate"] / b["rate"] for b, o in rounds], 0.90)
			# The second look at the counter is a request itself.
			if self.nginx_counters(status)[1] - before > 1:
				raise NotRun("nginx was asked: these were not all hits")
		finally:
			ours[0].stop()
			base[0].stop()
		print_table("Cache hits of a url table, one worker", self.compare_head("static", "hits"), rows)

	def run_cache_zipf(self, url):
		"""What is asked for, and how often, as mail does: few keys often, many seldom. Without a
		pause between the warm-up and the rounds, in which answers would expire unasked."""
		floor = self.start_floor("socketmap")
		ours = self.start_mapmux("socketmap", "url", url, "cache.ttl=60s",
			"cache.max_bytes=512m")
		options = ("--connections", "100", "--keys", str(MANY_KEYS), "--zipf")
		warm_up = 5 if self.args.quick else 60 # as long as answers are kept

		def measure(server):
			return [self.load(server[0], "socketmap", server[1], *options)
				for _ in range(self.rounds)]

		try:
			floors = measure(floor)
			self.load(ours[0], "socketmap", ours[1], *options, seconds=warm_up)
			rounds = list(zip(floors, measure(ours)))
		finally:
			ours[0].stop()
			floor[0].stop()
		print_table("url table with cache.ttl 60s, a million keys by Zipf's law, "
			"one worker, after %d s" % warm_up, self.compare_head("floor", "mapmux"),
			[self.compare_row("100 connections", rounds)])
		self.judge_ratio("cache, Zipf, 100 connections: rate to the floor's",
			[o["rate"] / b["rate"] for b, o in rounds], 0.60)

	def run_cache_memory(self, port, status):
		keys = MANY_KEYS // 10 if self.args.quick else MANY_KEYS
		server, address = self.start_mapmux("socketmap", "url",
			"http://127.0.0.1:%d/wide/{}" % port, "cache.ttl=1h", "cache.max_bytes=1g")
		try:
			self.load(server, "socketmap", address, "--connections", "100", "--key", "first",
				seconds=0.3)
			before = server.rss_bytes()
			asked = self.nginx_counters(status)[1]
			# Each load begins with the first key: what is known takes it little time.
			for _ in range(20):
				self.load(server, "socketmap", address, "--connections", "100", "--keys",
					str(keys), seconds=10)
				if self.nginx_counters(status)[1] - asked >= keys:
					break
			else:
				raise NotRun("not all keys were asked for in 200 s")
			each = (server.rss_bytes() - before) / keys - VALUE_BYTES
		finally:
			server.stop()
		print_table("Memory of a cache", ("", "entries", "bytes each, beyond the value"),
			[("url table, values of %d bytes" % VALUE_BYTES, keys, "%.0f" % each)])
		self.judge(each <= 200, "cache: RSS of an entry of %d bytes, beyond the value: "
			"%.0f bytes, at most 200" % (VALUE_BYTES, each))

	def run_cache_flight(self):
		"""All ask at once for a key that nobody knows yet."""
		backend = SlowBackend(1.0)
		server, address = self.start_mapmux("socketmap", "url", backend.url + "/{}",
			"cache.ttl=1h", threads=2)
		try:
			result = self.load(server, "socketmap", address, "--connections", "1000", "--key",
				"k", "--warmup", "0", "--settle", "0.5", seconds=1.5)
		finally:
			server.stop()
			backend.stop()
		if result["answers"] < 1000:
			raise NotRun("only %d answers" % result["answers"])
		print_table("1,000 connections ask for one key, which takes 1 s",
			("", "backend requests", "slowest answer ms"),
			[("url table with cache, two workers", backend.requests, "%.0f" % (result["max_us"] / 1e3))])
		self.judge(backend.requests == 1,
			"cache, one key: backend requests of 1,000 questions: %d, 1" % backend.requests)
		self.judge(1e6 <= result["max_us"] <= 1.2e6, "cache, one key: slowest answer: %.2f s, "
			"at most 1.2" % (result["max_us"] / 1e6))

	def run_breaker(self):
		base = self.start_static("socketmap")
		ours = self.start_mapmux("socketmap", "url", "http://127.0.0.1:%d/{}" % free_port(),
			"breaker.failures=1", "breaker.cooldown=1h", "retries=0")
		options, rounds = ("--connections", "10"), []
		try:
			# The first question opens it.
			self.load(ours[0], "socketmap", ours[1], "--expect", "temp", seconds=0.3)
			for _ in range(self.rounds):
				rounds.append((self.load(base[0], "socketmap", base[1], *options),
					self.load(ours[0], "socketmap", ours[1], *options,
						"--expect", "temp")))
		finally:
			ours[0].stop()
			base[0].stop()
		print_table("url table whose breaker is open, one worker",
			self.compare_head("static", "breaker"),
			[self.compare_row("10 connections", rounds)])
		self.judge_ratio("open breaker, 10 connections: CPU to the static table's",
			[o["server_cpu"] / b["server_cpu"] for b, o in rounds], 1.0, least=False)

	def run_churn(self):
		self.attempt("churn", self.compare_cases,
			"Connect, one lookup, close: socketmap over a unix socket, 10 at a time", "socketmap", [
			("socketmap, 10 at a time", ("--connections", "10", "--churn"), self.to_floor("churn", 0.60)),
		])

	# --- /metrics ---

	def run_web(self):
		"""200 tables that were all asked; scraped ten times a second, which nobody does."""
		port, address = free_port(), self.socket_address("mapmux")
		words = [word for n in range(WEB_TABLES)
			for word in ("--name", "table%d" % n, "--type", "memory", "--param", "")]
		server = Process(self, "mapmux", [self.args.mapmux, "serve", "--threads", "1",
			"--listen", "socketmap:" + address, "--listen", "http:127.0.0.1:%d" % port,
			"--name", TABLE, "--type", "static", "--param", "file:" + self.table_file, *words])
		server.wait_ready(address)
		try:
			client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
			for n in range(WEB_TABLES):
				self.fetch(client, "/v1/lookup/table%d?key=k" % n, 404)
			times = []
			for _ in range(50):
				began = time.monotonic()
				size = len(self.fetch(client, "/metrics", 200))
				times.append((time.monotonic() - began) * 1000)
			rows = [("/metrics, %d tables, %d bytes" % (WEB_TABLES, size),
				spread(times), "", "")]
			self.judge(statistics.median(times) < 5, "/metrics with %d tables: %s ms, "
				"at most 5" % (WEB_TABLES, spread(times)))
			ratios = []
			for _ in range(self.rounds):
				alone = self.load(server, "socketmap", address, "--connections", "10")
				with Scraper(lambda: self.fetch(client, "/metrics", 200)):
					scraped = self.load(server, "socketmap", address, "--connections", "10")
				ratios.append(scraped["requests"] / alone["requests"])
			rows.append(("socketmap, 10 connections, scraped 10 times a second", "",
				spread(ratios), "%.0f" % scraped["p99_us"]))
			self.judge_ratio("lookups while /metrics is scraped 10 times a second", ratios, 0.95)
		finally:
			server.stop()
		print_table("The http listener", ("", "ms", "rate to that without scrapes", "p99 us"), rows)

	@staticmethod
	def fetch(client, path, status):
		client.request("GET", path)
		answer = client.getresponse()
		body = answer.read()
		if answer.status != status:
			raise NotRun("%s: HTTP status %d" % (path, answer.status))
		return body

	def run_memory(self):
		rows = []
		worst = None
		base = {}
		for name, start in (
				("static table", lambda: self.start_static("socketmap")),
				("url table", lambda: self.start_mapmux("socketmap", "url",
					"http://127.0.0.1:9/lookup/{}"))):
			server, _ = start()
			time.sleep(0.5)
			base[name] = server.rss_bytes() / 1048576
			server.stop()
			rows.append(("mapmux, %s, without load" % name,
				"%.2f MiB" % base[name], "", ""))
			self.judge(base[name] <= 8,
				"memory: %s without load: %.2f MiB of RSS, at most 8"
				% (name, base[name]))
		for name, start, asked in (
				("floor", lambda: self.start_floor("socketmap"), True),
				("mapmux", lambda: self.start_static("socketmap"), False),
				("mapmux", lambda: self.start_static("socketmap"), True)):
			server, address = start()
			try:
				each, held = self.hold_idle(server, address, asked)
			finally:
				server.stop()
			rows.append(("%s, %d idle connections, %s" % (name, IDLE_CONNECTIONS,
				"one lookup each" if asked else "nothing asked"),
				"", "%.0f" % each, held))
			if name == "mapmux":
				worst = max(worst or 0, each)
				self.judge(held == IDLE_CONNECTIONS, "memory: idle connections "
					"held (%s) while a lookup was answered: %d of %d"
					% ("asked once" if asked else "never asked",
					held, IDLE_CONNECTIONS))
		self.judge(worst <= 1024,
			"memory: RSS of an idle connection: %.0f bytes, at most 1024 (aim: 512)"
			% worst)
		print_table("Memory", ("", "RSS", "bytes/connection", "held"), rows)

	def hold_idle(self, server, address, asked):
		argv = [self.tool("load"), "idle", address, "--connections", str(IDLE_CONNECTIONS),
			"--hold", "120", "--table", TABLE]
		if asked:
			argv += ["--protocol", "socketmap"]
		time.sleep(0.3)
		before = server.rss_bytes()
		load = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
			text=True)
		try:
			line = load.stdout.readline()
			if not line:
				raise NotRun("cannot open %d connections: %s\n%s"
					% (IDLE_CONNECTIONS, load.stderr.read().strip(),
					server.log_tail()))
			# All are connected; let the server accept the last of them.
			time.sleep(0.5)
			after = server.rss_bytes()
			self.load(server, "socketmap", address, seconds=0.1)
			load.terminate()
			lines = load.communicate(timeout=20)[0].strip().splitlines()
			held = json.loads(lines[-1])["held"]
		finally:
			if load.poll() is None:
				load.kill()
				load.wait()
		return (after - before) / IDLE_CONNECTIONS, held

	# --- all of it ---

	def print_header(self):
		cpu = "?"
		try:
			with open("/proc/cpuinfo") as f:
				match = re.search(r"^model name\s*:\s*(.+)$", f.read(), re.M)
			cpu = match.group(1) if match else platform.machine()
		except OSError:
			pass
		load = os.getloadavg()[0]
		print("mapmux benchmark, %s" % time.strftime("%Y-%m-%d %H:%M %Z"))
		print("  machine   %d CPUs (%s), load average %.2f before the run"
			% (os.cpu_count(), cpu, load))
		print("  kernel    %s %s" % (platform.system(), platform.release()))
		print("  compiler  %s" % output_of(["cc", "--version"]))
		libraries = ["%s %s" % (name, output_of(["pkg-config", "--modversion", name]))
			for name in ("libcurl", "libevent_core", "libcjson", "yaml-0.1", "hiredis",
				"libcares", "lua5.4")]
		print("  libraries %s" % ", ".join(libraries))
		print("  peers     %s; %s" % (output_of(["nginx", "-v"]), output_of(["wrk", "-v"])))
		here = os.path.dirname(os.path.abspath(__file__))
		print("  source    %s" % output_of(["git", "-C", here,
			"describe", "--always", "--dirty"]))
		print("  rounds    %d of %.1f s each; "
			"median (least-most) of the ratios within a round"
			% (self.rounds, self.seconds))
		if load > 0.5:
			print("  WARNING   something else is running here: expect noise")
		sys.stdout.flush()

	@staticmethod
	def print_disturbance(before, own_before):
		"""Ratios taken while others use the machine deserve less trust: say how much."""
		used, stolen, total = (a - b for a, b in zip(machine_cpu(), before))
		others = max(0.0, used - (own_cpu() - own_before))
		if not total:
			return
		print("\nDuring the run %.0f %% of the machine's CPU time went to other processes "
			"and %.0f %% was stolen%s" % (100 * others / total, 100 * stolen / total,
			": do not quote these figures" if others + stolen > 0.05 * total else ""))

	def run(self, groups):
		self.print_header()
		before, own_before = machine_cpu(), own_cpu()
		for group in groups:
			self.attempt(group, getattr(self, "run_" + group))
		for process in self.processes:
			process.stop()
		self.print_disturbance(before, own_before)
		print("\nTargets")
		for verdict, text in self.verdicts:
			print("  %-7s %s" % (verdict, text))
		missed = sum(verdict == "MISSED" for verdict, _ in self.verdicts)
		print("%d passed, %d missed, %d did not run"
			% (sum(verdict == "PASS" for verdict, _ in self.verdicts), missed,
			self.not_run))
		return 1 if self.not_run or (self.args.strict and missed) else 0


def parse_args():
	parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
	parser.add_argument("--mapmux", required=True, help="the daemon's binary")
	parser.add_argument("--tools", required=True, help="where floor, load and curlloop are")
	parser.add_argument("--quick", action="store_true", help="rounds of 0.5 s: a smoke test")
	parser.add_argument("--seconds", type=float, help="length of a round (1)")
	parser.add_argument("--rounds", type=int, help="rounds of each case (7)")
	parser.add_argument("--only", help="groups to run, with commas: " + ",".join(GROUPS))
	parser.add_argument("--strict", action="store_true", help="exit 1 when a figure is missed")
	args = parser.parse_args()
	args.mapmux = os.path.abspath(args.mapmux)
	args.tools = os.path.abspath(args.tools)
	groups = args.only.split(",") if args.only else list(GROUPS)
	for group in groups:
		if group not in GROUPS:
			parser.error("--only: %s is none of %s" % (group, ", ".join(GROUPS)))
	if (args.rounds is not None and args.rounds < 1) or (args.seconds is not None and args.seconds <= 0):
		parser.error("--rounds and --seconds must be above 0")
	return args, groups


def main():
	args, groups = parse_args()
	# The servers inherit this; 10,000 connections do not fit the usual soft limit.
	hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
	resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
	# So that the servers are ended when this run is.
	signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
	bench = Bench(args)
	try:
		return bench.run(groups)
	except KeyboardInterrupt:
		return 130
	finally:
		bench.close()


if __name__ == "__main__":
	sys.exit(main())
