//! `xds.type.matcher.v3.ServerNameMatcher`, which the crate `envoy-types` does not have: names and `*.names` in a trie.
//!
//! Knows nothing of chains.

use envoy_types::pb::xds::r#type::matcher::v3::matcher::OnMatch;

/// The closest of the domains that match counts: an exact one, else the longest wildcard.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ServerNameMatcher {
    #[prost(message, repeated, tag = "1")]
    pub(super) domain_matchers: Vec<DomainMatcher>,
}

/// What becomes of some domains.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DomainMatcher {
    #[prost(string, repeated, tag = "1")]
    pub(super) domains: Vec<String>,
    #[prost(message, optional, tag = "2")]
    pub(super) on_match: Option<OnMatch>,
}

impl prost::Name for ServerNameMatcher {
    const NAME: &'static str = "ServerNameMatcher";
    const PACKAGE: &'static str = "xds.type.matcher.v3";

    fn type_url() -> String {
        format!("type.googleapis.com/{}", Self::full_name())
    }
}
