"""Scripted xDS client that checks a server against the requirements in src/ads/requirements.md.

    python3 conformance.py ADHOC_BINARY [ONLY_CHECKS_WITH_THIS_IN_THEIR_NAME ...]

Checks mostly wait, so several run at once, each with a server of its own. What fails is tried again alone before it
counts: some expect an answer within a second, which a busy machine may not give.

Needs grpcio and xds-protos. `expect` acknowledges what it receives unless told `ack=False`.
Nonces, type URLs, duplicate names and unsolicited types are verified on every message of every check.
"""
import itertools, json, os, queue, re, signal, subprocess, sys, threading, time, urllib.request
from collections import namedtuple

import grpc
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse)

DEADLINE, AT_ONCE, QUIET = 5.0, 1.0, 0.15
CDS_ACK_DEADLINE, WAY_OUT = 2.5, 2.0
Kind = namedtuple("Kind", "message revision service plural")
Message = namedtuple("Message", "kind nonce version resources versions removed")
End = namedtuple("End", "code details")

def listener_revision(listener):
    return TcpProxy.FromString(listener.filter_chains[0].filters[0].typed_config.value).stat_prefix

KINDS = {
    "cds": Kind(Cluster, lambda c: c.alt_stat_name, "cluster.v3.Cluster", "Clusters"),
    "lds": Kind(Listener, listener_revision, "listener.v3.Listener", "Listeners"),
    "rds": Kind(RouteConfiguration, lambda r: r.virtual_hosts[0].name.removeprefix("revision "),
                "route.v3.Route", "Routes"),
    "eds": Kind(ClusterLoadAssignment, lambda e: e.endpoints[0].locality.zone,
                "endpoint.v3.Endpoint", "Endpoints"),
    "sds": Kind(Secret, lambda s: s.generic_secret.secret.inline_string, "secret.v3.Secret", "Secrets"),
}
WILD, NAMED, ALL = ("cds", "lds"), ("rds", "eds", "sds"), tuple(KINDS)
TYPE_URL = {k: "type.googleapis.com/" + v.message.DESCRIPTOR.full_name for k, v in KINDS.items()}
KIND_OF = {url: kind for kind, url in TYPE_URL.items()}
NOT_SERVED = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
CHANNEL_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]

class Failure(Exception):
    pass

def demand(condition, expected, came):
    if not condition:
        raise Failure(f"expected {expected}, came {came}")

def name_in(kind, resource):
    return resource.cluster_name if kind == "eds" else resource.name

class Server:
    def __init__(self, binary):
        self.process = subprocess.Popen([binary, "--port", "0", "--ctl", "0"], text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        ports = re.findall(r"127\.0\.0\.1:(\d+)", self.process.stdout.readline())
        demand(len(ports) == 2, "the server says where it listens", ports)
        self.port, self.control = map(int, ports)

    def set(self, **state):
        """Replaces the whole state."""
        body = json.dumps(state).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.control}/state", body, timeout=30) as answer:
            answer.read()

    def channel(self):
        return grpc.insecure_channel(f"127.0.0.1:{self.port}", CHANNEL_OPTIONS)

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory_mib(self):
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * 4096 / 2**20

    def stop(self):
        self.process.kill()
        self.process.wait()

class Stream:
    """One stream, in either mode. SotW names, versions and nonces are kept per kind, as a client does."""

    def __init__(self, channel, mode, service, node, reading=True):
        self.delta, self.node, self.node_sent = mode == "delta", node, False
        self.names, self.latest, self.accepted = {}, {}, {}
        self.requested, self.nonces, self.violations = set(), set(), []
        self.requests, self.events = queue.Queue(), queue.Queue()
        response = DeltaDiscoveryResponse if self.delta else DiscoveryResponse
        call = channel.stream_stream(
            rpc_path(service, self.delta), response_deserializer=response.FromString,
            request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString())
        self.call = call(iter(self.requests.get, None))
        if reading:
            self.start_reading()

    def start_reading(self):
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            for response in self.call:
                self.events.put(self.understand(response))
        except grpc.RpcError:
            pass
        self.events.put(End(self.call.code(), self.call.details()))

    def understand(self, response):
        """Turns a response into a Message and verifies what holds for every response."""
        def rule(id_, holds, what):
            if not holds:
                self.violations.append(f"{id_}: {what}")
        url, kind = response.type_url, KIND_OF.get(response.type_url, response.type_url)
        rule("R-C7/R-D5", response.nonce and response.nonce not in self.nonces,
             f"nonce {response.nonce!r} is empty or repeated")
        self.nonces.add(response.nonce)
        rule("R-C19", url in self.requested, f"unsolicited {url!r}")
        rule("R-O3", response.control_plane.identifier, "no control_plane.identifier")
        resources, versions, removed = {}, {}, set()
        for item in response.resources:
            any_ = item.resource if self.delta else item
            rule("R-C8", any_.type_url == url, f"{any_.type_url} inside {url}")
            body = KINDS[kind].message.FromString(any_.value)
            name = name_in(kind, body)
            rule("R-C9", name not in resources, f"{name} twice")
            resources[name] = KINDS[kind].revision(body)
            if self.delta:
                rule("R-C8", item.name == name, f"Resource.name {item.name!r} but {name!r} inside")
                rule("R-D4", item.version, f"{name} without version")
                versions[name] = item.version
        if self.delta:
            removed, version = set(response.removed_resources), response.system_version_info
            rule("R-C9", len(removed) == len(response.removed_resources), "a removed name twice")
            rule("R-C9", not removed & set(resources), f"{removed} both removed and present")
            rule("R-D26", version, "empty system_version_info")
        else:
            version = response.version_info
            rule("R-S21", version, "empty version_info")
            rule("R-C21", kind in WILD or resources, f"empty {kind} response")
        message = Message(kind, response.nonce, version, resources, versions, removed)
        self.latest[kind] = message
        return message

    # What the client says.

    def send(self, kind, **fields):
        """One request with exactly these fields, and the node when it is the stream's first."""
        if not self.node_sent:
            fields.setdefault("node", {"id": self.node})
            self.node_sent = True
        fields.setdefault("type_url", TYPE_URL.get(kind, kind))
        self.requested.add(fields["type_url"] or TYPE_URL.get(kind, kind))
        self.requests.put((DeltaDiscoveryRequest if self.delta else DiscoveryRequest)(**fields))

    def state_of(self, kind):
        latest = self.latest.get(kind)
        return {"resource_names": self.names.get(kind, []), "version_info": self.accepted.get(kind, ""),
                "response_nonce": latest.nonce if latest else ""}

    def ask(self, kind, *names, **fields):
        """The first request of a kind."""
        self.names[kind] = list(names)
        self.send(kind, **{"resource_names_subscribe" if self.delta else "resource_names": names}, **fields)

    def add(self, kind, *names):
        if self.delta:
            return self.send(kind, resource_names_subscribe=names)
        self.names[kind] = self.names[kind] + list(names)
        self.send(kind, **self.state_of(kind))

    def drop(self, kind, *names):
        if self.delta:
            return self.send(kind, resource_names_unsubscribe=names)
        self.names[kind] = [name for name in self.names[kind] if name not in names]
        self.send(kind, **self.state_of(kind))

    def ack(self, message, **fields):
        self.accepted[message.kind] = message.version
        self.answer(message, **fields)

    def nack(self, message, **fields):
        self.answer(message, error_detail={"code": 13, "message": "no good"}, **fields)

    def answer(self, message, **fields):
        if not self.delta:
            fields.setdefault("resource_names", self.names.get(message.kind, []))
            fields.setdefault("version_info", self.accepted.get(message.kind, ""))
        self.send(message.kind, response_nonce=message.nonce, **fields)

    # What the client hears.

    def next(self, within=DEADLINE, expected="a response"):
        try:
            event = self.events.get(timeout=within)
        except queue.Empty:
            raise Failure(f"expected {expected} within {within} s, came nothing") from None
        demand(isinstance(event, Message), expected, event)
        return event

    def expect(self, kind, changed, removed=(), full=None, within=DEADLINE, ack=True):
        """SotW CDS/LDS: exactly `full`. SotW others: `changed`, and no more than `full`. Delta: exactly
        `changed` and `removed`."""
        full = changed if full is None else full
        expected = f"{kind} {changed} removed={sorted(removed)}" if self.delta else f"{kind} {full}"
        message = self.next(within, expected)
        if self.delta:
            fits = message.resources == changed and message.removed == set(removed)
        elif kind in WILD:
            fits = message.resources == full
        else:
            fits = changed.items() <= message.resources.items() <= full.items()
        demand(fits and message.kind == kind, expected, summary(message))
        if ack:
            self.ack(message)
        return message

    def quiet(self, seconds=QUIET):
        try:
            event = self.events.get(timeout=seconds)
        except queue.Empty:
            return
        raise Failure(f"expected silence, came {summary(event)}")

    def settle(self, seconds=QUIET):
        """Acknowledges whatever comes until nothing does."""
        messages = []
        while True:
            try:
                event = self.events.get(timeout=seconds)
            except queue.Empty:
                return messages
            demand(isinstance(event, Message), "the stream goes on", event)
            self.ack(event)
            messages.append(event)

    def ends(self, *codes, within=DEADLINE):
        give_up = time.monotonic() + within
        while (left := give_up - time.monotonic()) > 0:
            try:
                event = self.events.get(timeout=left)
            except queue.Empty:
                break
            if isinstance(event, End):
                demand(event.code in codes, f"end with {[c.name for c in codes]}", event)
                return
        raise Failure(f"expected end with {[c.name for c in codes]} within {within} s, came nothing")

