//! Who a client says it is.

use super::wire::{WireExtension, WireNode};
use bytes::Bytes;
use prost::Message;
use prost_types::value::Kind;
use std::{collections::BTreeSet, fmt};

/// What the server keeps of a client's node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `node.id`: a label; it proves nothing.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
    /// `envoy`, or the name of another xDS client.
    pub user_agent: String,
    /// The client's version, where it tells.
    pub version: Option<UserAgentVersion>,
    /// What it says of its configuration: keys below `exeat` in its metadata whose value is true, sorted.
    pub abilities: Vec<String>,
    /// What it is built with, encoded, until it has been asked for; empty where it does not tell.
    pub extensions: Vec<Bytes>,
}

impl Node {
    /// Which of these configuration types the client says no extension of its own is for.
    #[must_use]
    pub fn lacks(&self, types: &[&'static str]) -> Vec<&'static str> {
        let known = self.extensions.iter().filter_map(|bytes| WireExtension::decode(bytes.clone()).ok());
        let known = known.filter(|extension| !extension.disabled).flat_map(|extension| extension.type_urls);
        let known: BTreeSet<String> = known.collect();
        types.iter().copied().filter(|name| !known.contains(*name)).collect()
    }

    /// Gives up what it is built with: 60 kB for Envoy.
    pub(super) fn forget_extensions(&mut self) {
        self.extensions = Vec::new();
    }
}

/// A client's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserAgentVersion {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
    /// Patch.
    pub patch: u32,
}

impl fmt::Display for UserAgentVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The key of a node's metadata under which sidecars say what they are set up for.
const METADATA: &str = "exeat";
const MAX_ABILITIES: usize = 16;
/// Longest name that is kept; a client's bytes end up in logs and status.
const MAX_NAME: usize = 256;

impl From<WireNode> for Node {
    fn from(wire: WireNode) -> Self {
        let own = wire.metadata.as_ref().and_then(|all| all.fields.get(METADATA));
        let abilities = match own.and_then(|value| value.kind.as_ref()) {
            Some(Kind::StructValue(own)) => own
                .fields
                .iter()
                .filter(|(_, value)| value.kind == Some(Kind::BoolValue(true)))
                .take(MAX_ABILITIES)
                .map(|(key, _)| bounded(key, MAX_NAME))
                .collect(),
            _ => Vec::new(),
        };
        let version = wire.user_agent_build_version.and_then(|build| build.version);
        Self {
            abilities,
            extensions: wire.extensions,
            id: bounded(&wire.id, MAX_NAME),
            cluster: bounded(&wire.cluster, MAX_NAME),
            user_agent: bounded(&wire.user_agent_name, MAX_NAME),
            version: version.map(|version| UserAgentVersion {
                major: version.major_number,
                minor: version.minor_number,
                patch: version.patch,
            }),
        }
    }
}

/// Characters that end a line for some reader, change the order of those that follow, or cannot be seen.
fn breaks_lines(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// At most so many characters, with none that would break a line.
pub(super) fn bounded(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if breaks_lines(c) { '\u{fffd}' } else { c }).collect()
}
