//! What each code of a diagnostic means, at length: `exeat check --explain CODE`.
//!
//! Knows nothing of files or places.

/// A code and what there is to say of it.
type Explanation = (&'static str, &'static str);

/// Sorted by code.
const EXPLANATIONS: [Explanation; 99] = [
    (
        "address-private",
        "Addresses of private and reserved ranges (10/8, 127/8, 169.254/16, fc00::/7 and the like) are guarded, \
         whatever names lead to them. One that is meant is an entry of its own with `private: true`, which lifts \
         the guard for nothing else.",
    ),
    (
        "addresses",
        "`addresses` says to which addresses a private name may lead: ranges such as 10.0.5.0/24, or single \
         addresses.",
    ),
    ("agent-duplicate", "An agent is defined in one place, so that nobody has to look for the rest of it."),
    ("agent-empty", "The agent has no entries of its own and inherits none: its sidecars deny everything."),
    (
        "agent-match",
        "`match` says which sidecars are this agent: by `node_id` or `node_cluster` (xDS names that the bootstrap \
         sets), or by `spiffe` or `dns_san`, which a client certificate proves. `*` stands for any characters; \
         all that is said must fit.",
    ),
    (
        "agent-tie",
        "The agent that names a sidecar most closely is the one it is: what a certificate proves counts before \
         names, a whole name before a pattern, and a longer pattern before a shorter one. Here both are equally \
         close, and chance must not decide.",
    ),
    (
        "allow-missing",
        "A file that is a map needs at least one of `allow`, `deny`, `use`, `include`, `groups` and `agents`. \
         Without any it would deny everything, which has to be written: `allow: []`.",
    ),
    (
        "deny-key",
        "A deny entry closes hosts and ports altogether, so that nobody has to think about what is left open. To \
         let some requests through, allow them alone.",
    ),
    (
        "duplicate-entry",
        "The same host with the same ports stands in two places. It counts once. Whoever takes one of the two out \
         later may believe that the host is denied from then on.",
    ),
    (
        "entry-colon",
        "A colon at the end of a line makes YAML read the host as the key of a map. For one port, write \
         a.com:443.",
    ),
    (
        "entry-covered",
        "Another entry allows all of this one, for as long. Taking this one out changes nothing, and leaving it \
         in suggests that it matters.",
    ),
    (
        "entry-denied",
        "A deny entry covers all of this one, and deny entries win over all others, whatever their order.",
    ),
    ("entry-expired", "`until` has passed: the entry is not in force any more, as if it had been taken out."),
    (
        "entry-expiring",
        "`until` is less than a week away. At that instant the entry goes by itself, and its hosts are denied.",
    ),
    ("entry-host", "An entry with keys has `host` (one) or `hosts` (a list)."),
    (
        "entry-number",
        "Unquoted digits are a number in YAML, and browsers read numbers such as 2130706433 or 0x7f000001 as IP \
         addresses. Entries are host names.",
    ),
    ("entry-shape", "An entry is a text (a host, an address or @group), or a map with `host`."),
    (
        "entry-space",
        "With a space behind the colon, `a.com: 443` is a map in YAML. Without it, `a.com:443` is a host and a \
         port.",
    ),
    (
        "file-empty",
        "An empty file is more often an accident (a save that failed, a half-written file) than the wish to deny \
         everything, which is written `allow: []`.",
    ),
    (
        "file-exposed",
        "Whoever can write the file decides what agents may reach, and an agent on the same machine may be such.",
    ),
    ("file-shape", "A file is a list of hosts, or a map with the keys of the language."),
    (
        "file-too-large",
        "Files are bounded, so that a wrong path or a runaway script cannot fill the memory of the control plane \
         and of each sidecar. Several files form one allowlist.",
    ),
    (
        "group-cycle",
        "A group that is in itself, directly or through others, has no end. Groups can be nested, not in a circle \
         and not deeper than eight.",
    ),
    ("group-duplicate", "All files share their groups, so each name stands for one."),
    (
        "group-in-use",
        "Other files use a group that this edit takes away or changes so that it does not fit any more. They would lose \
         what it stands for.",
    ),
    (
        "group-unknown",
        "`@name` stands for the entries of a group, which is defined below `groups:` in one of the files.",
    ),
    (
        "held-back",
        "A self-test below `tests:` fails with this edit, so none of it is in force: all files stay as they were.",
    ),
    (
        "host-address",
        "An address is written in full: four decimal numbers, or IPv6 without a zone. Short, octal and \
         hexadecimal spellings (127.1, 0x7f.1) mean different things to different programs. Ranges are for IPv4 \
         only, because Envoy compares texts.",
    ),
    (
        "host-character",
        "Control characters in a host are invisible in an editor and cut names short in some programs.",
    ),
    (
        "host-comment",
        "YAML begins a comment at ` #`, with a space. Glued to the host, the `#` would be part of it.",
    ),
    (
        "host-docker",
        "`host.docker.internal` is the machine that runs the containers. The sidecar resolves the name, so it is the \
         sidecar's container that has to know it: under Linux by `extra_hosts: [\"host.docker.internal:host-gateway\"]`.",
    ),
    (
        "host-doh",
        "DNS over HTTPS lets an agent ask for any name unseen, and carry data out in names. The preset `doh` \
         denies such hosts.",
    ),
    ("host-empty", "An empty text is no host."),
    (
        "host-indentation",
        "YAML continues a text on the next line if that is indented further, even if it begins with a dash. Two \
         hosts became one.",
    ),
    (
        "host-international",
        "DNS and TLS know international names as A-labels (`xn--…`). That spelling is enforced; look at it, \
         because letters of other scripts can look like Latin ones.",
    ),
    (
        "host-invalid",
        "Labels have letters, digits and hyphens, at most 63 characters, and no hyphen at either end; names have \
         at most 253 characters.",
    ),
    (
        "host-local",
        "A name without a dot is known to the local resolver only (a container, `localhost`), where private \
         addresses are. It needs `private: true`.",
    ),
    (
        "host-mixed-script",
        "Letters of different scripts can look alike: `gіthub.com` with a Cyrillic і is another name than \
         github.com.",
    ),
    (
        "host-paste",
        "Whatever an agent can read, it can leave at a place where anybody can write. The preset `paste` denies \
         such hosts.",
    ),
    (
        "host-path",
        "Inside TLS nobody but the two ends can see a path, so a rule with one could not be enforced.",
    ),
    ("host-port", "A port is a number from 1 to 65535 without leading zeros: Envoy compares the text."),
    (
        "host-public-suffix",
        "Anybody can register names below a public suffix such as `com` or `co.uk`, so a wildcard on one allows \
         whatever somebody wants to register. See publicsuffix.org.",
    ),
    (
        "host-relay",
        "Tunnels and request catchers lead to machines of whoever sets one up. The preset `relays` denies such \
         hosts.",
    ),
    (
        "host-self",
        "`localhost` and loopback addresses are the sidecar's own: in a container or pod they are that container, not the \
         agent's and not the machine below. Most clients never ask a proxy for them.",
    ),
    (
        "host-shared-tenant",
        "Below this name each customer of a provider has names of their own (storage, pages, functions). A \
         wildcard allows all customers, which is a way out for data. Name the hosts that you mean.",
    ),
    ("host-space", "White space is no part of a host; two hosts on one line are no list."),
    (
        "host-underscore",
        "Envoy 1.40 answers 400 to proxy requests for names with an underscore, so the entry could not work.",
    ),
    (
        "host-url",
        "An entry is a host, not a URL. https:// is port 443, http:// port 80; both are meant without a port.",
    ),
    (
        "host-userinfo",
        "What stands before an `@` in a URL is a user, and a favourite way to hide the real host behind it.",
    ),
    (
        "host-wildcard",
        "`*` stands alone in front of a dot, quoted: \"*.a.com\" is everything below a.com, .a.com that and a.com \
         itself. A star in the middle, `**` and `*a.com` mean different things in different tools.",
    ),
    ("include-cycle", "A file that includes itself, directly or through others, has no end."),
    ("include-depth", "Files that files include can include others, at most four deep."),
    (
        "include-path",
        "An include is a path below the including file's own directory, without `..`; its last part may have one \
         `*`. So a file cannot reach what its owner did not put there.",
    ),
    (
        "key-not-supported",
        "A key of the language that a later release enforces. This one refuses it instead of ignoring it, because \
         an ignored restriction is a hole.",
    ),
    (
        "limits",
        "`limits` bounds what an entry lets through: `connections` (tunnels) at a time, `requests_per_minute`, `upload` in bytes \
         of one tunnel or request, and `idle`, how long a tunnel may be without a byte.",
    ),
    (
        "list-empty",
        "A key with nothing behind it is YAML for \"no value\", which could be meant as an empty list or be a \
         slip. An empty list of hosts denies everything, so it has to be written: `allow: []`.",
    ),
    ("list-shape", "Here stands a list: one item on each line, each with a dash, or all in brackets."),
    (
        "list-too-long",
        "Lists inside an entry are bounded, and so are `use` and `include`. Several entries or files can say more.",
    ),
    (
        "max-tunnel",
        "`max_tunnel` ends tunnels (and WebSockets and streamed answers) that live longer: a number and s, m, h \
         or d, at most a year.",
    ),
    (
        "methods",
        "Methods are compared as they are sent: in capital letters. CONNECT is none of them: it opens tunnels, in \
         which no method can be seen.",
    ),
    (
        "methods-opaque",
        "Inside TLS only the two ends see methods and paths. A rule about them would be passed over in silence, \
         so it is refused: it needs `protocol: http`, for hosts that speak plain HTTP.",
    ),
    (
        "mode",
        "`enforce` denies what is not allowed; `report` lets it pass and flags it `would-deny` in the log.",
    ),
    (
        "mode-conflict",
        "The mode at the top of a file is that of everybody who is no agent, so all files that say one must say \
         the same.",
    ),
    (
        "name",
        "Names of groups and agents appear in logs, status and commands: letters, digits, `-`, `_` and `.`.",
    ),
    ("not-utf8", "The file has bytes that are no UTF-8 text, so it cannot be known what they mean."),
    ("note", "`owner`, `reason` and `ticket` are for people: one line each."),
    (
        "paths",
        "A path is compared as it is sent, without its query: /v1/models is one path, /v1/* everything that \
         begins with /v1/.",
    ),
    (
        "plain-http",
        "Nothing on this entry's ports is encrypted: anybody on the way can read what the agent sends, and change \
         what it reads.",
    ),
    (
        "port-not-tls",
        "Tunnels must carry TLS for their host, and what usually listens on this port does not begin with it. \
         `protocol: tcp` lets a tunnel carry anything.",
    ),
    ("ports", "Ports are numbers from 1 to 65535, in a list: `ports: [80, 443]`."),
    (
        "preset-unknown",
        "`use` names presets, lists of hosts that come with exeat. `exeat presets` lists them, `exeat presets \
         show NAME` prints one.",
    ),
    (
        "private-addresses",
        "`addresses` limits where the name of an entry with `private: true` may lead. It says nothing about other \
         entries, and an address needs none.",
    ),
    (
        "private-metadata",
        "The address is one of those that even `private: true` names do not lead to: link-local addresses, where cloud \
         providers hand out credentials to whoever asks. Named by itself it is reachable.",
    ),
    (
        "private-wildcard",
        "`private: true` lifts the guard of private addresses for exactly one host. With a wildcard, whoever can \
         make a name below it could lead it anywhere in the private network.",
    ),
    (
        "protocol",
        "`http`: plain HTTP only. `tls`: tunnels for TLS only. `tcp`: tunnels for anything, such as ssh. Without \
         it, tunnels and plain HTTP.",
    ),
    ("protocol-port", "`protocol` and `ports` contradict each other, or the protocol has no usual port."),
    ("report-harmless", "In report mode everything passes and is flagged, so the entry changes nothing."),
    (
        "report-mode",
        "Everything that is not listed passes and is flagged `would-deny` in the log. Deny entries of files that \
         enforce still deny, and private addresses stay guarded.",
    ),
    ("test-agent", "A test can ask for an agent of these files by name."),
    (
        "test-expired",
        "The test fails because an entry has expired. An edit is not kept out for that, or nothing could be edited any \
         more once the time of an entry is over.",
    ),
    (
        "test-failed",
        "`tests` say what must be allowed and what must be denied. They are run before each edit comes into \
         force, and one that fails keeps it out. What passes in report mode counts as allowed.",
    ),
    (
        "test-request",
        "A test is a URL, a host with or without a port, or a method in front of a URL: `POST http://a.com/v1`.",
    ),
    (
        "tls-originate",
        "With `tls: originate` clients ask for http://HOST/, so that methods and paths can be compared, and Envoy goes on \
         with TLS, checking the host's certificate. It needs a host name. What is asked of port 80 goes to port 443; where `ports` \
         names others, clients ask for those.",
    ),
    (
        "too-many-entries",
        "One file makes at most 200,000 rules (groups count wherever they are used, and so do many ports), 64 address ranges \
         of 16 ports, which are compared one after the other, and 500 agents.",
    ),
    (
        "unknown-key",
        "A mistyped key that was ignored would be a rule that is not there. Keys are exact and lower case.",
    ),
    ("unreadable", "The file could not be read. A control plane that runs keeps what it allowed before."),
    ("until", "`until` is an instant: a date counts to its end in UTC, a time needs a zone."),
    ("value-shape", "The value has another shape than the key needs."),
    ("version", "`version` says which version of the language the file is written in. There is one: 1."),
    ("yaml-anchor", "Anchors and aliases let a short file grow without bounds, and hide what an entry says."),
    ("yaml-bracket", "`[` begins a list in YAML. IPv6 addresses need quotes."),
    ("yaml-documents", "`---` begins a second document, which many programs ignore in silence."),
    (
        "yaml-duplicate-key",
        "YAML parsers differ in which of two equal keys counts. In an allowlist that would be a hole.",
    ),
    ("yaml-merge-key", "`<<` merges maps, and hides what an entry says."),
    (
        "yaml-syntax",
        "The text is no YAML. The place is where the parser noticed; the cause may stand before it.",
    ),
    ("yaml-tab", "YAML indents with spaces only."),
    ("yaml-tag", "Tags (`!name`) would be dropped by the parser: `- !deny a.com` would allow a.com."),
    ("yaml-too-large", "The file has more values, or deeper nesting, than any allowlist needs."),
    (
        "yaml-unquoted-star",
        "Without quotes `*` begins a YAML alias. Write \"*.a.com\" with quotes, or .a.com if a.com itself is \
         meant, too.",
    ),
];

