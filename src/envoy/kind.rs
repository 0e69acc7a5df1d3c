//! The xDS resource types.
//!
//! Knows nothing of what is in them.

/// A resource type, in the order in which a change of several types is sent: what others refer to goes first
/// (xDS protocol, "Eventual consistency considerations").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKind {
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// SDS.
    Secret,
    /// LDS.
    Listener,
    /// RDS.
    RouteConfiguration,
}

impl ResourceKind {
    /// Every type, in push order.
    pub const ALL: [Self; 5] =
        [Self::Cluster, Self::Endpoints, Self::Secret, Self::Listener, Self::RouteConfiguration];

    /// The type URL on the wire.
    #[must_use]
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::RouteConfiguration => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The type of a type URL.
    #[must_use]
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// The usual abbreviation, as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cds",
            Self::Endpoints => "eds",
            Self::Secret => "sds",
            Self::Listener => "lds",
            Self::RouteConfiguration => "rds",
        }
    }

    /// The type whose resources name resources of this one, and stay warming until they get them (xDS protocol,
    /// "Resource warming").
    #[must_use]
    pub const fn parent(self) -> Option<Self> {
        match self {
            Self::Endpoints => Some(Self::Cluster),
            Self::RouteConfiguration => Some(Self::Listener),
            Self::Cluster | Self::Secret | Self::Listener => None,
        }
    }

    /// Whether a response holds all resources of the type, so that one left out is one removed, and a subscription
    /// without names means all (xDS protocol, "How the client specifies what resources to return").
    #[must_use]
    pub const fn is_full_state(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }
}
