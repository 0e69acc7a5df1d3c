//! What each code of a diagnostic means, at length: `exeat check --explain CODE`.
//!
//! Knows nothing of files or places.

/// A code and what there is to say of it.
type Explanation = (&'static str, &'static str);

/// Sorted by code.
const EXPLANATIONS: [Explanation; 44] = [
    (
        "allow-empty",
        "`allow:` with nothing behind it is YAML for \"no value\", which could be meant as an empty list or be a slip. An \
empty list denies everything, so it has to be written: `allow: []`.",
    ),
    (
        "allow-missing",
        "A file that is a map needs `allow`, the list of hosts. Without it the file would deny everything, which has to be \
written: `allow: []`.",
    ),
    ("allow-shape", "`allow` is a list: each host on a line of its own that begins with a dash."),
    (
        "duplicate-entry",
        "The same host with the same ports stands in this file twice. Whoever takes one of the two out later would \
believe that the host is denied from then on. In two files an entry counts once and is no error.",
    ),
    (
        "entry-colon",
        "A colon at the end of a line makes YAML read the host as the key of a map. For one port, write a.com:443.",
    ),
    (
        "entry-not-supported",
        "`@name` will stand for a group of hosts. This version refuses what it cannot enforce instead of ignoring it.",
    ),
    (
        "entry-number",
        "Unquoted digits are a number in YAML, and browsers read numbers such as 2130706433 or 0x7f000001 as IP addresses. \
Entries are host names.",
    ),
    ("entry-shape", "An entry is a text: a host, with or without a port."),
    (
        "entry-space",
        "With a space behind the colon, `a.com: 443` is a map in YAML. Without it, `a.com:443` is a host and a port.",
    ),
    (
        "file-empty",
        "An empty file is more often an accident (a save that failed, a half-written file) than the wish to deny everything, \
which is written `allow: []`.",
    ),
    ("file-shape", "A file is a list of hosts, or a map with `version` and `allow`."),
    (
        "file-too-large",
        "Files are bounded, so that a wrong path or a runaway script cannot fill the memory of the control plane and of \
each sidecar. Several files form one allowlist.",
    ),
    (
        "host-address",
        "This version's entries are host names. An address in any spelling (10.0.0.5, 127.1, 0x7f.1, fd00::1, a CIDR \
range) is refused, because names may not lead to private addresses either.",
    ),
    (
        "host-character",
        "Control characters in a host are invisible in an editor and cut names short in some programs.",
    ),
    (
        "host-comment",
        "YAML begins a comment at ` #`, with a space. Glued to the host, the `#` would be part of it.",
    ),
    ("host-empty", "An empty text is no host."),
    (
        "host-indentation",
        "YAML continues a text on the next line if that is indented further, even if it begins with a dash. Two hosts \
became one.",
    ),
    (
        "host-international",
        "DNS and TLS know international names as A-labels (`xn--…`). That spelling is enforced; look at it, because \
letters of other scripts can look like Latin ones.",
    ),
    (
        "host-invalid",
        "Labels have letters, digits and hyphens, at most 63 characters, and no hyphen at either end; names have at most \
253 characters.",
    ),
    (
        "host-local",
        "A name without a dot is known to the local resolver only (a container, `localhost`), where private addresses are. \
Those are refused whatever the name is.",
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
        "host-shared-tenant",
        "Below this name each customer of a provider has names of their own (storage, pages, functions). A wildcard \
allows all customers, which is a way out for data. Name the hosts that you mean.",
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
        "`*` stands alone in front of a dot, quoted: \"*.a.com\" is everything below a.com, .a.com that and a.com itself. \
A star in the middle, `**` and `*a.com` mean different things in different tools.",
    ),
    (
        "key-not-supported",
        "A key of the language that a later version enforces. This one refuses it instead of ignoring it, because an \
ignored restriction is a hole.",
    ),
    ("not-utf8", "The file has bytes that are no UTF-8 text, so it cannot be known what they mean."),
    (
        "unknown-key",
        "A mistyped key that was ignored would be a rule that is not there. Keys are exact and lower case.",
    ),
    ("unreadable", "The file could not be read. A control plane that runs keeps what it allowed before."),
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
        "Without quotes `*` begins a YAML alias. Write \"*.a.com\" with quotes, or .a.com if a.com itself is meant, too.",
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

    /// Codes stand in the sources as texts with a hyphen, or are listed here.
    #[test]
    fn every_code_is_explained_once() {
        let sources = [
            include_str!("entry.rs"),
            include_str!("file.rs"),
            include_str!("ledger.rs"),
            include_str!("yaml.rs"),
        ];
        let prefixes =
            ["allow-", "duplicate-", "entry-", "file-", "host-", "key-", "not-", "unknown-", "yaml-"];
        let used: BTreeSet<&str> = sources
            .iter()
            .flat_map(|source| source.split("#[cfg(test)]").next().unwrap().split('"').skip(1).step_by(2))
            .filter(|text| prefixes.iter().any(|prefix| text.starts_with(prefix)) && text.len() < 30)
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-' || byte == b'8'))
            .chain(["unreadable", "version"])
            .collect();
        let explained: Vec<&str> = codes().collect();
        assert!(explained.is_sorted());
        assert_eq!(explained.iter().copied().collect::<BTreeSet<_>>(), used);
        assert_eq!(explained.len(), used.len());
        assert!(codes().all(|code| explain(code).unwrap().ends_with('.')));
    }
}