def rpc_path(service, delta):
    if service == "ads":
        verb = "Delta" if delta else "Stream"
        return f"/envoy.service.discovery.v3.AggregatedDiscoveryService/{verb}AggregatedResources"
    return typed_path(service, "Delta" if delta else "Stream")

def typed_path(kind, verb):
    return f"/envoy.service.{KINDS[kind].service}DiscoveryService/{verb}{KINDS[kind].plural}"

def summary(event):
    if isinstance(event, Message):
        resources, removed = str(event.resources)[:300], str(sorted(event.removed))[:200]
        return f"{event.kind} nonce {event.nonce}: {resources} removed={removed}"
    return event

class Case:
    """One check in one combination."""
    serial = itertools.count()

    def __init__(self, server, service, mode, kind, binary):
        self.server, self.service, self.mode, self.kind, self.binary = server, service, mode, kind, binary
        self.node, self.streams, self.channels, self.servers = f"node-{next(self.serial)}", [], [], []
        self.delta = mode == "delta"

    def put(self, resources):
        """The state has these resources of the case's kind, and nothing else."""
        self.server.set(**{self.kind: resources})

    def channel(self, server=None):
        self.channels.append((server or self.server).channel())
        return self.channels[-1]

    def stream(self, node=None, channel=None, server=None, reading=True):
        service = self.kind if self.service == "typed" else "ads"
        self.streams.append(Stream(channel or self.channel(server), self.mode, service,
                                   node or self.node, reading))
        return self.streams[-1]

    def subscribed(self, *names, state):
        """A stream that has asked for the kind and acknowledged what `state` holds of it."""
        stream = self.asked(state, *names)
        wanted = {n: r for n, r in state.items() if not names or "*" in names or n in names}
        first = stream.expect(self.kind, wanted)
        return stream, first

    def asked(self, state, *names, **fields):
        self.put(state)
        stream = self.stream()
        stream.ask(self.kind, *names, **fields)
        return stream

    def edit(self, stream, state, *effect, **more):
        self.put(state)
        return stream.expect(self.kind, *effect, **more)

    def edit_unseen(self, stream, state):
        self.put(state)
        stream.quiet()

    def own_server(self):
        self.servers.append(Server(self.binary))
        return self.servers[-1]

    def close(self):
        for stream in self.streams:
            stream.call.cancel()
            stream.requests.put(None)
        for channel in self.channels:
            channel.close()
        for server in self.servers:
            server.stop()

CHECKS = []

def check(kinds=("",), modes=("sotw", "delta"), services=("ads",)):
    def register(function):
        CHECKS.append((function, list(itertools.product(services, modes, kinds))))
        return function
    return register

SOTW, DELTA, BOTH_SERVICES = ("sotw",), ("delta",), ("ads", "typed")
Code = grpc.StatusCode

def of(text):
    """`of("a1 b2")` is {"a": "1", "b": "2"}."""
    return {item[0]: item[1:] for item in text.split()}

# 1.1 Common to both modes.

@check(ALL, services=BOTH_SERVICES)
def c1_node_only_in_the_first_request(case):
    stream, _ = case.subscribed("a", state=of("a1 b1"))
    stream.add(case.kind, "b")
    stream.expect(case.kind, of("b1"), full=of("a1 b1"))

@check(WILD)
def c2_a_node_repeated_with_other_metadata(case):
    stream, _ = case.subscribed("a", state=of("a1"))
    again = {"id": case.node, "metadata": {"fields": {"x": {"string_value": "y"}}}}
    stream.send(case.kind, node=again, **({} if case.delta else stream.state_of(case.kind)))
    stream.quiet()
    case.edit(stream, of("a2"), of("a2"))

@check(WILD, services=BOTH_SERVICES)
def c3_first_request_without_node(case):
    case.put(of("a1"))
    stream = case.stream()
    stream.node_sent = True
    stream.ask(case.kind)
    stream.ends(Code.INVALID_ARGUMENT)

@check()
def c4_empty_type_url_on_ads(case):
    stream = case.stream()
    stream.send("cds", type_url="")
    stream.ends(Code.INVALID_ARGUMENT)

@check()
def c5_unknown_types_are_ignored(case):
    case.server.set(cds=of("a1"))
    stream = case.stream()
    stream.ask(NOT_SERVED)
    stream.ask(NOT_SERVED + "X", "name")
    stream.ask("cds")
    allowed = (message for message in iter(stream.next, None))
    first = next(m for m in allowed if not (case.delta and m.removed))
    demand(first.kind == "cds" and first.resources == of("a1"), "cds a", summary(first))
    stream.ack(first)
    stream.ask(NOT_SERVED)
    stream.ask(NOT_SERVED, "other")
    case.server.set(cds=of("a2"))
    later = next(m for m in allowed if not (case.delta and m.removed))
    demand(later.kind == "cds" and later.resources == of("a2"), "cds a 2", summary(later))

@check(ALL)
def c6_types_are_walled_off(case):
    state = {kind: of("a1") for kind in ALL}
    case.server.set(**state)
    stream = case.stream()
    first = {}
    for kind in ALL:
        stream.ask(kind, "a")
        first[kind] = stream.expect(kind, of("a1"))
    case.server.set(**state | {case.kind: of("a2")})
    changed = stream.expect(case.kind, of("a2"))
    demand(changed.version != first[case.kind].version, "another version", changed.version)
    stream.quiet()
    for kind in ALL:
        if kind != case.kind:
            other = case.stream()
            other.ask(kind, "a")
            same = other.expect(kind, of("a1"))
            demand(same.version == first[kind].version, "the version is kept", same.version)

@check(ALL, services=BOTH_SERVICES)
def c7_c8_c9_every_response_is_well_formed(case):
    stream, _ = case.subscribed("a", "b", state=of("a1 b1 c1"))
    for revision in "2345":
        case.edit(stream, {"a": revision, "b": revision}, {"a": revision, "b": revision})

