//! Agents and self-tests of a file.

use super::{
    diagnostic::Span,
    file::{Named, Section},
    reader::Reader,
    yaml::{Node, Value},
};
use crate::policy::{Glob, Mode, Question, Selector};

/// Most agents of one file: each is compared with all others.
const MAX_AGENTS: usize = 500;
/// Most self-tests of one file: all are asked at each edit.
const MAX_TESTS: usize = 1000;
/// Keys of an agent.
pub(super) const AGENT_KEYS: [&str; 7] =
    ["match", "mode", "use", "allow", "deny", "inherit", "max_connections"];
/// Keys of `match`.
pub(super) const MATCH_KEYS: [&str; 4] = ["node_id", "node_cluster", "spiffe", "dns_san"];
/// Keys of `tests`, and of a test.
pub(super) const TEST_KEYS: [&str; 2] = ["allow", "deny"];
pub(super) const REQUEST_KEYS: [&str; 2] = ["agent", "request"];

/// A group of sidecars, and what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AgentSection {
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) selector: Selector,
    pub(super) mode: Option<Mode>,
    pub(super) inherit: bool,
    pub(super) max_connections: Option<u32>,
    pub(super) section: Section,
}

/// A request and what must become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) agent: Option<Named>,
    pub(super) question: Question,
    pub(super) passes: bool,
    pub(super) span: Span,
}

impl Reader<'_> {
    pub(super) fn agents(&mut self, value: &Node) -> Vec<AgentSection> {
        let mut agents = Vec::new();
        let pairs = self.map(value, "agents").unwrap_or_default();
        if pairs.len() > MAX_AGENTS {
            let found = format!("found {} agents, a file has at most {MAX_AGENTS}", pairs.len());
            self.refuse(
                "too-many-entries",
                &value.span,
                found,
                "let one agent match several sidecars, or split the file",
            );
            return agents;
        }
        for (key, value) in pairs {
            let Some(name) = self.name(key, "agent") else { continue };
            if name == "common" {
                let found = "`common` is what sidecars get that are no agent";
                self.refuse("name", &key.span, found, "choose another name");
                continue;
            }
            let Some(pairs) = self.map(value, &name) else { continue };
            agents.extend(self.agent(name, key, pairs));
        }
        agents
    }

    fn agent(&mut self, name: String, key: &Node, pairs: &[(Node, Node)]) -> Option<AgentSection> {
        let mut agent = AgentSection {
            name,
            span: key.span.clone(),
            selector: Selector::default(),
            mode: None,
            inherit: true,
            max_connections: None,
            section: Section::default(),
        };
        let mut matched = false;
        for field in self.fields(pairs, &AGENT_KEYS) {
            match field.name {
                "match" => {
                    matched = true;
                    agent.selector = self.selector(field.value)?;
                }
                "mode" => agent.mode = self.mode(field.value),
                "max_connections" => {
                    agent.max_connections = self.count(field.value, "max_connections");
                }
                "inherit" => agent.inherit = self.boolean(field.value, "inherit").unwrap_or(true),
                _ => self.section_field(&field, &mut agent.section),
            }
        }
        if !matched {
            let found = format!("agent `{}` has no `match`, so no sidecar is this agent", agent.name);
            self.refuse("agent-match", &key.span, found, "add `match: {node_id: ...}`");
        }
        Some(agent)
    }

    fn selector(&mut self, value: &Node) -> Option<Selector> {
        const HELP: &str = "write `match: {node_id: NAME}`, or node_cluster, spiffe or dns_san";
        let pairs = self.map(value, "match")?;
        let mut selector = Selector::default();
        for field in self.fields(pairs, &MATCH_KEYS) {
            let Some(text) = self.text(field.value, "a name in quotes") else { continue };
            let Some(glob) = Glob::new(text) else {
                let found = format!("`{}: {text}` would be every sidecar", field.name);
                self.refuse("agent-match", &field.value.span, found, HELP);
                continue;
            };
            if field.name == "spiffe" && !text.starts_with("spiffe://") {
                let found = format!("`{text}` is no SPIFFE ID");
                self.refuse("agent-match", &field.value.span, found, "write spiffe://TRUST-DOMAIN/PATH");
            }
            match field.name {
                "node_id" => selector.node_id = Some(glob),
                "node_cluster" => selector.node_cluster = Some(glob),
                "spiffe" => selector.spiffe = Some(glob),
                _ => selector.dns_san = Some(glob),
            }
        }
        if pairs.is_empty() {
            self.refuse("agent-match", &value.span, "`match` is empty", HELP);
        }
        Some(selector)
    }

    pub(super) fn tests(&mut self, value: &Node) -> Vec<Test> {
        let mut tests = Vec::new();
        let pairs = self.map(value, "tests").unwrap_or_default();
        for field in self.fields(pairs, &TEST_KEYS) {
            for item in self.list(field.value, field.name, "requests").unwrap_or_default() {
                tests.extend(self.test(item, field.name == "allow"));
            }
        }
        if tests.len() > MAX_TESTS {
            let found = format!("found {} tests, a file has at most {MAX_TESTS}", tests.len());
            self.refuse("too-many-entries", &value.span, found, "split the file");
        }
        tests
    }

    fn test(&mut self, item: &Node, passes: bool) -> Option<Test> {
        let (mut agent, mut request) = (None, None);
        match &item.value {
            Value::Map(pairs) => {
                for field in self.fields(pairs, &REQUEST_KEYS) {
                    let text = self.text(field.value, "a text")?.to_owned();
                    match field.name {
                        "agent" => agent = Some(Named { name: text, span: field.value.span.clone() }),
                        _ => request = Some((text, field.value)),
                    }
                }
            }
            _ => request = Some((self.text(item, "a URL")?.to_owned(), item)),
        }
        let Some((text, node)) = request else {
            self.refuse(
                "test-request",
                &item.span,
                "the test has no `request`",
                "add `request: https://HOST/`",
            );
            return None;
        };
        match text.parse::<Question>() {
            Ok(question) => Some(Test { agent, question, passes, span: item.span.clone() }),
            Err(why) => {
                self.refuse(
                    "test-request",
                    &node.span,
                    why,
                    "write https://HOST/, http://HOST/PATH, HOST:PORT, or a method in front of a URL",
                );
                None
            }
        }
    }
}
