//! Messages inside messages, and the small wrappers that protobuf needs.
//!
//! Knows nothing of any one resource.

use crate::policy::Port;
use envoy_types::pb::{
    envoy::config::{
        core::v3::{Address, Metadata, SocketAddress, TypedExtensionConfig, address, socket_address},
        listener::v3::{Filter, filter},
    },
    google::protobuf::{Any, BoolValue, Duration, Struct, UInt32Value, Value, value},
};
use prost::{Message, Name};
use std::{net::SocketAddr, time};

/// The metadata namespace of everything that exeat attaches.
pub(super) const NAMESPACE: &str = "exeat";

pub(super) fn pack<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

pub(super) fn extension<M: Message + Name>(name: &str, message: &M) -> TypedExtensionConfig {
    TypedExtensionConfig { name: name.to_owned(), typed_config: Some(pack(message)) }
}

pub(super) fn network_filter(name: &str, config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) }
}

/// Metadata with one key: a second key would encode in random order.
pub(super) fn metadata(key: &str, text: &str) -> Metadata {
    let text = Value { kind: Some(value::Kind::StringValue(text.to_owned())) };
    let fields = Struct { fields: [(key.to_owned(), text)].into() };
    Metadata { filter_metadata: [(NAMESPACE.to_owned(), fields)].into(), ..Default::default() }
}

#[expect(clippy::unnecessary_wraps, reason = "every such field is optional")]
pub(super) fn yes() -> Option<BoolValue> {
    Some(BoolValue { value: true })
}

pub(super) fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(super) fn duration(value: time::Duration) -> Option<Duration> {
    Some(Duration {
        seconds: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(value.subsec_nanos()).unwrap_or(0),
    })
}

/// A host that is a name or an address, and a port.
pub(super) fn host_address(host: &str, port: Port) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(port.number().into())),
            ..Default::default()
        })),
    }
}

pub(super) fn address(socket: SocketAddr) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: socket.ip().to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(socket.port().into())),
            ..Default::default()
        })),
    }
}