@check(WILD)
def c9_no_duplicates_for_wildcard_and_name(case):
    stream = case.asked(of("a1 b1"), "*", "a", "a")
    stream.expect(case.kind, of("a1 b1"))

@check(ALL, SOTW, BOTH_SERVICES)
def c11_another_version_is_no_nack(case):
    stream = case.asked(of("a1"), "a")
    first = stream.expect(case.kind, of("a1"), ack=False)
    stream.answer(first, version_info="something else")
    stream.quiet()
    case.edit(stream, of("a2"), of("a2"), within=AT_ONCE)

@check(ALL, services=BOTH_SERVICES)
def c12_c13_no_loop_after_a_nack_and_the_next_change_at_once(case):
    stream, _ = case.subscribed("a", state=of("a1"))
    stream.nack(case.edit(stream, of("a2"), of("a2"), ack=False))
    stream.quiet(4 * QUIET)
    case.edit(stream, of("a3"), of("a3"), within=AT_ONCE)

@check(ALL)
def c12_a_change_outside_the_subscription_repeats_nothing(case):
    stream, _ = case.subscribed("a", state=of("a1 b1"))
    stream.nack(case.edit(stream, of("a2 b1"), of("a2"), ack=False))
    stream.quiet()
    case.edit_unseen(stream, of("a2 b2"))

@check(("cds", "eds"))
def c12_no_repetition_even_after_the_way_out(case):
    stream, _ = case.subscribed("a", state=of("a1"))
    stream.nack(case.edit(stream, of("a2"), of("a2"), ack=False))
    stream.quiet(CDS_ACK_DEADLINE + 0.5)

@check(ALL)
def c12_first_response_rejected(case):
    stream = case.asked(of("a1"), "a")
    stream.nack(stream.expect(case.kind, of("a1"), ack=False))
    stream.quiet()
    case.edit(stream, of("a2"), of("a2"), within=AT_ONCE)

@check(ALL)
def c14_a_nack_never_holds_back_another_type(case):
    state = {kind: of("a1") for kind in ALL}
    case.server.set(**state)
    stream = case.stream()
    for kind in ALL:
        stream.ask(kind, "a")
        stream.expect(kind, of("a1"))
    state[case.kind] = of("a2")
    case.server.set(**state)
    stream.nack(stream.expect(case.kind, of("a2"), ack=False))
    for kind in ALL:
        if kind != case.kind:
            state[kind] = of("a2")
            case.server.set(**state)
            stream.expect(kind, of("a2"), within=AT_ONCE)

@check(("lds", "rds"))
def c14_a_nack_of_cds_lets_the_rest_of_the_edit_go(case):
    case.server.set(**{"cds": of("a1"), case.kind: of("r1")})
    stream = case.stream()
    stream.ask("cds")
    stream.expect("cds", of("a1"))
    stream.ask(case.kind, "r")
    stream.expect(case.kind, of("r1"))
    case.server.set(**{"cds": of("a2"), case.kind: of("r2")})
    stream.nack(stream.expect("cds", of("a2"), ack=False))
    stream.expect(case.kind, of("r2"), within=AT_ONCE)

@check(ALL, services=BOTH_SERVICES)
def c15_subscription_changes_inside_a_nack_count(case):
    stream, _ = case.subscribed("a", state=of("a1 b1 c1"))
    rejected = case.edit(stream, of("a2 b1 c1"), of("a2"), ack=False)
    stream.names[case.kind] = ["a", "b"]
    stream.nack(rejected, **({"resource_names_subscribe": ["b"]} if case.delta else {}))
    answer = stream.next(expected="b, asked for in the NACK")
    demand(answer.resources.get("b") == "1" and "c" not in answer.resources, "b", summary(answer))

def edit_everything(case):
    case.server.set(**{kind: of("a1") for kind in ALL})
    stream = case.stream()
    for kind in ("rds", "sds", "lds", "eds", "cds"):
        stream.ask(kind, "a")
        stream.expect(kind, of("a1"))
    # The server has read the last answer: a type with an answer to come is passed by others.
    stream.settle()
    case.server.set(**{kind: of("a2") for kind in ALL})
    return stream

@check()
def c17_one_edit_goes_out_cds_eds_lds_rds(case):
    stream, order = edit_everything(case), []
    for _ in ALL:
        message = stream.next()
        stream.ack(message)
        order.append(message.kind)
    order.remove("sds")
    demand(order == ["cds", "eds", "lds", "rds"], "cds eds lds rds", order)
    stream.quiet()

@check(("lds", "rds"))
def c17b_removed_clusters_go_after_the_ack_of_the_routes(case):
    case.server.set(**{"cds": {"old": "1"}, case.kind: of("r1")})
    stream = case.stream()
    stream.ask("cds")
    stream.expect("cds", {"old": "1"})
    stream.ask(case.kind, "r")
    stream.expect(case.kind, of("r1"))
    case.server.set(**{"cds": {"new": "1"}, case.kind: of("r2")})
    stream.expect("cds", {"new": "1"}, full={"old": "1", "new": "1"})
    routes = stream.expect(case.kind, of("r2"), ack=False)
    stream.quiet()
    stream.ack(routes)
    stream.expect("cds", {}, {"old"}, full={"new": "1"}, within=AT_ONCE)
    stream.quiet()

@check()
def c17b_removed_clusters_wait_for_listeners_and_routes(case):
    case.server.set(cds={"keep": "1", "old": "1"}, lds=of("l1"), rds=of("r1"))
    stream = case.stream()
    stream.ask("cds")
    stream.expect("cds", {"keep": "1", "old": "1"})
    for kind, name in (("lds", "l"), ("rds", "r")):
        stream.ask(kind, name)
        stream.expect(kind, {name: "1"})
    case.server.set(cds={"keep": "1"}, lds=of("l2"), rds=of("r2"))
    message = stream.next()
    if message.kind == "cds":
        demand(not case.delta and "old" in message.resources, "old still there", summary(message))
        stream.ack(message)
        message = stream.next()
    demand(message.kind == "lds" and message.resources == of("l2"), "lds l 2", summary(message))
    stream.ack(message)
    routes = stream.expect("rds", of("r2"), ack=False)
    stream.quiet()
    stream.ack(routes)
    stream.expect("cds", {}, {"old"}, full={"keep": "1"}, within=AT_ONCE)

@check()
def c17b_a_removal_alone_goes_at_once(case):
    case.server.set(cds=of("a1 b1"), rds=of("r1"))
    stream = case.stream()
    stream.ask("cds")
    stream.expect("cds", of("a1 b1"))
    stream.ask("rds", "r")
    stream.expect("rds", of("r1"))
    case.server.set(cds=of("a1"), rds=of("r1"))
    stream.expect("cds", {}, {"b"}, full=of("a1"), within=AT_ONCE)

def clusters_and_routes_edited(case):
    case.server.set(**{"cds": of("a1"), case.kind: of("r1")})
    stream = case.stream()
    stream.ask("cds")
    stream.expect("cds", of("a1"))
    stream.ask(case.kind, "r")
    stream.expect(case.kind, of("r1"))
    case.server.set(**{"cds": of("a1 b1"), case.kind: of("r2")})
    clusters = stream.expect("cds", of("b1"), full=of("a1 b1"), ack=False)
    return stream, clusters

@check(("lds", "rds"))
def c17c_routes_wait_for_the_ack_of_the_clusters(case):
    stream, clusters = clusters_and_routes_edited(case)
    stream.quiet(3 * QUIET)
    stream.ack(clusters)
    stream.expect(case.kind, of("r2"), within=AT_ONCE)

@check(("lds", "rds"))
def c17c_routes_do_not_wait_for_ever(case):
    stream, _ = clusters_and_routes_edited(case)
    started = time.monotonic()
    stream.expect(case.kind, of("r2"))
    waited = time.monotonic() - started
    demand(1.9 < waited < 3.1, f"routes after {CDS_ACK_DEADLINE} s", f"after {waited:.2f} s")

