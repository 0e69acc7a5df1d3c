//! Lists of entries: hosts as text, entries with keys, and groups by name.

use super::{
    diagnostic::Span,
    entry::{self, Purpose},
    reader::Reader,
    spec::{Options, Protocol, Spec, Tls},
    yaml::{Node, Value},
};
use crate::policy::Note;
use std::sync::Arc;

/// Keys of an entry.
pub(super) const ENTRY_KEYS: [&str; 16] = [
    "host",
    "hosts",
    "ports",
    "protocol",
    "tls",
    "methods",
    "paths",
    "private",
    "addresses",
    "until",
    "mode",
    "max_tunnel",
    "limits",
    "owner",
    "reason",
    "ticket",
];

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A host, with what goes with it.
    Entry(Spec),
    /// All entries of a group, and what goes with each of them.
    Group { name: String, options: Option<Box<Options>>, span: Span },
}

impl Item {
    /// Where it stands.
    pub(super) const fn span(&self) -> &Span {
        match self {
            Self::Entry(spec) => &spec.span,
            Self::Group { span, .. } => span,
        }
    }
}

impl Reader<'_> {
    pub(super) fn items(&mut self, items: &[Node], purpose: Purpose) -> Vec<Item> {
        let mut found = Vec::with_capacity(items.len());
        for item in items {
            self.item(item, purpose, &mut found);
        }
        found
    }

    fn item(&mut self, item: &Node, purpose: Purpose, found: &mut Vec<Item>) {
        let written = self.written(item);
        let (message, help) = match &item.value {
            Value::Text(text) => return self.host(item, text, None, purpose, found),
            Value::Map(pairs) => return self.entry_with_keys(item, pairs, purpose, found),
            Value::Number => {
                return self.refuse(
                    "entry-number",
                    &item.span,
                    format!("`{written}` is a number, expected a host"),
                    "write a host name; addresses in short, decimal or hexadecimal spelling are not accepted",
                );
            }
            Value::Bool(_) => {
                (format!("`{written}` is a boolean, expected a host"), "write a host name such as a.com")
            }
            Value::Null => (
                "found an empty list item, expected a host".to_owned(),
                "write a host behind the dash, or take the line out",
            ),
            Value::List(_) => (
                "found a list inside the list, expected a host".to_owned(),
                "one host per line; an IPv6 address needs quotes",
            ),
        };
        self.refuse("entry-shape", &item.span, message, help);
    }

    /// A host, or a group.
    fn host(
        &mut self,
        node: &Node,
        text: &str,
        options: Option<&Options>,
        purpose: Purpose,
        found: &mut Vec<Item>,
    ) {
        if let Some(name) = text.strip_prefix('@') {
            let (name, span) = (name.to_owned(), node.span.clone());
            found.push(Item::Group { name, options: options.cloned().map(Box::new), span });
            return;
        }
        let parsed = match entry::parse(text, purpose) {
            Ok(parsed) => parsed,
            Err(problem) => return self.refuse(problem.code, &node.span, problem.message, problem.help),
        };
        for note in parsed.notes {
            let warning = self.error(note.code, &node.span, note.message).warning().help(note.help);
            self.found.push(warning);
        }
        let mut options = options.cloned();
        if let Some(port) = parsed.port {
            let options = options.get_or_insert_default();
            if options.ports.is_some() {
                return self.refuse(
                    "host-port",
                    &node.span,
                    format!("`{text}` has a port, and the entry has `ports`"),
                    "write the port in one of the two places",
                );
            }
            options.ports = Some(port);
        }
        let options = options.map(Box::new);
        let spec = Spec { target: parsed.target, options, span: node.span.clone() };
        // It is said again by whoever uses the entry; here, so that a file shows all its mistakes at once.
        if let Err(problem) = spec.check(purpose) {
            self.refuse(problem.code, &node.span, problem.message, problem.help);
        } else {
            found.push(Item::Entry(spec));
        }
    }

    fn entry_with_keys(
        &mut self,
        item: &Node,
        pairs: &[(Node, Node)],
        purpose: Purpose,
        found: &mut Vec<Item>,
    ) {
        if !pairs.iter().any(|(key, _)| matches!(&key.value, Value::Text(name) if is_host_key(name))) {
            return self.no_host(item, pairs);
        }
        let mistakes = self.found.count();
        let mut options = Options::default();
        let mut note = Note::default();
        let mut hosts: Vec<&Node> = Vec::new();
        for field in self.fields(pairs, &ENTRY_KEYS) {
            let value = field.value;
            match field.name {
                "host" => hosts.push(value),
                "hosts" => hosts.extend(self.list(value, "hosts", "hosts").unwrap_or_default()),
                "ports" => options.ports = self.ports(value),
                "protocol" => options.protocol = self.protocol(value),
                "tls" => options.tls = self.tls(value),
                "methods" => options.methods = self.methods(value),
                "paths" => options.paths = self.paths(value),
                "private" => options.private = self.boolean(value, "private").unwrap_or_default(),
                "addresses" => options.addresses = self.addresses(value),
                "until" => options.until = self.until(value),
                "mode" => options.mode = self.mode(value),
                "max_tunnel" => options.max_tunnel = self.max_tunnel(value),
                "limits" => options.limits = self.limits(value),
                name => self.note(&mut note, name, value),
            }
        }
        if !note.is_empty() {
            options.note = Some(Arc::new(note));
        }
        let both = ["host", "hosts"]
            .iter()
            .all(|key| pairs.iter().any(|(name, _)| matches!(&name.value, Value::Text(name) if name == key)));
        if both {
            self.refuse("entry-host", &item.span, "found `host` and `hosts`", "write one of the two");
        } else if hosts.is_empty() && self.found.count() == mistakes {
            self.refuse("entry-host", &item.span, "`hosts` is empty", "name at least one host");
        }
        for host in hosts {
            match &host.value {
                Value::Text(text) => self.host(host, text, Some(&options), purpose, found),
                // Numbers and the like, as in a list of hosts.
                Value::Map(_) => self.refuse(
                    "entry-shape",
                    &host.span,
                    "found keys, expected a host",
                    "write a host such as a.com",
                ),
                _ => self.item(host, purpose, found),
            }
        }
    }

    /// A colon makes a map of what was meant as a host, or the host is missing.
    fn no_host(&mut self, item: &Node, pairs: &[(Node, Node)]) {
        let mut colon = false;
        for (key, value) in pairs {
            let Value::Text(name) = &key.value else { continue };
            if ENTRY_KEYS.contains(&name.as_str()) || !name.contains(['.', ':', '*']) {
                continue;
            }
            let port = self.written(value);
            match value.value {
                Value::Number => self.refuse(
                    "entry-space",
                    &key.span,
                    format!("`{name}: {port}` with a space is a YAML map, not a host"),
                    format!("write {name}:{port} without the space"),
                ),
                Value::Null => self.refuse(
                    "entry-colon",
                    &key.span,
                    format!("`{name}:` ends in a colon, which makes it a YAML map"),
                    format!("write {name}, or {name}:443 for one port"),
                ),
                _ => self.refuse(
                    "entry-colon",
                    &key.span,
                    format!("`{name}:` is the key of a YAML map, not a host"),
                    format!("write `host: {name}` and the other keys below it"),
                ),
            }
            colon = true;
        }
        if !colon {
            let before = self.found.count();
            self.fields(pairs, &ENTRY_KEYS);
            if self.found.count() == before {
                let help = "add `host:`, or write the host alone, such as `- a.com:8443`";
                self.refuse("entry-host", &item.span, "the entry names no host", help);
            }
        }
    }

    fn protocol(&mut self, node: &Node) -> Option<Protocol> {
        match self.text(node, "http, tls or tcp")? {
            "http" => return Some(Protocol::Http),
            "tls" => return Some(Protocol::Tls),
            "tcp" => return Some(Protocol::Tcp),
            other => {
                let found = format!("found `{other}`, expected http, tls or tcp");
                self.refuse(
                    "protocol",
                    &node.span,
                    found,
                    "http is without TLS; tcp is any tunnel, such as ssh",
                );
            }
        }
        None
    }

    fn tls(&mut self, node: &Node) -> Option<Tls> {
        match self.text(node, "passthrough or originate")? {
            "passthrough" => return Some(Tls::Passthrough),
            "originate" => return Some(Tls::Originate),
            "inspect" => {
                let found = "`tls: inspect` is enforced by a later release";
                let help = "write `tls: originate` if the client can ask for http://, or take it out";
                self.refuse("key-not-supported", &node.span, found, help);
            }
            other => {
                let found = format!("found `{other}`, expected passthrough or originate");
                self.refuse("value-shape", &node.span, found, "write `tls: passthrough`, or take it out");
            }
        }
        None
    }
}

fn is_host_key(name: &str) -> bool {
    matches!(name, "host" | "hosts")
}