/// What a code means; nothing for a word that is no code.
#[must_use]
pub fn explain(code: &str) -> Option<&'static str> {
    EXPLANATIONS.iter().find(|(known, _)| *known == code).map(|(_, text)| *text)
}

/// Every code, sorted.
pub fn codes() -> impl Iterator<Item = &'static str> {
    EXPLANATIONS.iter().map(|(code, _)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Codes stand in the sources as texts of their own.
    #[test]
    fn every_code_is_explained_once() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/allowlist");
        let sources: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("codes.rs")
            })
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect();
        // Codes are written behind these, or as a value of their own.
        let used: BTreeSet<&str> = sources
            .iter()
            .flat_map(|source| source.split("#[cfg(test)]").next().unwrap().split('"').skip(1).step_by(2))
            .filter(|text| codes().any(|code| code == *text) || looks_like_a_code(text))
            .collect();
        let explained: Vec<&str> = codes().collect();
        assert!(explained.is_sorted());
        assert_eq!(explained.iter().copied().collect::<BTreeSet<_>>(), used);
        assert_eq!(explained.len(), used.len());
        assert!(codes().all(|code| explain(code).unwrap().ends_with('.')));
    }

    /// Two words or more with hyphens between them, and nothing else that has that form here.
    fn looks_like_a_code(text: &str) -> bool {
        let others = ["merge-key", "openclaw-main"];
        let parts: Vec<&str> = text.split('-').collect();
        let plain = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
        let is_preset = super::super::presets().iter().any(|preset| preset.name == text);
        parts.len() > 1 && parts.iter().all(plain) && !others.contains(&text) && !is_preset
    }
}