@check()
def c17c_endpoints_and_first_answers_do_not_wait(case):
    case.server.set(**{kind: of("a1") for kind in ALL})
    stream = case.stream()
    stream.ask("cds")
    stream.expect("cds", of("a1"), ack=False)
    for kind in ("eds", "lds", "rds", "sds"):
        stream.ask(kind, "a")
        stream.expect(kind, of("a1"), within=AT_ONCE)
    case.server.set(**{kind: of("a1") for kind in ALL} | {"eds": of("a2"), "sds": of("a2")})
    for _ in range(2):
        demand(stream.next(AT_ONCE, "eds and sds").kind in ("eds", "sds"), "eds and sds", "another")

@check(ALL, services=BOTH_SERVICES)
def c18_named_on_a_new_stream_is_answered_although_current(case):
    stream, first = case.subscribed("a", state=of("a1"))
    again = case.stream()
    if case.delta:
        again.ask(case.kind, "a", initial_resource_versions=first.versions)
    else:
        again.ask(case.kind, "a", version_info=first.version)
    if case.kind in NAMED:
        again.expect(case.kind, of("a1"))
    else:
        again.settle()
    case.put(of("a2"))
    again.expect(case.kind, of("a2"))
    stream.expect(case.kind, of("a2"))

@check(("ack first", "ask first"), SOTW)
def c18_endpoints_asked_again_after_a_cluster_change(case):
    case.server.set(cds=of("c1"), eds=of("e1"))
    stream = case.stream()
    stream.ask("cds")
    stream.expect("cds", of("c1"))
    stream.ask("eds", "e")
    stream.expect("eds", of("e1"))
    for revision in "23":
        case.server.set(cds={"c": revision}, eds=of("e1"))
        clusters = stream.expect("cds", {"c": revision}, ack=case.kind == "ack first")
        stream.quiet()
        stream.send("eds", **stream.state_of("eds"))
        stream.expect("eds", of("e1"))
        if case.kind == "ask first":
            stream.ack(clusters)
        stream.quiet()

@check(ALL)
def c19_no_type_without_a_subscription(case):
    stream, _ = case.subscribed("a", state=of("a1"))
    case.server.set(**{kind: of("a2") for kind in ALL})
    stream.expect(case.kind, of("a2"))
    stream.quiet()

@check(WILD, services=BOTH_SERVICES)
def c20_d3_an_empty_wildcard_is_answered(case):
    for names in ((), ("*",)):
        case.server.set(sds=of("s1"))
        stream = case.stream()
        stream.ask(case.kind, *names)
        stream.expect(case.kind, {}, within=AT_ONCE)
        stream.quiet()
        case.edit(stream, of("a1"), of("a1"))
        # Streams of one node that are open at once may be told what the others were not seen to take in.
        case.node += " again"

@check(NAMED, SOTW, BOTH_SERVICES)
def c21_s14_no_empty_responses(case):
    stream, _ = case.subscribed("a", "b", "missing", state=of("a1 b1"))
    case.edit_unseen(stream, of("b1"))
    case.edit_unseen(stream, {})
    case.edit(stream, of("b2"), of("b2"))
    case.edit(stream, of("a1 b2"), of("a1"), full=of("a1 b2"))

@check(NAMED, services=BOTH_SERVICES)
def c22_no_wildcard_for_routes_endpoints_and_secrets(case):
    stream = case.asked(of("a1 b1"))
    stream.quiet()
    case.edit_unseen(stream, of("a2 b1"))
    stream.add(case.kind, "b")
    stream.expect(case.kind, of("b1"))

@check(ALL)
def c23_unknown_names_are_opaque(case):
    odd = ["xdstp://authority/envoy.config.cluster.v3.Cluster/x?k=v", "xdstp://authority/type/*", "", "ü/ *"]
    stream, _ = case.subscribed("a", state=of("a1"))
    stream.add(case.kind, *odd)
    stream.settle()
    case.edit(stream, {"a": "2", odd[0]: "1"}, {"a": "2", odd[0]: "1"})

@check(ALL, services=BOTH_SERVICES)
def c24_c25_streams_are_independent(case):
    case.put(of("a1 b1"))
    channel = case.channel()
    first, second = case.stream(channel=channel), case.stream(channel=channel)
    first.ask(case.kind, "a")
    second.ask(case.kind, "b")
    rejected = first.expect(case.kind, of("a1"), ack=False)
    second.expect(case.kind, of("b1"))
    first.nack(rejected)
    first.quiet()
    second.quiet()
    case.put(of("a2 b2"))
    first.expect(case.kind, of("a2"), within=AT_ONCE)
    second.expect(case.kind, of("b2"), within=AT_ONCE)
    second.drop(case.kind, "b")
    second.settle()
    first.call.cancel()
    second.add(case.kind, "a")
    second.expect(case.kind, of("a2"))

# 1.2 State of the world.

@check(WILD, SOTW, BOTH_SERVICES)
def s2_s3_s8_wildcards_get_the_complete_set(case):
    for names in ((), ("*",)):
        stream, _ = case.subscribed(*names, state=of("a1 b1"))
        case.edit(stream, of("a1 b2 c1"), of("a1 b2 c1"))
        stream.quiet()

@check(WILD, SOTW, BOTH_SERVICES)
def s4_s5_s6_from_wildcard_to_names_to_nothing(case):
    stream, _ = case.subscribed(state=of("a1 b1"))
    stream.names[case.kind] = ["*", "a"]
    stream.send(case.kind, **stream.state_of(case.kind))
    stream.settle()
    case.edit(stream, of("a1 b2"), of("a1 b2"))
    stream.drop(case.kind, "*")
    for message in stream.settle():
        demand(message.resources == of("a1"), "at most a", summary(message))
    case.edit_unseen(stream, of("a1 b3"))
    case.edit(stream, of("a2 b3"), of("a2"))
    stream.drop(case.kind, "a")
    for message in stream.settle():
        demand(message.resources == {}, "nothing subscribed", summary(message))
    case.edit_unseen(stream, of("a3 b4"))

@check(ALL, SOTW, BOTH_SERVICES)
def s7_s8_s9_named_subscriptions(case):
    stream, _ = case.subscribed("a", "b", "missing", state=of("a1 b1 c1"))
    case.edit(stream, of("a2 b1 c2"), of("a2"), full=of("a2 b1"))
    case.edit_unseen(stream, of("a2 b1 c3"))

@check(ALL, services=BOTH_SERVICES)
def s10_an_added_name_is_sent_although_unchanged(case):
    stream, _ = case.subscribed("a", state=of("a1 b1"))
    stream.add(case.kind, "b")
    stream.expect(case.kind, of("b1"), full=of("a1 b1"))
    stream.quiet()

@check(WILD, services=BOTH_SERVICES)
def s10_a_name_added_to_a_wildcard_is_sent(case):
    stream, _ = case.subscribed("*", state=of("a1 b1"))
    stream.add(case.kind, "b")
    stream.expect(case.kind, of("b1"), full=of("a1 b1"))
    stream.quiet()

@check(ALL, services=BOTH_SERVICES)
def s11_a_name_dropped_and_added_again_is_sent_again(case):
    stream, _ = case.subscribed("a", "b", state=of("a1 b1"))
    stream.drop(case.kind, "b")
    stream.settle()
    stream.add(case.kind, "b")
    stream.expect(case.kind, of("b1"), full=of("a1 b1"))

@check(ALL, services=BOTH_SERVICES)
def s12_missing_names_are_remembered(case):
    stream = case.asked(of("a1"), "a", "b")
    stream.expect(case.kind, of("a1"), {"b"} if case.kind != "rds" else ())
    stream.quiet()
    case.edit(stream, of("a1 b1"), of("b1"), full=of("a1 b1"))

@check(WILD, SOTW, BOTH_SERVICES)
def s13_deleted_is_left_out(case):
    stream, _ = case.subscribed(state=of("a1 b1"))
    case.edit(stream, of("b1"), of("b1"))
    case.edit(stream, {}, {})
    case.edit(stream, of("b1"), of("b1"))

@check(ALL, services=BOTH_SERVICES)
def s15_d20_an_ack_is_not_answered(case):
    stream, first = case.subscribed("a", state=of("a1"))
    stream.quiet()
    stream.ack(first)
    stream.quiet()

@check(ALL, SOTW, BOTH_SERVICES)
def s15b_dropped_names_are_not_pushed(case):
    stream, _ = case.subscribed("a", "b", state=of("a1 b1"))
    stream.drop(case.kind, "b")
    stream.settle()
    case.edit_unseen(stream, of("a1 b2"))
    case.edit(stream, of("a2 b2"), of("a2"))

@check(ALL, SOTW, BOTH_SERVICES)
def s16_an_identical_request_is_not_answered(case):
    stream, _ = case.subscribed("a", state=of("a1"))
    for _ in range(3):
        stream.send(case.kind, **stream.state_of(case.kind))
    stream.quiet()
    case.edit(stream, of("a2"), of("a2"))
    stream.quiet()

@check(ALL, SOTW, BOTH_SERVICES)
def s17_a_stale_nonce_is_not_answered(case):
    stream, first = case.subscribed("a", state=of("a1 b1"))
    second = case.edit(stream, of("a2 b1"), of("a2"), ack=False)
    stream.names[case.kind] = ["a", "b"]
    stream.answer(first)
    stream.quiet()
    stream.ack(second)
    stream.expect(case.kind, of("b1"), full=of("a2 b1"))

@check(ALL, SOTW, BOTH_SERVICES)
def s17_of_two_first_requests_the_later_counts(case):
    stream = case.asked(of("a1 b1"), "a")
    stream.ask(case.kind, "b")
    last = stream.next()
    if "b" not in last.resources:
        last = stream.next(expected="b, named by the later request")
    demand(last.resources == of("b1"), "b", summary(last))
    stream.ack(last)
    case.edit_unseen(stream, of("a2 b1"))
    case.edit(stream, of("a2 b2"), of("b2"))

@check(ALL, services=BOTH_SERVICES)
def s18_one_response_in_flight_and_then_the_newest(case):
    stream = case.asked(of("a1"), "a")
    first = stream.expect(case.kind, of("a1"), ack=False)
    case.put(of("a2"))
    case.edit_unseen(stream, of("a3"))
    stream.ack(first)
    stream.expect(case.kind, of("a3"), within=AT_ONCE)
    stream.quiet()

@check(ALL, services=BOTH_SERVICES)
def s18_way_out_without_an_ack(case):
    stream = case.asked(of("a1"), "a")
    stream.expect(case.kind, of("a1"), ack=False)
    started = time.monotonic()
    second = case.edit(stream, of("a2"), of("a2"), ack=False)
    waited = time.monotonic() - started
    demand(0.9 < waited < 2.5, f"the second response after 1 to {WAY_OUT} s", f"after {waited:.2f} s")
    stream.ack(second)
    case.edit(stream, of("a3"), of("a3"), within=AT_ONCE)

@check(WILD, SOTW, BOTH_SERVICES)
def s19_first_request_with_a_version(case):
    _, old = case.subscribed(state=of("a1"))
    equal = case.stream()
    equal.ask(case.kind, version_info=old.version)
    for message in equal.settle():
        demand(message.resources == of("a1"), "a or nothing", summary(message))
    case.put(of("a2"))
    equal.expect(case.kind, of("a2"))
    differing = case.stream()
    differing.ask(case.kind, version_info=old.version)
    differing.expect(case.kind, of("a2"))

@check(ALL, services=BOTH_SERVICES)
def s20_first_request_with_a_foreign_nonce(case):
    _, first = case.subscribed("a", state=of("a1"))
    for nonce in (first.nonce, "no such nonce"):
        stream = case.stream()
        stream.ask(case.kind, "a", response_nonce=nonce)
        stream.expect(case.kind, of("a1"))
        stream.quiet()

@check(ALL)
def s21_d4_versions_depend_on_content_only(case):
    seen = []
    for names in ("abc", "cba"):
        server = case.own_server()
        server.set(**{case.kind: of("z9")})
        if names == "cba":
            server.set(**{case.kind: of("a2 b3")})
        server.set(**{case.kind: {name: "1" for name in names}})
        stream = case.stream(server=server)
        stream.ask(case.kind, "a", "b", "c")
        message = stream.expect(case.kind, of("a1 b1 c1"))
        seen.append((message.version, message.versions))
    demand(seen[0] == seen[1], "equal versions", seen)

@check(ALL)
def s21_d4_versions_differ_with_content_and_come_back_with_it(case):
    stream, first = case.subscribed("a", "b", state=of("a1 b1"))
    second = case.edit(stream, of("a2 b1"), of("a2"), full=of("a2 b1"))
    third = case.edit(stream, of("a1 b1"), of("a1"), full=of("a1 b1"))
    demand(first.version == third.version != second.version, "same content, same version",
           (first.version, second.version, third.version))
    if case.delta:
        a = [m.versions["a"] for m in (first, second, third)]
        demand(a[0] == a[2] != a[1], "same resource, same version", a)

@check(ALL, services=BOTH_SERVICES)
def s22_the_same_content_again_is_not_pushed(case):
    stream, _ = case.subscribed("a", "b", state=of("a1 b1"))
    case.edit_unseen(stream, of("b1 a1"))
    case.edit(stream, of("b2 a1"), of("b2"), full=of("a1 b2"))

@check(ALL, services=BOTH_SERVICES)
def s23_a_burst_ends_at_the_newest_state(case):
    stream, _ = case.subscribed("a", state={"a": "000"})
    newest, previous = "100", "000"
    burst = threading.Thread(target=lambda: [case.put({"a": f"{n:03}"}) for n in range(1, 101)])
    burst.start()
    while previous != newest:
        message = stream.next()
        revision = message.resources.get("a", "gone")
        demand(previous < revision <= newest, f"newer than {previous}", revision)
        previous = revision
        stream.ack(message)
    burst.join()
    stream.quiet()

@check(ALL, services=BOTH_SERVICES)
def s24_going_back_after_a_nack_is_pushed(case):
    stream, _ = case.subscribed("a", "b", state=of("a1 b1"))
    stream.nack(case.edit(stream, of("a2 b1"), of("a2"), full=of("a2 b1"), ack=False))
    stream.quiet()
    case.edit(stream, of("a1 b1"), of("a1"), full=of("a1 b1"), within=AT_ONCE)

# 1.3 Delta.

@check(WILD, DELTA, BOTH_SERVICES)
def d1_d2_d16_d17_d18_wildcards_get_only_what_changed(case):
    for names in ((), ("*",)):
        stream, _ = case.subscribed(*names, state=of("a1 b1"))
        case.edit(stream, of("a2 b1 c1"), of("a2 c1"))
        case.edit(stream, of("a2 c1"), {}, {"b"})
        case.edit(stream, of("a2 b1 c1"), of("b1"))
        stream.quiet()
        case.node += " again"

@check(ALL, DELTA, BOTH_SERVICES)
def d6_d16_d17_d18_named_subscriptions_get_only_what_changed(case):
    stream, _ = case.subscribed("a", "b", state=of("a1 b1 c1"))
    case.edit(stream, of("a2 b1 c2"), of("a2"))
    case.edit_unseen(stream, of("a2 b1"))
    case.edit(stream, of("a2"), {}, {"b"})
    case.edit(stream, of("a2 b1"), of("b1"))

@check(ALL, DELTA, BOTH_SERVICES)
def d7_a_missing_name_is_removed_but_a_missing_route_is_silence(case):
    stream = case.asked({"other": "1"}, "a")
    if case.kind == "rds":
        stream.quiet(3 * QUIET)
    else:
        stream.expect(case.kind, {}, {"a"}, within=AT_ONCE)
        stream.quiet()
    case.edit(stream, of("a1"), of("a1"))

@check(ALL, DELTA, BOTH_SERVICES)
def d8_subscribing_again_sends_again(case):
    stream, _ = case.subscribed("a", "b", state=of("a1 b1"))
    for _ in range(2):
        stream.add(case.kind, "a")
        stream.expect(case.kind, of("a1"))
    stream.quiet()

@check(WILD, DELTA, BOTH_SERVICES)
def d9_asking_for_the_wildcard_again_sends_everything_again(case):
    for names in ((), ("*",)):
        stream, _ = case.subscribed(*names, state=of("a1 b1"))
        stream.add(case.kind, "*")
        stream.expect(case.kind, of("a1 b1"))
        stream.quiet()

@check(ALL, DELTA, BOTH_SERVICES)
def d10_d11_unsubscribed_and_phantom_names(case):
    stream, _ = case.subscribed("a", "b", state=of("a1 b1 c1"))
    stream.drop(case.kind, "b", "c", "never heard of")
    stream.quiet()
    case.edit_unseen(stream, of("a1 b2"))
    case.edit(stream, of("a2"), of("a2"))

@check(ALL, DELTA, BOTH_SERVICES)
def d12_subscribe_is_applied_before_unsubscribe(case):
    case.put(of("a1 b1"))
    stream = case.stream()
    names = ["*"] if case.kind in WILD else ["a"]
    stream.send(case.kind, resource_names_subscribe=names, resource_names_unsubscribe=names)
    stream.quiet()
    case.edit_unseen(stream, of("a2 b1"))
    stream.add(case.kind, "b")
    stream.expect(case.kind, of("b1"))

@check(WILD, DELTA, BOTH_SERVICES)
def d13_a_name_dropped_under_a_wildcard(case):
    stream, _ = case.subscribed("*", state=of("a1 b1"))
    stream.add(case.kind, "a", "missing")
    stream.expect(case.kind, of("a1"), {"missing"})
    stream.drop(case.kind, "a")
    stream.expect(case.kind, of("a1"))
    stream.drop(case.kind, "missing")
    stream.expect(case.kind, {}, {"missing"})
    case.edit(stream, of("a2 b1"), of("a2"))

@check(WILD, DELTA, BOTH_SERVICES)
def d14_d15_the_wildcard_dropped_leaves_the_names_and_never_comes_back(case):
    for names in ((), ("*",)):
        stream, _ = case.subscribed(*names, state=of("a1 b1"))
        stream.add(case.kind, "a")
        stream.expect(case.kind, of("a1"))
        stream.drop(case.kind, "*")
        stream.quiet()
        case.edit_unseen(stream, of("a1 b2"))
        case.edit(stream, of("a2 b2"), of("a2"))
        stream.drop(case.kind, "a")
        stream.send(case.kind)
        stream.quiet()
        case.edit_unseen(stream, of("a3 b3"))

@check(WILD, DELTA, BOTH_SERVICES)
def d15_names_first_then_empty_is_no_wildcard(case):
    stream, _ = case.subscribed("a", state=of("a1 b1"))
    stream.drop(case.kind, "a")
    stream.send(case.kind)
    stream.quiet()
    case.edit_unseen(stream, of("a2 b2"))

@check(WILD, DELTA, BOTH_SERVICES)
def d19_initial_resource_versions(case):
    _, first = case.subscribed(state={"same": "1", "changed": "1", "gone": "1"})
    case.put({"same": "1", "changed": "2", "new": "1"})
    stream = case.stream(node=case.node + " again")
    stream.ask(case.kind, initial_resource_versions=first.versions)
    message = stream.next()
    message.resources.pop("same", None)
    demand(message.resources == {"changed": "2", "new": "1"} and message.removed == {"gone"},
           "changed 2, new 1, gone removed", summary(message))
    stream.ack(message)
    case.edit(stream, {"same": "2", "changed": "2", "new": "1"}, {"same": "2"})

@check(NAMED, DELTA, BOTH_SERVICES)
def d19_initial_resource_versions_of_named_resources(case):
    _, first = case.subscribed("same", "changed", "gone", state={"same": "1", "changed": "1", "gone": "1"})
    case.put({"same": "1", "changed": "2"})
    stream = case.stream(node=case.node + " again")
    stream.ask(case.kind, "same", "changed", "gone", initial_resource_versions=first.versions)
    stream.expect(case.kind, {"same": "1", "changed": "2"}, {"gone"})

def rejected_edit(case):
    """Reports a1 and b1 as accepted; the removal of b, the change of a and the new d were rejected."""
    names = () if case.kind in WILD else ("a", "b", "c", "d")
    stream = case.asked(of("a1 b1 c1"), *names)
    first = stream.next()
    stream.ack(first)
    stream.nack(case.edit(stream, of("a2 c1 d1"), of("a2 d1"), {"b"}, ack=False))
    stream.quiet()
    return stream, first, names

@check(ALL, DELTA, BOTH_SERVICES)
def d22_a_rollback_after_a_nack_is_a_real_difference(case):
    stream, _, _ = rejected_edit(case)
    case.edit(stream, of("a1 b1 c1"), of("a1 b1"), {"d"}, within=AT_ONCE)
    stream.quiet()

@check(ALL, DELTA, BOTH_SERVICES)
def d22_rejected_names_go_again_with_the_next_change(case):
    stream, _, _ = rejected_edit(case)
    case.edit(stream, of("a2 c2 d1"), of("a2 c2 d1"), {"b"}, within=AT_ONCE)
    case.edit(stream, of("a2 c3 d1"), of("c3"), within=AT_ONCE)

@check(ALL, DELTA, BOTH_SERVICES)
def d22_after_a_nack_a_reconnecting_client_is_not_believed(case):
    stream, first, names = rejected_edit(case)
    stream.call.cancel()
    case.put(of("a1 b1 c1"))
    again = case.stream()
    again.ask(case.kind, *names, initial_resource_versions=first.versions)
    message = again.next(AT_ONCE, "a and b again, d removed")
    message.resources.pop("c", None)
    demand(message.resources == of("a1 b1") and ("d" in message.removed or case.kind == "rds"),
           "a 1 and b 1, d removed", summary(message))
    again.ack(message)
    again.quiet()

@check(ALL, DELTA, BOTH_SERVICES)
def d23_subscription_changes_count_with_a_stale_nonce(case):
    stream, first = case.subscribed("a", state=of("a1 b1"))
    case.edit(stream, of("a2 b1"), of("a2"))
    stream.send(case.kind, response_nonce=first.nonce, resource_names_subscribe=["b"])
    stream.expect(case.kind, of("b1"), within=AT_ONCE)
    stream.send(case.kind, response_nonce=first.nonce, resource_names_unsubscribe=["a"])
    stream.quiet()
    case.edit_unseen(stream, of("a3 b1"))

@check(ALL, DELTA, BOTH_SERVICES)
def d24_unknown_nonces_are_ignored(case):
    stream, _ = case.subscribed("a", state=of("a1"))
    stream.send(case.kind, response_nonce="no such nonce")
    stream.send(case.kind, response_nonce="no such nonce", error_detail={"code": 13})
    stream.quiet()
    case.edit(stream, of("a2"), of("a2"), within=AT_ONCE)

@check(ALL, DELTA)
def d24_each_nonce_settles_its_own_response(case):
    stream = case.asked(of("a1 b1"), "a", "b")
    first = stream.expect(case.kind, of("a1 b1"), ack=False)
    second = case.edit(stream, of("a2 b1"), of("a2"), ack=False)
    stream.ack(second)
    stream.nack(first)
    stream.quiet()
    case.put(of("a2 b2"))
    message = stream.next(AT_ONCE, "b 2")
    demand(message.resources.get("b") == "2", "b 2", summary(message))

@check(ALL, DELTA)
def d26_system_version_info_follows_the_revision(case):
    stream, first = case.subscribed("a", state=of("a1"))
    second = case.edit(stream, of("a2"), of("a2"))
    demand(first.version != second.version, "another system_version_info", second.version)

@check(ALL, DELTA)
def d29_initial_resource_versions_count_only_in_the_first_request(case):
    stream, first = case.subscribed("a", state=of("a1 b1"))
    stream.send(case.kind, resource_names_subscribe=["b"],
                initial_resource_versions={"a": "old", "gone": "old", "b": "old"})
    stream.expect(case.kind, of("b1"))
    stream.quiet()

@check(ALL, DELTA, BOTH_SERVICES)
def d30_subscription_changes_in_acks_and_alone(case):
    stream = case.asked(of("a1 b1 c1"), "a")
    first = stream.expect(case.kind, of("a1"), ack=False)
    stream.ack(first, resource_names_subscribe=["b"], resource_names_unsubscribe=["a"])
    stream.expect(case.kind, of("b1"))
    stream.add(case.kind, "c")
    stream.expect(case.kind, of("c1"))
    stream.quiet()
    case.edit_unseen(stream, of("a2 b1 c1"))

# 1.4 Services and life cycle.

@check(ALL, services=("typed",))
def n1_n3_typed_services_imply_the_type(case):
    stream = case.asked(of("a1"), "a", type_url="")
    first = stream.expect(case.kind, of("a1"), ack=False)
    stream.ack(first, type_url="")
    case.edit(stream, of("a2"), of("a2"), within=AT_ONCE)

@check(ALL, services=("typed",))
def n2_a_foreign_type_on_a_typed_service(case):
    case.put(of("a1"))
    for order in ("first", "later"):
        stream = case.stream()
        if order == "later":
            stream.ask(case.kind, "a")
            stream.expect(case.kind, of("a1"))
        stream.send(next(kind for kind in ALL if kind != case.kind))
        stream.ends(Code.INVALID_ARGUMENT)

@check(ALL, SOTW, ("typed",))
def n5_fetch(case):
    case.put(of("a1 b1"))
    fetch = case.channel().unary_unary(typed_path(case.kind, "Fetch"), DiscoveryRequest.SerializeToString,
                                       DiscoveryResponse.FromString)
    for url in (TYPE_URL[case.kind], ""):
        got = fetch(DiscoveryRequest(node={"id": case.node}, type_url=url, resource_names=["a"]), timeout=DEADLINE)
        names = [name_in(case.kind, KINDS[case.kind].message.FromString(any_.value)) for any_ in got.resources]
        demand(names == ["a"] and got.version_info and got.type_url == TYPE_URL[case.kind], "a", got)

@check(modes=("",))
def n7_unknown_methods(case):
    for path in ("/envoy.service.discovery.v3.AggregatedDiscoveryService/Nothing", "/no.such.Service/Nothing",
                 "/envoy.service.route.v3.VirtualHostDiscoveryService/DeltaVirtualHosts"):
        try:
            case.channel().unary_unary(path)(b"", timeout=DEADLINE)
            raise Failure("expected UNIMPLEMENTED, came an answer")
        except grpc.RpcError as error:
            demand(error.code() == Code.UNIMPLEMENTED, "UNIMPLEMENTED", error.code())

@check(WILD, services=BOTH_SERVICES)
def l1_a_half_close_ends_the_stream(case):
    stream, _ = case.subscribed(state=of("a1"))
    stream.requests.put(None)
    stream.ends(Code.OK)

@check()
def l2_nothing_is_left_of_a_hundred_clients(case):
    case.server.set(cds=of("a1"))

    def come_and_go(times):
        for n in range(times):
            stream = case.stream(node=f"passing {n % 5}")
            stream.ask("cds")
            stream.expect("cds", of("a1"), ack=n % 2 == 0)
            stream.call.cancel()
            case.channels.pop().close()
    come_and_go(20)
    time.sleep(0.3)
    files, memory = case.server.open_files(), case.server.memory_mib()
    come_and_go(100)
    give_up = time.monotonic() + DEADLINE
    while case.server.open_files() > files and time.monotonic() < give_up:
        time.sleep(0.05)
    demand(case.server.open_files() <= files, f"{files} open files", case.server.open_files())
    grown = case.server.memory_mib() - memory
    demand(grown < 8, "less than 8 MiB more", f"{grown:.1f} MiB")

@check()
def l3_sigint_ends_streams_with_unavailable(case):
    server = case.own_server()
    server.set(cds=of("a1"))
    streams = [case.stream(server=server) for _ in range(5)]
    for stream in streams[:4]:
        stream.ask("cds")
        stream.expect("cds", of("a1"), ack=stream is not streams[0])
    idle = case.channel(server)
    grpc.channel_ready_future(idle).result(DEADLINE)
    server.process.send_signal(signal.SIGINT)
    give_up = time.monotonic() + 3
    for stream in streams:
        stream.ends(Code.UNAVAILABLE, within=max(0.01, give_up - time.monotonic()))
    try:
        server.process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        raise Failure(f"expected the process ends within {DEADLINE} s, came nothing") from None

@check()
def l7_a_client_that_does_not_read_gets_the_newest_state(case):
    size = 400_000
    case.server.set(cds={"a": "000" + "x" * size})
    slow, quick = case.stream(reading=False), case.stream()
    slow.ask("cds")
    quick.ask("cds")
    quick.ack(quick.next())
    memory, edits = case.server.memory_mib(), 60
    for n in range(1, edits + 1):
        case.server.set(cds={"a": f"{n:03}" + "x" * size})
        message = quick.next(AT_ONCE, "a prompt client is not delayed")
        quick.ack(message)
        time.sleep(0.1)
    grown = case.server.memory_mib() - memory
    demand(grown < 20, "less than 20 MiB more for one slow client", f"{grown:.1f} MiB")
    slow.start_reading()
    for count in range(1, 9):
        message = slow.next()
        if message.resources["a"].startswith(f"{edits:03}"):
            return
    raise Failure(f"expected the newest state among {count} responses, came {message.resources['a'][:3]}")

@check(WILD, services=BOTH_SERVICES)
def l9_unavailable_before_the_first_state(case):
    server = case.own_server()
    channel = case.channel(server)
    grpc.channel_ready_future(channel).result(DEADLINE)
    stream = case.stream(channel=channel)
    stream.ask(case.kind)
    try:
        event = stream.next()
        raise Failure(f"expected UNAVAILABLE, came {summary(event)}")
    except Failure as failure:
        demand("UNAVAILABLE" in str(failure), "UNAVAILABLE", failure)
    server.set(**{case.kind: of("a1")})
    stream = case.stream(channel=channel)
    stream.ask(case.kind)
    stream.expect(case.kind, of("a1"))

@check(WILD, services=BOTH_SERVICES)
def l10_malformed_bytes_end_only_that_stream(case):
    case.put(of("a1"))
    channel = case.channel()
    healthy, broken, born_broken = (case.stream(channel=channel) for _ in range(3))
    for stream in (healthy, broken):
        stream.ask(case.kind)
        stream.expect(case.kind, of("a1"))
    for stream in (broken, born_broken):
        stream.requests.put(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
        stream.ends(Code.INTERNAL, Code.INVALID_ARGUMENT)
    case.put(of("a2"))
    healthy.expect(case.kind, of("a2"))

@check(("eds", "cds"))
def l11_twenty_thousand_names(case):
    state = {f"{'n' * 250}{n}": "1" for n in range(20_000)}
    case.put(state)
    stream, got = case.stream(), {}
    stream.ask(case.kind, *state)
    while len(got) < len(state):
        message = stream.next(20, "20,000 resources")
        stream.ack(message)
        got |= message.resources
    demand(got == state, "20,000 resources", len(got))
    changed = next(iter(state))
    case.put(state | {changed: "2"})
    message = stream.next()
    demand(message.resources[changed] == "2", "the changed one", "another")

def clusters_and_routes(case, clusters, routes, *names):
    """An ADS stream that has asked for all clusters and these routes, and acknowledged both."""
    case.server.set(cds=clusters, rds=routes)
    stream = case.stream()
    stream.ask("cds")
    stream.expect("cds", clusters)
    stream.ask("rds", *names)
    stream.expect("rds", {name: routes[name] for name in names})
    return stream

@check()
def c17b_a_cluster_that_comes_back_before_the_ack_stays(case):
    stream = clusters_and_routes(case, {"old": "1"}, of("r1"), "r")
    case.server.set(cds={"new": "1"}, rds=of("r2"))
    stream.expect("cds", {"new": "1"}, full={"old": "1", "new": "1"})
    routes = stream.expect("rds", of("r2"), ack=False)
    case.server.set(cds={"old": "1", "new": "1"}, rds=of("r2"))
    stream.ack(routes)
    for message in stream.settle():
        demand("old" not in message.removed and (case.delta or "old" in message.resources), "old stays",
               summary(message))

@check()
def c17b_a_removal_does_not_wait_for_routes_the_client_does_not_have(case):
    stream = clusters_and_routes(case, of("a1 b1"), of("r1 q1"), "r")
    case.server.set(cds=of("a1"), rds=of("r1 q2"))
    stream.expect("cds", {}, {"b"}, full=of("a1"), within=AT_ONCE)

@check()
def c17b_cluster_and_route_removed_in_one_edit(case):
    stream = clusters_and_routes(case, of("a1 b1"), of("r1 q1"), "r", "q")
    case.server.set(cds=of("a1"), rds=of("r1"))
    if case.delta:
        stream.expect("rds", {}, {"q"}, within=AT_ONCE)
    message = stream.next()
    if not case.delta and "b" in message.resources:
        stream.ack(message)
        message = stream.next()
    demand(message.removed == {"b"} if case.delta else message.resources == of("a1"), "b gone", summary(message))

@check()
def c17b_c17c_without_any_cds_ack_the_edit_still_ends(case):
    stream = clusters_and_routes(case, {"old": "1"}, of("r1"), "r")
    case.server.set(cds={"new": "1"}, rds=of("r2"))
    stream.expect("cds", {"new": "1"}, full={"old": "1", "new": "1"}, ack=False)
    stream.expect("rds", of("r2"))
    stream.expect("cds", {}, {"old"}, full={"new": "1"})
    stream.quiet()

@check(ALL)
def s18_what_came_and_went_between_two_acks_is_never_mentioned(case):
    names = () if case.kind in WILD else ("a", "b")
    stream = case.asked(of("a1"), *names)
    first = stream.next()
    case.put(of("a1 b1"))
    case.put(of("a1"))
    stream.ack(first)
    stream.quiet()
    case.edit(stream, of("a2"), of("a2"))

@check(WILD, SOTW)
def s13_named_and_deleted_is_left_out(case):
    stream, _ = case.subscribed("a", "b", state=of("a1 b1 c1"))
    case.edit(stream, of("b1 c1"), of("b1"))
    case.edit(stream, of("c1"), {})
    case.edit(stream, of("a1 c1"), of("a1"))

@check(ALL, DELTA)
def d22_other_nodes_are_believed_and_get_no_repetition(case):
    stream, first = case.subscribed("a", "b", state=of("a1 b1"))
    other = case.stream(node=case.node + " other")
    other.ask(case.kind, "a", "b")
    other.expect(case.kind, of("a1 b1"))
    stream.nack(case.edit(stream, of("a2 b1"), of("a2"), ack=False))
    other.expect(case.kind, of("a2"))
    stream.quiet()
    case.put(of("a2 b2"))
    other.expect(case.kind, of("b2"))
    stream.expect(case.kind, of("a2 b2"))

@check()
def c17c_a_late_ack_repeats_nothing(case):
    stream = clusters_and_routes(case, of("a1"), of("r1"), "r")
    case.server.set(cds=of("a2"), rds=of("r2"))
    clusters = stream.expect("cds", of("a2"), ack=False)
    stream.expect("rds", of("r2"))
    stream.ack(clusters)
    stream.quiet()

@check(ALL, SOTW)
def s11_dropped_and_added_again_without_a_pause(case):
    stream, _ = case.subscribed("a", "b", state=of("a1 b1"))
    for _ in range(3):
        stream.drop(case.kind, "b")
        stream.add(case.kind, "b")
    answers = stream.settle()
    demand(answers and answers[-1].resources.get("b") == "1", "b again", [summary(m) for m in answers])

@check()
def l3_l7_sigint_with_a_client_that_does_not_read(case):
    server = case.own_server()
    server.set(cds={str(n): "x" * 1_000_000 for n in range(20)})
    slow = case.stream(server=server, reading=False)
    slow.ask("cds")
    time.sleep(0.5)
    server.process.send_signal(signal.SIGINT)
    try:
        server.process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        raise Failure(f"expected the process ends within {DEADLINE} s, came nothing") from None

def run(function, case):
    """What went wrong, or None."""
    try:
        case.server.set(cds={"between checks": "0"})
        function(case)
    except Failure as failure:
        return str(failure)
    except Exception as error:  # noqa: BLE001, the check itself or the connection broke
        return f"{type(error).__name__}: {error}"
    finally:
        case.close()
    if case.server.process.poll() is not None:
        return "the server process ended"
    return next((f"expected no violation, came {v}" for s in case.streams for v in s.violations), None)

AT_A_TIME = 8

def combinations_of(only):
    for function, combinations in CHECKS:
        if only and not any(part in function.__name__ for part in only):
            continue
        for service, mode, kind in combinations:
            if (service, kind) != ("typed", ""):
                yield function, service, mode, kind

def play(binary, todo, done, failures):
    """Takes checks until there are none left."""
    server = Server(binary)
    while True:
        try:
            function, *combination = todo.get_nowait()
        except queue.Empty:
            return server.stop()
        wrong = run(function, Case(server, *combination, binary))
        done.append(function)
        if wrong:
            failures.append((function, combination, wrong))
            # Nothing of it reaches the next check.
            server.stop()
            server = Server(binary)

def main(binary, *only):
    todo = queue.Queue()
    for one in combinations_of(only):
        todo.put(one)
    count, done, doubtful, failures = todo.qsize(), [], [], []
    players = [threading.Thread(target=play, args=(binary, todo, done, doubtful)) for _ in range(AT_A_TIME)]
    for player in players:
        player.start()
    for player in players:
        player.join()
    again = queue.Queue()
    for function, combination, wrong in doubtful:
        print(f"first attempt: {function.__name__} [{' '.join(filter(None, combination))}]: {wrong[:300]}")
        again.put((function, *combination))
    play(binary, again, [], failures)
    for function, combination, wrong in failures:
        print(f"{function.__name__} [{' '.join(filter(None, combination))}]: {wrong[:900]}")
    lost = count - len(done)
    print(f"{len(done) - len(failures)} checks passed, {lost} not run, {len(doubtful)} at the second attempt or not, "
          f"{len(failures)} failed")
    return 1 if failures or lost or not count else 0

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
